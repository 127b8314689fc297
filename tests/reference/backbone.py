"""Feature maps of torchvision's and timm's networks on generated weights.

Run:  python tests/reference/backbone.py          (torch 2.15, torchvision 0.29, timm 1.0; about two minutes)
Writes tests/fixtures/backbone/<name>.json, read by tests/tests/all/backbone_parity.rs.

Full-size weights are too large for fixtures, so both sides fill them from one counter-based
generator. Value i of the tensor called `key` (its name in the state dict) starts from

    h = splitmix64(fnv1a64(key) + (i + 1) * 0x9E3779B97F4A7C15)      u = (h >> 40) / 2^24 in [0, 1)

and becomes, computed in f64 and rounded once to f32,

    convolution weight           (2 u - 1) * sqrt(6 / fan_in)         variance 2 / fan_in
    BatchNorm weight, variance   0.5 + u
    "...bn3.weight"              0.25 + u / 2: it ends a residual branch; forty of them in a row
                                 would otherwise multiply the activations by 10^7
    any bias, BatchNorm mean     0.4 * (u - 0.5)
    input "input"                (2 u - 1) * sqrt(3)                  variance 1

The networks run in f64, so that the fixtures hold the truth and not another rounding of it.
A fixture holds, per input and tap: shape, mean, standard deviation, extremes, and 128 values at
positions k * count / 128 (integer division) of the flattened map. networks.json lists the state
dict (up to the last tap), channels and strides of every backbone.
"""

import json
import pathlib

import numpy as np
import timm
import torch
import torchvision

SAMPLES = 128
INPUTS = [(2, 3, 225, 197), (1, 3, 64, 96)]
TORCHVISION = ["resnet18", "resnet50", "wide_resnet50_2"]
TIMM = ["tf_efficientnet_b0", "tf_efficientnet_b6", "tf_efficientnet_lite0"]
OUTPUT = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "backbone"


def fnv1a64(text):
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) % 2**64
    return value


def uniform(key, count):
    """`count` numbers in [0, 1), in f64."""
    with np.errstate(over="ignore"):
        step = np.uint64(0x9E3779B97F4A7C15)
        z = np.uint64(fnv1a64(key)) + np.arange(1, count + 1, dtype=np.uint64) * step
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.float64) / 2.0**24


def filled(key, shape):
    u = uniform(key, int(np.prod(shape)))
    if key == "input":
        values = (2 * u - 1) * np.sqrt(3.0)
    elif len(shape) == 4:
        values = (2 * u - 1) * np.sqrt(6.0 / np.prod(shape[1:]))
    elif key.endswith((".bias", ".running_mean")):
        values = 0.4 * (u - 0.5)
    elif key.endswith("bn3.weight"):
        values = 0.25 + u / 2
    else:
        values = 0.5 + u
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


def fill(model):
    state = model.state_dict()
    for key, value in state.items():
        if not key.endswith("num_batches_tracked"):
            state[key] = filled(key, tuple(value.shape))
    model.load_state_dict(state)
    return model.eval().double()


def taps(name):
    """A function from images to the list of feature maps."""
    if name in TIMM:
        # features_only renames nothing that survives in it: the keys are those of the full model.
        return fill(timm.create_model(name, pretrained=False, features_only=True))
    model = fill(torchvision.models.get_model(name, weights=None))

    def run(x):
        x = model.maxpool(model.relu(model.bn1(model.conv1(x))))
        maps = []
        for layer in (model.layer1, model.layer2, model.layer3, model.layer4):
            x = layer(x)
            maps.append(x)
        return maps

    return run


def describe():
    """State dict, channels and strides of every backbone, without allocating weights."""
    resnets = TORCHVISION + ["resnet34", "resnet101", "resnet152", "wide_resnet101_2"]
    efficientnets = [f"tf_efficientnet_b{i}" for i in range(8)]
    efficientnets += [f"tf_efficientnet_lite{i}" for i in range(5)]
    described = {}
    for name in sorted(resnets + efficientnets):
        with torch.device("meta"):
            if name in resnets:
                model = torchvision.models.get_model(name, weights=None)
                layers = [model.layer1, model.layer2, model.layer3, model.layer4]
                # The last BatchNorm of a stage's last block has the channels of the tap.
                norms = [
                    [module for module in layer[-1].modules() if isinstance(module, torch.nn.BatchNorm2d)]
                    for layer in layers
                ]
                channels = [found[-1].num_features for found in norms]
                strides = [4, 8, 16, 32]
            else:
                model = timm.create_model(name, pretrained=False, features_only=True)
                channels = model.feature_info.channels()
                strides = model.feature_info.reduction()
        tensors = [
            f"{key} {'x'.join(map(str, value.shape))}"
            for key, value in model.state_dict().items()
            if not key.startswith("fc.") and not key.endswith("num_batches_tracked")
        ]
        described[name] = {"channels": channels, "strides": strides, "tensors": tensors}
    return described


def main():
    torch.set_num_threads(2)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    (OUTPUT / "networks.json").write_text(json.dumps(describe(), indent=0) + "\n")
    for name in TORCHVISION + TIMM:
        run = taps(name)
        cases = []
        for shape in INPUTS:
            with torch.no_grad():
                maps = run(filled("input", shape).double())
            found = []
            for tap in maps:
                flat = tap.flatten()
                picks = [k * flat.numel() // SAMPLES for k in range(SAMPLES)]
                found.append(
                    {
                        "shape": list(tap.shape),
                        "mean": flat.mean().item(),
                        "std": flat.std(correction=0).item(),
                        "min": flat.min().item(),
                        "max": flat.max().item(),
                        "samples": [float(f"{v:.8g}") for v in flat[picks].tolist()],
                    }
                )
            print(name, shape, [round(tap["std"], 3) for tap in found])
            cases.append({"input": list(shape), "taps": found})
        text = json.dumps({"name": name, "cases": cases})
        (OUTPUT / f"{name}.json").write_text(text.replace('{"shape"', '\n{"shape"') + "\n")


if __name__ == "__main__":
    main()
