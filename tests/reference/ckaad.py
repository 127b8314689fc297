"""Networks, losses, gradients, training steps, elastic distortion, scores and metrics of CKAAD (Fang et al., AAAI 2025).

Run:   python tests/reference/ckaad.py          (writes tests/fixtures/ckaad/*.json, 0.5 MB, in one to two minutes)
Made with: Python 3.11, torch 2.15, torchvision 0.29, scipy 1.17, scikit-learn 1.9, scikit-image 0.26

The networks and losses are those of ckaad_networks.py, in f64. Parameters are filled under their names by backbone.py's `filled`,
the maps of tap i under "{inputs}.normal.{i}" and "{inputs}.anomalous.{i}" with the rule of 4-D tensors (variance 2 / (C H W)),
then, but for the signed taps of EfficientNets, their absolute value. Images have 64 x 64 pixels, so that the deepest tap is 4 x 4. Normal and anomalous images pass the
generator as one batch, normals first, also where the strategy ignores anomalies (this matters to BatchNorm only). The
discriminator is the filled one, not yet updated; `total` is the generator's whole loss.

In f32 a ReLU that rounding puts on the other side of its kink changes a gradient by 1e-3 to 1e-1 at once. `inputs` were chosen so
that this happens to none (12 trials in f32 with weights disturbed by 2e-7; 8 for resnet50-damped; for lite no input of a leaky ReLU
of a discriminator is closer to 0 than eleven times PyTorch's largest error in f32). Bottleneck networks are too
deep for that, and their latents of 2 x 2 amplify rounding: `wide` and `resnet50` lose 8 % of some gradients. Hence `damped`:
after filling, every "norm3.weight" is multiplied by last_norm; wide-damped then loses 4e-4 to 7e-3.

networks.json: {cases, damped (more cases), training, training_clipped}. A case has
  name, backbone, strides, channels, grids, kind, norm, inputs, last_norm (1 but in `damped`), normal and anomalous (images),
  parameters {generator, patch, image: count of elements}, l_rec_normal, l_rec_anomalous,
  reconstructions [{shape, mean, std (biased), samples: 64 at k * count / 64 of the flattened map}],
  strategies [{strategy, margin, loss_d, loss_g, total, generator and discriminator: {parameter: [Euclidean norm of the gradient,
    4 values of it at k * count / 4]} (null where not recorded)}]; the gradients are of total and of loss_d,
  low_margin (one case): as strategies, with a margin that part of the energies exceed, so that both sides of the hinge count,
  running (BatchNorm): {norm: [4 values of the running mean, 4 of the variance]} after that one forward, from 0 and 1,
  single: how far PyTorch in f32 is from these numbers: reconstructions (largest difference by the standard deviation),
    gradients {strategy: [median, largest] of |g32 - g64| / |g64| of the parameters}.
  training: steps [{loss_d, loss_g, loss_rec, gradient_norm of the discriminator before it is clipped, clipped {parameter: norm
  after that}}] of cka-patch on one batch, each a step of the discriminator, then one of the generator, whose losses are taken
  with the new discriminator; and after them values {parameter: 4 values at k * count / 4}. Its gradients are shorter than 1:
  training_clipped clips them to 0.25 instead.

elastic.json: what torchvision 0.29 does (transforms.v2.ElasticTransform, read in its source, and its output stored here):
  field     dx = blur(2 rand(H, W) - 1) alpha_x / W, then the same for dy with alpha_y / H. The blur's kernel has int(8 sigma + 1)
            taps, one more if that is even, in both directions (dx: of sigma_x, dy: of sigma_y), weights exp(-i^2 / (2 sigma^2))
            normalised to sum 1 (outer product), and reflect padding (the border is not repeated): H, W > taps / 2.
  grid      identity (2 x + 1) / W - 1 plus dx, and (2 y + 1) / H - 1 plus dy; the last axis is (x, y). Hence pixel (y, x) of the
            output reads the input at (y + dy H / 2, x + dx W / 2): the shift is alpha / 2 times the blurred noise, in pixels.
  sampling  grid_sample, align_corners False, padding zeros. With a fill (0 included; only None is none) a mask of ones is
            sampled too and out = (sampled - fill) mask + fill. With fill 0, a pixel whose weights inside the image sum to m is
            thus m * sum(weight * value): the border fades twice. uint8 images are computed in f32 and rounded half to even.
  {images: [{kind, height, width, displacement [H, W, 2], image [3, H, W], output, once (float only: without a fill)}],
  fields: [{alpha, sigma, height, width, taps, noise [2, H, W] (x, y), blurred [2, H, W], field [H, W, 2]}]}

scoring.json: taps, reconstructions -> map before and after the Gaussian; scores: means of the 10, 100 and all greatest pixels.

metrics.json: {labelled: [{scores, labels, auroc, best_f1, highest, lowest}], pro}. Several thresholds can share the best F1
  (within 1e-12): `highest` and `lowest` of them {threshold, accuracy with score >= threshold}.
  pro: each map alone goes through published_pro of benches/pytorch/metrics.py (200 thresholds from its minimum to its maximum,
  FPR < 0.3, area over FPR / its maximum below 0.3); values (null without an anomaly) and their mean.
"""

import importlib.util
import json
import time
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from sklearn.metrics import accuracy_score, precision_recall_curve, roc_auc_score
from torch.nn.functional import cosine_similarity, interpolate
from torchvision.transforms import v2

from backbone import filled, uniform
from ckaad_networks import (LAMBDA, MARGIN, STRATEGIES, Architecture, Generator, adversarial_loss, discriminator,
                            discriminator_loss, reconstruction, values)

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "fixtures" / "ckaad"
SIZE = 64
WIDE = dict(backbone="wide_resnet50_2", strides=[4, 8, 16], images=1)
RESNET50 = dict(backbone="resnet50", strides=[8, 16])
LITE = dict(backbone="tf_efficientnet_lite0", strides=[8, 16], inputs="input.16")
USUAL = ("recon", "cka-patch")
CASES = [
    dict(name="resnet18", backbone="resnet18", strides=[8, 16]),
    dict(name="skipped-level", backbone="resnet18", strides=[4, 16], inputs="input.3"),
    dict(name="wide") | WIDE,
    dict(name="resnet50") | RESNET50,
    dict(name="lite", recorded=STRATEGIES[1:], low_margins={"cka-img": 0.3, "cka-patch": 0.15}) | LITE,
    dict(name="lite-batch-norm", norm="batch") | LITE,
]
DAMPED = [
    dict(name="wide-damped", inputs="input.5", last_norm=0.2) | WIDE,
    dict(name="resnet50-damped", inputs="input.4", last_norm=0.2) | RESNET50,
]
TRACED = ("encoder.taps.0.0.conv.weight", "encoder.latent.0.norm2.weight", "decoder.1.0.conv1.weight")


def rounded(value):
    """Nine digits: below f32's resolution."""
    return float(f"{value:.9g}")


def flat(tensor):
    return [rounded(v) for v in torch.as_tensor(tensor).detach().reshape(-1).tolist()]


def samples(tensor, count):
    tensor = tensor.detach().reshape(-1)
    return flat(tensor[[k * tensor.numel() // count for k in range(count)]])


def fill(module, last_norm=1.0):
    """The running statistics of a BatchNorm keep their initial values."""
    state = module.state_dict()
    for key, value in state.items():
        if key.endswith((".weight", ".bias")):
            state[key] = filled(key, tuple(value.shape)) * (last_norm if key.endswith("norm3.weight") else 1)
    module.load_state_dict(state)
    return module


class Setting:
    """Networks and inputs of a case in one precision."""

    def __init__(self, case, dtype=torch.float64):
        self.dtype = dtype
        self.architecture = Architecture.of(case["backbone"], case["strides"])
        self.images = case.get("images", 2)
        self.grids = [SIZE // stride for stride in self.architecture.strides]
        self.generator = Generator(self.architecture, case.get("norm", "instance"))
        self.generator = fill(self.generator, case.get("last_norm", 1.0)).to(dtype).train()
        self.normal, self.anomalous = (self.inputs(f"{case.get('inputs', 'input')}.{group}") for group in ("normal", "anomalous"))

    def inputs(self, key):
        shapes = [(self.images, c, g, g) for c, g in zip(self.architecture.channels, self.grids)]
        maps = [filled(f"{key}.{i}", shape).to(self.dtype) for i, shape in enumerate(shapes)]
        return maps if self.architecture.signed else [x.abs() for x in maps]

    def discriminator(self, strategy):
        network = discriminator(strategy, self.architecture, self.grids[-1])
        return None if network is None else fill(network).to(self.dtype)

    def reconstruct(self):
        """Of all images, and the losses of the normal and of the anomalous ones."""
        found = self.generator([torch.cat(pair) for pair in zip(self.normal, self.anomalous)])
        return (found, reconstruction(self.normal, [y[: self.images] for y in found]),
                reconstruction(self.anomalous, [y[self.images :] for y in found]))


def gradients(loss, module):
    parameters = dict(module.named_parameters())
    return dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values()), retain_graph=True)))


def losses(setting, strategy, reconstructed, recorded, margin=MARGIN):
    """Numbers of a strategy, and its gradients (generator, discriminator) where they are recorded."""
    found, l_normal, l_anomalous = reconstructed
    network = setting.discriminator(strategy)
    loss_d = loss_g = None
    total = l_normal - LAMBDA * l_anomalous if strategy == "recon-sub" else l_normal
    if network:
        generated = [y.detach() for y in found]
        loss_d = discriminator_loss(strategy, network, setting.normal, setting.anomalous, generated, margin)
        loss_g = adversarial_loss(strategy, network, found)
        total = total + LAMBDA * loss_g
    numbers = dict(strategy=strategy, margin=margin, loss_d=loss_d, loss_g=loss_g, total=total)
    numbers |= {name: rounded(v.item()) for name, v in numbers.items() if torch.is_tensor(v)}
    if not recorded:
        return numbers, {}, {}
    return numbers, gradients(total, setting.generator), gradients(loss_d, network) if network else {}


def deviations(exact, single):
    """Relative errors of the parameters' gradients."""
    return [((single[name].double() - g).norm() / g.norm()).item() for name, g in exact.items()]


def described(found):
    return [dict(shape=list(y.shape), mean=rounded(y.mean().item()), std=rounded(y.std(correction=0).item()),
                 samples=samples(y, 64)) for y in found]


def on_both_sides(setting, strategy, found, margin):
    """The hinge must count for some energies, not for others, and its kink must be far from all."""
    network = setting.discriminator(strategy)
    for group in zip(*(values(network, maps) for maps in (setting.anomalous, found))):
        energies = torch.cat([v.detach().abs().flatten() for v in group])
        assert energies.min() < margin < energies.max() and (energies - margin).abs().min() > 1e-6, strategy


def network_case(case):
    start = time.time()
    recorded = case.get("recorded", USUAL)
    exact, single = Setting(case), Setting(case, torch.float32)
    reconstructed, in_single = exact.reconstruct(), single.reconstruct()
    errors = [((a - b).abs().max() / a.std()).item() for a, b in zip(reconstructed[0], in_single[0])]
    single_errors = {}

    def record(strategy, margin=MARGIN):
        numbers, of_generator, of_discriminator = losses(exact, strategy, reconstructed, strategy in recorded, margin)
        if strategy in recorded and margin == MARGIN:
            _, generator, other = losses(single, strategy, in_single, True)
            relative = deviations(of_generator, generator) + deviations(of_discriminator, other)
            single_errors[strategy] = [rounded(np.median(relative)), rounded(max(relative))]
        return numbers | dict(generator=compact(of_generator), discriminator=compact(of_discriminator))

    def compact(found):
        return {name: [rounded(g.norm().item()), *samples(g, 4)] for name, g in found.items()} or None

    architecture = exact.architecture
    modules = dict(generator=exact.generator, patch=exact.discriminator("cka-patch"), image=exact.discriminator("gan"))
    found = dict(name=case["name"], backbone=case["backbone"], strides=case["strides"], channels=architecture.channels,
                 grids=exact.grids, kind=architecture.kind, norm=case.get("norm", "instance"), inputs=case.get("inputs", "input"),
                 last_norm=case.get("last_norm", 1.0), normal=exact.images, anomalous=exact.images)
    found["parameters"] = {name: sum(p.numel() for p in module.parameters()) for name, module in modules.items()}
    found |= dict(l_rec_normal=rounded(reconstructed[1].item()), l_rec_anomalous=rounded(reconstructed[2].item()),
                  reconstructions=described(reconstructed[0]), strategies=[record(strategy) for strategy in STRATEGIES])
    if low := case.get("low_margins"):
        for strategy, margin in low.items():
            on_both_sides(exact, strategy, reconstructed[0], margin)
        found["low_margin"] = [record(strategy, margin) for strategy, margin in low.items()]
    if case.get("norm") == "batch":
        norms = {name: exact.generator.get_submodule(name) for name in ("encoder.taps.0.0.norm", "decoder.1.0.shortcut.norm")}
        found["running"] = {name: samples(n.running_mean, 4) + samples(n.running_var, 4) for name, n in norms.items()}
    found["single"] = dict(reconstructions=rounded(max(errors)), gradients=single_errors)
    print(f"{case['name']}: {time.time() - start:.1f} s, L_rec {found['l_rec_normal']:.4f}, f32 {found['single']}", flush=True)
    return found


def training(clip):
    """Two steps of cka-patch on one batch."""
    setting = Setting(LITE)
    generator, network = setting.generator, setting.discriminator("cka-patch")
    of_generator = torch.optim.Adam(generator.parameters(), lr=1e-3, betas=(0.5, 0.999))
    of_network = torch.optim.Adam(network.parameters(), lr=1e-4, betas=(0.5, 0.999))
    steps = []
    for _ in range(2):
        found, l_rec, _ = setting.reconstruct()
        network.requires_grad_(True)
        loss_d = discriminator_loss("cka-patch", network, setting.normal, setting.anomalous, [y.detach() for y in found])
        of_network.zero_grad()
        loss_d.backward()
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), clip)
        clipped = {name: rounded(p.grad.norm().item()) for name, p in network.named_parameters()}
        of_network.step()
        network.requires_grad_(False)
        loss_g = adversarial_loss("cka-patch", network, found)
        of_generator.zero_grad()
        (l_rec + LAMBDA * loss_g).backward()
        of_generator.step()
        numbers = dict(loss_d=loss_d, loss_g=loss_g, loss_rec=l_rec, gradient_norm=norm)
        steps.append({name: rounded(value.item()) for name, value in numbers.items()} | dict(clipped=clipped))
    print("training:", steps)
    after = {name: generator.get_parameter(name) for name in TRACED} | dict(network.named_parameters())
    return LITE | dict(learning_rate=1e-3, discriminator_learning_rate=1e-4, clip=clip, betas=[0.5, 0.999], steps=steps,
                       values={name: samples(value, 4) for name, value in after.items()})


def drawn(key, *shape):
    """[0, 1), as f32."""
    return torch.from_numpy(uniform(key, int(np.prod(shape))).astype(np.float32).reshape(shape))


def distorted(kind, height, width, reach):
    """An image under a given field of up to `reach` pixels, different at every pixel."""
    image = drawn(f"elastic.{kind}.image", 3, height, width)
    field = (2 * drawn(f"elastic.{kind}.field", 1, height, width, 2) - 1) * reach * torch.tensor([2 / width, 2 / height])
    case = dict(kind=kind, height=height, width=width, displacement=flat(field))
    if kind == "float":
        image, field = image.double(), field.double()
        return case | dict(image=flat(image), output=flat(v2.functional.elastic(image, field, fill=0)),
                           once=flat(v2.functional.elastic(image, field, fill=None)))
    levels = (image * 256).floor()
    unrounded = v2.functional.elastic(levels.double(), field.double(), fill=0)
    # So far from a half that f32 rounds to the same level.
    assert ((unrounded % 1) - 0.5).abs().min() > 1e-4
    output = v2.functional.elastic(levels.to(torch.uint8), field, fill=0)
    assert torch.equal(output.double(), unrounded.round())
    return case | dict(image=levels.int().flatten().tolist(), output=output.flatten().tolist())


def field(index, alpha, sigma, height, width):
    """Stage by stage in f64, and checked against ElasticTransform itself."""
    taps = int(8 * sigma + 1)
    taps += 1 - taps % 2
    transform = v2.ElasticTransform(alpha, sigma)
    torch.manual_seed(index)
    expected = transform.make_params([torch.zeros(3, height, width)])["displacement"]
    torch.manual_seed(index)
    noise = torch.cat([torch.rand(1, 1, height, width) * 2 - 1 for _ in range(2)]).double()
    blurred = v2.functional.gaussian_blur(noise, [taps, taps], [sigma, sigma])
    made = (blurred[:, 0] * alpha / torch.tensor([width, height]).view(2, 1, 1)).permute(1, 2, 0)
    assert (made - expected[0]).abs().max() < 1e-5 * expected.abs().max()
    print(f"elastic: alpha {alpha}, sigma {sigma}: {taps} taps, deviation {(alpha / 2 * blurred).std():.2f} pixels")
    return dict(alpha=alpha, sigma=sigma, height=height, width=width, taps=taps, noise=flat(noise), blurred=flat(blurred),
                field=flat(made))


def elastic():
    images = [distorted("float", 23, 31, 6), distorted("uint8", 17, 12, 5)]
    # 37 taps: int(8 * 4.4 + 1) is even; 6.6 is cut off, not rounded.
    settings = [(200.0, 5.0, 24, 32), (60.0, 4.4, 21, 19), (40.0, 2.0, 12, 16), (10.0, 0.7, 9, 5)]
    return dict(images=images, fields=[field(i, *setting) for i, setting in enumerate(settings)])


def scoring():
    generator = torch.Generator().manual_seed(11)
    size, images, shapes = 24, 2, [(5, 6), (7, 3)]
    taps = [torch.rand(images, c, g, g, generator=generator).double() for c, g in shapes]
    found = [(t + 0.5 * torch.rand(t.shape, generator=generator)).float().double() for t in taps]
    distances = [1 - cosine_similarity(a, b, dim=1)[:, None] for a, b in zip(taps, found)]
    raw = sum(interpolate(d, size=(size, size), mode="bilinear", align_corners=True)[:, 0] for d in distances)
    maps = np.stack([gaussian_filter(m, sigma=4) for m in raw.numpy()])
    descending = -np.sort(-maps.reshape(images, -1), 1)
    counts = dict(top_10=10, top_100=100, mean=size * size)
    scores = {name: flat(descending[:, :count].mean(1)) for name, count in counts.items()}
    return dict(size=size, images=images, shapes=shapes, taps=[flat(t) for t in taps], reconstructions=[flat(t) for t in found],
                raw=flat(raw), map=flat(maps), scores=scores)


def labelled(count, seed, levels, lift):
    """Scores of a few levels, so that many are equal."""
    labels = uniform(f"metrics.labels.{count}.{seed}", count) < 0.35
    scores = np.floor((uniform(f"metrics.scores.{count}.{seed}", count) + lift * labels) * levels) / levels
    precision, recall, thresholds = precision_recall_curve(labels, scores)
    f1 = (2 * precision * recall / np.maximum(precision + recall, 1e-300))[:-1]
    best = thresholds[f1 >= f1.max() - 1e-12]
    ends = {name: dict(threshold=rounded(t), accuracy=rounded(accuracy_score(labels, scores >= t)))
            for name, t in (("highest", best.max()), ("lowest", best.min()))}
    assert len(np.unique(scores)) < count
    print(f"metrics: {count} scores, {len(best)} thresholds share the best F1")
    return dict(scores=flat(scores), labels=labels.astype(int).tolist(), auroc=rounded(roc_auc_score(labels, scores)),
                best_f1=rounded(f1.max())) | ends


def published():
    """benches/pytorch/metrics.py, by its path: the name is taken here."""
    spec = importlib.util.spec_from_file_location("published", ROOT.parent / "benches" / "pytorch" / "metrics.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.published_pro


def pro():
    """Four anomalous maps, one of them with regions that touch at a corner, and a normal one."""
    count, side, pro_of = 5, 16, published()
    blocks = uniform("metrics.masks", count * 16).reshape(count, 4, 4) < 0.3
    masks = blocks.repeat(4, 1).repeat(4, 2)
    masks[3], masks[4] = False, False
    masks[3, 2:5, 2:5], masks[3, 5:9, 5:7], masks[3, 12, 1] = True, True, True
    scores = (uniform("metrics.maps", masks.size).reshape(masks.shape) + 0.375 * masks).astype(np.float32)
    for image in scores:
        low, high = float(image.min()), float(image.max())
        thresholds = low + np.arange(1, 200) * (high - low) / 200
        # Far enough for any arithmetic to agree on the side.
        assert np.abs(image.ravel()[:, None] - thresholds).min() > 1e-7
    found = [rounded(pro_of(s[None], m[None], 0.3, 200)) if m.any() else None for s, m in zip(scores, masks)]
    print("metrics: PRO", found)
    return dict(side=side, scores=flat(scores), masks=["".join("01"[int(p)] for p in m.ravel()) for m in masks], values=found,
                mean=rounded(np.mean([v for v in found if v is not None])))


def metrics():
    # Two thresholds share the best F1 in the first two.
    return dict(labelled=[labelled(7, 36, 6, 0.5), labelled(40, 5, 10, 0.4), labelled(200, 0, 32, 0.3)], pro=pro())


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    networks = dict(cases=[network_case(case) for case in CASES], damped=[network_case(case) for case in DAMPED],
                    training=training(1.0), training_clipped=training(0.25))
    for name, content in (("networks", networks), ("elastic", elastic()), ("scoring", scoring()), ("metrics", metrics())):
        path = OUT / f"{name}.json"
        path.write_text(json.dumps(content, separators=(",", ":")) + "\n")
        print(path.name, path.stat().st_size, "bytes")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
