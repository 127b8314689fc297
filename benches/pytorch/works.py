"""What compare.py runs in PyTorch: for each work of `burn-ad bench`, one or more ways that people write it.

The first way is eager PyTorch as users run it ("eager"); the others are faster ways of the same ("best").
"""

import math

import torch

import ckaad_step
import flow_step
import igd_step
import metrics
import networks


def ways(parameters, device):
    """{name of the way: function without arguments} for the parameters that `burn-ad bench` reports; {} where there is none."""
    make = {"features": features, "flow-step": train_flow, "conv-step": train_convolutions,
            "ckaad-step": train_ckaad, "igd-step": train_igd, "nearest": nearest, "mahalanobis": mahalanobis, "aupro": aupro,
            "pixel-metrics": pixel_metrics}.get(parameters["kind"])
    return make(parameters, device) if make else {}


def target(parameters):
    """The ratio that is aimed at, PyTorch's time by ours; None where there is none."""
    match parameters["kind"]:
        case "features":
            return {"resnet18": 2.3, "wide_resnet50_2": 2.0, "tf_efficientnet_lite0": 2.5,
                    "tf_efficientnet_b6": 2.0}.get(parameters["backbone"])
        case kind:
            return {"flow-step": 1.6, "conv-step": 1.5, "ckaad-step": 1.3, "igd-step": 1.3, "nearest": 3.0,
                    "mahalanobis": 1.4, "aupro": 100.0}.get(kind)


def features(parameters, device):
    name, batch, size = (parameters[key] for key in ("backbone", "batch", "size"))
    images = torch.randn(batch, 3, size, size, device=device)
    eager, best = networks.features(name).to(device), networks.folded(name).to(device)
    last = images.to(memory_format=torch.channels_last)

    def run(network, images):
        with torch.inference_mode():
            return network(images)

    return {"eager": lambda: run(eager, images), "folded, channels-last": lambda: run(best, last)}


def train_flow(parameters, device):
    vectors, channels, side = (parameters[key] for key in ("vectors", "channels", "side"))
    stack = flow_step.flow(channels).to(device)
    optimiser = torch.optim.Adam([p for p in stack.parameters() if p.requires_grad], lr=2e-4)
    x = torch.randn(vectors, channels, device=device)
    # As the published loop has it: a code for every vector, made before the step.
    code = flow_step.position_code(side).to(device)[torch.randint(side * side, (vectors,), device=device)]
    return {"eager": lambda: flow_step.step(stack, optimiser, x, code)}


def train_convolutions(parameters, device):
    batch, size = parameters["batch"], parameters["size"]

    def way(memory_format):
        network = networks.trainable_resnet18().to(device).to(memory_format=memory_format)
        images = torch.randn(batch, 3, size, size, device=device).to(memory_format=memory_format)

        def run():
            network.zero_grad()
            network(images).square().mean().backward()

        return run

    return {"eager": way(torch.contiguous_format), "channels-last": way(torch.channels_last)}


def train_ckaad(parameters, device):
    return in_both_formats(ckaad_step.Step, parameters, device)


def train_igd(parameters, device):
    return in_both_formats(igd_step.Step, parameters, device)


def in_both_formats(step, parameters, device):
    formats = {"eager": torch.contiguous_format, "channels-last": torch.channels_last}
    return {name: step(parameters, device, memory_format).run for name, memory_format in formats.items()}


def nearest(parameters, device):
    queries = torch.rand(parameters["queries"], parameters["width"], device=device) * 2 - 1
    bank = torch.rand(parameters["bank"], parameters["width"], device=device) * 2 - 1

    @torch.inference_mode()
    def by_cdist():
        return torch.cdist(queries, bank).min(1)

    @torch.inference_mode()
    def by_product():
        norms = bank.square().sum(1)
        half = 0.5 * norms - queries @ bank.T
        value, index = half.min(1)
        return (2 * value + queries.square().sum(1)).clamp_min(0).sqrt(), index

    return {"eager": by_cdist, "matrix product": by_product}


def mahalanobis(parameters, device):
    positions, width = parameters["side"] ** 2, parameters["width"]
    features = torch.rand(1, positions, width, device=device) * 2 - 1
    means = torch.rand(positions, width, device=device) * 2 - 1
    factors = torch.tril(torch.rand(positions, width, width, device=device) * 2 - 1)
    inverses = factors.transpose(1, 2) @ factors
    whitening = factors.transpose(1, 2).contiguous()
    del factors

    @torch.inference_mode()
    def by_inverse():  # the product that anomalib's PaDiM computes
        delta = (features - means).permute(1, 0, 2)
        return (torch.matmul(delta, inverses) * delta).sum(2).permute(1, 0).clamp(0).sqrt()

    @torch.inference_mode()
    def by_whitening():
        delta = (features - means).permute(1, 0, 2)
        return torch.matmul(delta, whitening).square().sum(2).permute(1, 0).sqrt()

    difference = (by_inverse() - by_whitening()).abs().max() / by_whitening().max()
    assert difference < 1e-3, f"the two distances differ by {difference:.1e}"
    return {"eager": by_inverse, "whitening": by_whitening}


def aupro(parameters, device):
    scores, masks = metrics.generate(parameters["maps"], parameters["size"])
    return {"published loop": lambda: metrics.published_pro(scores, masks, 0.3, 200)}


def pixel_metrics(parameters, device):
    scores, masks = metrics.generate(parameters["maps"], parameters["size"])
    flat, truth = scores.ravel(), masks.ravel()

    def run():
        values = metrics.curves(truth, flat), metrics.published_pro(scores, masks, 0.3, 200)
        assert all(math.isfinite(value) for value in (*values[0], values[1]))

    return {"scikit-learn, published loop": run}
