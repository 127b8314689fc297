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
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

import igd_small

OUT = Path(__file__).resolve().parent.parent / "fixtures" / "igd"
MADE = dict(ssim=igd_small.similarity, estep=igd_small.e_steps, ntxent=igd_small.nt_xent)


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
