"""Losses, gradients, scores and optimiser of HGAD on given flow outputs.

Run:   python tests/reference/hgad.py          (writes tests/fixtures/hgad/*.json, about 290 KB)
Made with: Python 3.11, torch 2.15, scipy 1.17

Written from the formulas (Yao et al., ECCV 2024, eqs 6-11 and appendix E, published defaults), with torch's autograd, in f64. Every
[N, Y, M, C] difference is written out here; an implementation need not.

  inputs  z [N, C] and J [N] (f32 values), the class of each vector; mu [Y, C], delta [Y, M-1, C], phi_inter [Y], phi_intra [Y, M]
  a_y  = -||z - mu_y||^2 / 2,   c = log softmax(phi_inter)
  L_g  = mean[-logsumexp_y(a_y + c_y) - J] / C
  L_mi = mean sum_y t_y (log softmax_y(a + c') - c'_y),   c' = c without gradient, t = (1 - 0.02) onehot + 0.02 / Y
  L_e  = mean entropy of softmax(a)
  q    = logsumexp_i(-||z - (mu'_y + delta_i)||^2 / 2 + log softmax(phi_intra_y)_i) + J,   y the vector's class, delta_0 = 0, mu' = mu
         without gradient;   L_in = mean[-q] / C,   l = (q - C ln(2 pi) / 2) / C,   L_z = mean[-log sigmoid(l)]
  total = lambda_g L_g - lambda_mi L_mi + lambda_e L_e,  in the phase `all` + L_in + L_z

losses.json: [{name, channels, classes, centres, z, log_det, labels, mu, delta, phi_inter, phi_intra, likelihoods [N, Y] (l of every class),
entropies [N], phases [{phase, lambda_g, lambda_mi, lambda_e, l_g, l_mi, l_e, l_in, l_z, total, gradients {z, log_det, mu, delta,
phi_inter, phi_intra}}]}].
scores.json: per level maps of l and of entropies of a few images -> anomaly map and score, maxima taken over these images.
adam.json: torch.optim.Adam, betas (0.95, 0.99), with weight decay 1e-4 and 0: parameters (f32) after each step.
centres.json: initial mu for some sizes.
"""

import json
import math
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch.nn.functional import interpolate, log_softmax, logsigmoid

OUT = Path(__file__).resolve().parent.parent / "fixtures" / "hgad"
SMOOTHING = 0.02
PARAMETERS = ("z", "log_det", "mu", "delta", "phi_inter", "phi_intra")


def rounded(value):
    """Nine digits: below f32's resolution."""
    return float(f"{value:.9g}")


def flat(tensor):
    return [rounded(v) for v in tensor.detach().reshape(-1).tolist()]


def squares(z, centres):
    """||z - centre||^2, [N, centres]."""
    return ((z[:, None, :] - centres[None, :, :]) ** 2).sum(-1)


def intra_centres(t, y, stop):
    main = t["mu"][y : y + 1]
    main = main.detach() if stop else main
    return torch.cat([main, main + t["delta"][y]])


def intra(t, y, stop):
    """q of every vector under the mixture of class y."""
    logits = -squares(t["z"], intra_centres(t, y, stop)) / 2 + log_softmax(t["phi_intra"][y], 0)
    return torch.logsumexp(logits, 1) + t["log_det"]


def per_dimension(q, channels):
    return (q - channels / 2 * math.log(2 * math.pi)) / channels


def terms(t, labels):
    count, channels = t["z"].shape
    classes = t["mu"].shape[0]
    a = -squares(t["z"], t["mu"]) / 2
    c = log_softmax(t["phi_inter"], 0)
    l_g = (-torch.logsumexp(a + c, 1) - t["log_det"]).mean() / channels
    onehot = torch.zeros(count, classes, dtype=torch.float64)
    onehot[torch.arange(count), labels] = 1
    onehot = (1 - SMOOTHING) * onehot + SMOOTHING / classes
    held = c.detach()
    l_mi = (onehot * (log_softmax(a + held, 1) - held)).sum(1).mean()
    log_p = log_softmax(a, 1)
    l_e = -(log_p.exp() * log_p).sum(1).mean()
    q = torch.stack([intra(t, y, True) for y in range(classes)], 1)[torch.arange(count), labels]
    l_in = (-q).mean() / channels
    l_z = -logsigmoid(per_dimension(q, channels)).mean()
    return dict(l_g=l_g, l_mi=l_mi, l_e=l_e, l_in=l_in, l_z=l_z)


def evaluate(values, labels, phase, lambdas):
    t = {name: values[name].clone().requires_grad_(True) for name in PARAMETERS}
    found = terms(t, labels)
    total = lambdas[0] * found["l_g"] - lambdas[1] * found["l_mi"] + lambdas[2] * found["l_e"]
    if phase == "all":
        total = total + found["l_in"] + found["l_z"]
    total.backward()
    gradients = {name: flat(torch.zeros_like(t[name]) if t[name].grad is None else t[name].grad) for name in PARAMETERS}
    numbers = {name: rounded(value.item()) for name, value in found.items()}
    return dict(phase=phase, lambda_g=lambdas[0], lambda_mi=lambdas[1], lambda_e=lambdas[2]) | numbers | dict(
        total=rounded(total.item()), gradients=gradients)


def case(name, generator, count, channels, classes, centres, spread=1.0, order="runs"):
    def draw(*shape, scale=1.0):
        return (scale * torch.randn(*shape, generator=generator)).float().double()

    labels = torch.arange(count) * classes // count
    if order == "mixed":
        labels = labels[torch.randperm(count, generator=generator)]
    mu = draw(classes, channels)
    values = dict(mu=mu, delta=draw(classes, centres - 1, channels), phi_inter=draw(classes, scale=0.7),
                  phi_intra=draw(classes, centres, scale=0.7), log_det=draw(count, scale=3.0))
    # Near their class, so that no probability is 0 or 1 everywhere.
    values["z"] = (spread * (0.6 * mu[labels] + draw(count, channels))).float().double()
    settings = [("inter", (1.0, 100.0, 1.0)), ("all", (1.0, 100.0, 1.0))]
    if name == "ordinary":
        settings += [("inter", (1.0, 0.0, 0.0)), ("inter", (0.5, 3.0, 0.0)), ("all", (1.0, 0.0, 2.0))]
    phases = [evaluate(values, labels, *s) for s in settings]
    likelihoods = torch.stack([per_dimension(intra(values, y, True), channels) for y in range(classes)], 1)
    log_p = log_softmax(-squares(values["z"], values["mu"]) / 2, 1)
    inputs = {name: flat(values[name]) for name in PARAMETERS}
    print(name, [(p["phase"], round(p["total"], 4)) for p in phases])
    return dict(name=name, channels=channels, classes=classes, centres=centres, labels=labels.tolist(), likelihoods=flat(likelihoods),
                entropies=flat(-(log_p.exp() * log_p).sum(1)), phases=phases) | inputs


def losses():
    generator = torch.Generator().manual_seed(5)
    return [
        case("ordinary", generator, 40, 6, 3, 4),
        case("mixed-order", generator, 30, 5, 4, 3, order="mixed"),
        case("one-class", generator, 20, 5, 1, 4),
        case("one-centre", generator, 20, 4, 3, 1),
        # Squared distances of ten thousands: the exponentials would be 0.
        case("far", generator, 24, 16, 3, 5, spread=60.0),
        case("wide", generator, 48, 32, 10, 10),
    ]


def anomaly_map(levels, size):
    """Log-probabilities [images, h, w] a level -> the conversion of flow levels, maxima over the images."""
    total = 0
    for level in levels:
        relative = torch.exp(level - level.max())[:, None]
        total = total + interpolate(relative, size=(size, size), mode="bilinear", align_corners=True)[:, 0]
    return total.max() - total


def scores():
    generator = torch.Generator().manual_seed(6)
    size, images, grids = 24, 3, [(6, 6), (3, 3), (2, 2)]
    likelihoods = [-1.5 + 0.5 * torch.randn(images, h, w, generator=generator).double() for h, w in grids]
    entropies = [torch.rand(images, h, w, generator=generator).double() for h, w in grids]
    maps = [anomaly_map(levels, size).numpy() for levels in (likelihoods, [-e for e in entropies])]
    maps = [np.stack([gaussian_filter(m, sigma=4) for m in group]) for group in maps]
    product = maps[0] * maps[1]
    return dict(size=size, images=images, grids=grids, likelihoods=[flat(x) for x in likelihoods], entropies=[flat(x) for x in entropies],
                map=flat(torch.from_numpy(product)), scores=flat(torch.from_numpy(product.reshape(images, -1).max(1))))


def adam():
    generator = torch.Generator().manual_seed(7)
    runs = []
    for decay in (1e-4, 0.0):
        parameter = torch.randn(12, generator=generator).requires_grad_(True)
        start = parameter.detach().tolist()
        optimiser = torch.optim.Adam([parameter], lr=1e-3, betas=(0.95, 0.99), weight_decay=decay)
        steps = []
        for step in range(12):
            optimiser.param_groups[0]["lr"] = 1e-3 * (1 + step % 3)
            # From 1e-9 (near epsilon) to 10.
            gradient = torch.randn(12, generator=generator) * torch.logspace(-9, 1, 12)
            parameter.grad = gradient
            optimiser.step()
            steps.append(dict(learning_rate=optimiser.param_groups[0]["lr"], gradient=gradient.tolist(), values=parameter.detach().tolist()))
        runs.append(dict(weight_decay=decay, start=start, steps=steps))
    return runs


def initial_centres(classes, channels):
    """A tiled identity: blocks of `classes` channels, one channel of a block a class."""
    scale = 5 / math.sqrt(2 * channels // classes)
    mu = torch.zeros(classes, channels)
    for block in range(channels // classes):
        mu[:, block * classes : (block + 1) * classes] = scale * torch.eye(classes)
    return mu


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    centres = [dict(classes=y, channels=c, mu=flat(initial_centres(y, c))) for y, c in ((3, 10), (1, 4), (5, 5), (4, 6))]
    for name, content in (("losses", losses()), ("scores", scores()), ("adam", adam()), ("centres", centres)):
        path = OUT / f"{name}.json"
        path.write_text(json.dumps(content, separators=(",", ":")) + "\n")
        print(path.name, path.stat().st_size, "bytes")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
