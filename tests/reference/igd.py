"""IGD (Chen et al., AAAI 2022): MS-SSIM, networks, losses, gradients, training steps, E-step, scores and NT-Xent.

Run:   python tests/reference/igd.py [NAME ...]       (writes tests/fixtures/igd/; the names are those of the files)
Made with: Python 3.11, torch 2.15, pytorch-msssim 1.0.0, safetensors 0.8

Networks, losses and MS-SSIM are those of igd_networks.py. Everything is computed in f64 from inputs on f32's grid and stored as
f32. Tensors are row-major, images [B, C, H, W]; `single` says how far PyTorch in f32 is from the numbers stored.

ssim.json, ssim.safetensors: cases [{name, shape [B, C, H, W] of x and y, window, sigma, weights (as many as scales), range,
  similarity [B] (MS-SSIM), ssim [B] (one scale, not rectified), zero_terms (how many of scale x image x channel are not positive: their
  image's channel has value and gradient 0), norm and largest_gradient of the gradient (of the sum of similarity, by y),
  ssim_norm, largest_ssim_gradient (of the sum of ssim, by y), maps,
  package {whole: the package accepts the size; else its parts in the same loop; and the largest differences from the package in f64, whose
    window is rounded to f32: similarity, gradient (by largest_gradient), ssim, ssim_gradient}, single {similarity, gradient}}].
  Tensors "{name}.x", ".y", ".gradient" [B, C, H, W]; where maps is true also ".ssim_gradient" and ".map.{scale}" [B, C, h, w], the SSIM
  maps. Where stored is false (published), x and y are not there but x = L u("ssim.published.x") - 2.1179, r = the same with
  "ssim.published.y", y = 0.75 x + 0.25 r, with backbone.py's `uniform` in f64 and x, r and y rounded to f32; gradient is 1024 values of
  it at k * count / 1024.

estep.json: cases [{name, width, batches [{count, z [count * width]}], mean, centre, scale}]; moved {mean, centre}.

ntxent.json: cases [{pairs N, width, temperature, z [2 N * width]: rows i and i + N are the views of an image, not normalised, loss (mean
  over 2 N rows), gradient by z}].

scoring.json, scoring.safetensors: one image x [1, 3, 64, 64], its reconstruction x_hat, and reconstructions `patches` [9, 3, 32, 32] of its
  patches (stride 16, row by row). whole and local {window, weights, scale (s), distance(s) ||z - c||^2, reconstruction L_r, gaussian L_h
  (local: one per patch)}; scores {published, paper, validation: {whole and local: weights of L_r and L_h, image, patches: greatest
  weighted sum, best: which patch, score: mean or sum (`joined`) of both}}. Pixel maps: a channel's map is
  (1 - rho) sum_scales weight * nearest(1 - relu(SSIM map)) + rho |x - x_hat| / range, rectified; then the channels are weighted by `grey`.
  map_whole [64, 64]; map_patches [9, 32, 32]; map_local: their sum divided by how many overlap; map: the mean of map_whole and map_local.

networks.json: cases [{side, features (null, or the width of a frozen backbone's vectors), width, decoder_width, latent, generator and
  critic {name: shape}, published {generator, critic}: parameters at width, decoder_width 64 and latent 128}].

step_local, step_global (.json, .safetensors): a generator and a critic of few channels on 32 x 32 and 64 x 64 pixels. They were fitted
  to the images a little, since MS-SSIM of unrelated images is 0; then biases of norms, and of the decoder's last convolution, were moved
  until no input of a ReLU and no x - x^ of the first step is closer to 0 than `margin` times the standard deviation of its layer, so
  that rounding puts none on the other side of the kink. In all, `generator.` and `critic.` stand before burn-ad's names and shapes
  (those of layer norms: [height * width * channels]).
  Tensors, initial: generator.*, critic.*, but not those listed under `filled` {name: {key, shape, scale}}: value = scale (2 u - 1) with
    u = uniform(key). x [B, 3, S, S], centre [Z], alpha.0, zeta.0 (first step), alpha.1, zeta.1 (second step) [B].
    The second step's images are x mirrored from left to right.
  train.{z, x_hat, x_a, critic, critic_real}: z [B, Z], x^, x_a, and the critic's values [B] for x_a and for zeta x + (1 - zeta) x^, in train
    mode with the initial tensors. eval.{z, x_hat, x_a}: the same in eval mode. Images named "*.samples" are 1024 values, at k * count / 1024.
  gradient.*: of losses.total for the generator, of losses.interpolated + losses.real for the critic; not those in `zero`: a norm takes
    such a bias away again, and what f64 has is noise. The same noise, and Adam, move these biases anywhere within a learning rate per step, and
  running means behind them by a tenth of that.
  after.*: parameters and running statistics after both steps. Of tensors with more than 65536 values, gradient.* and after.* have the
    first `rows` only.
  frozen.*: the same decoder and critic with frozen.vectors [B, F] for an encoder: frozen.generator.head.*, frozen.train.*,
    frozen.gradient.generator.*.
  JSON: side, width, decoder_width, latent, batch, features, window, sigma, weights, range, rho, regulariser (its factor), scale (s), margin,
    filled, rows, zero, learning_rate, betas, epsilon, weight_decay (of the generator);
    losses {gaussian L_h, reconstruction L_r, regulariser mean d(x_a)^2, total, interpolated and real (the critic's), similarity [B]};
    gradients {name: [Euclidean norm of all of it, error of f32: norm of the difference by that norm (by the largest norm where it is 0)]};
    steps [{the losses, epoch, epochs, power, factor (1 - epoch / epochs)^power of both learning rates}]: epochs 0 and 64 of 256;
    after {name: [largest change by both steps, largest and mean error of f32]}: Adam's first step has the length of the learning rate
      in every element, and where f32 does not know the sign of a gradient, the error is twice that;
    single {train, eval: {output: largest error of f32}}; frozen {losses, zero, gradients (with the critic's)};
    ablations [{strategy, loss, gradients}]: mse (mean squared error), rec (L_r), rec-gac (L_h + L_r), dsvdd (mean d2), dsvdd-rec
      (mean d2 + L_r), of the first batch in train mode.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

import igd_small
import igd_steps

OUT = Path(__file__).resolve().parent.parent / "fixtures" / "igd"
MADE = dict(ssim=igd_small.similarity, estep=igd_small.e_steps, ntxent=igd_small.nt_xent, scoring=igd_small.scoring, networks=igd_steps.shapes,
            step_local=lambda: igd_steps.step_fixture("local"), step_global=lambda: igd_steps.step_fixture("global"))


def write(name, content):
    """JSON, and safetensors where the content is a pair of both."""
    facts, tensors = content if isinstance(content, tuple) else (content, {})
    paths = [OUT / f"{name}.json"]
    paths[0].write_text(json.dumps(facts, separators=(",", ":")) + "\n")
    if tensors:
        paths.append(OUT / f"{name}.safetensors")
        save_file({key: value.detach().float().contiguous().clone() for key, value in tensors.items()}, paths[1])
    for path in paths:
        print(path.name, path.stat().st_size, "bytes", flush=True)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or MADE:
        write(name, MADE[name]())


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
