"""Networks and losses of CKAAD (Fang et al., AAAI 2025), written from the description; no convolution has a bias.

Imported by ckaad.py and by benches/pytorch/ckaad_step.py; needs torch only. Maps are [B, C, H, W], shallow first.
The names of the state dicts are those of burn-ad:
  Generator        encoder.taps.{tap}.{step}.{conv,norm}, encoder.latent.{block}, decoder.{stage, deepest first}.{block};
                   a block: {conv,norm}{1,2[,3]} and shortcut.{conv,norm}
  discriminator()  patch.{tap}.{0,1,2}.weight, or image.taps.{tap}.{step}, image.body.{step}, image.{last,hidden,out}
"""

from dataclasses import dataclass
from math import log2

import torch
from torch import nn
from torch.nn.functional import instance_norm, leaky_relu, normalize, relu, softplus

RESNET_STRIDES, LITE_STRIDES = (4, 8, 16, 32), (2, 4, 8, 16, 32)
BASIC, WIDE = (64, 128, 256, 512), (256, 512, 1024, 2048)
# Kind, width of the middle convolution, strides and channels of the levels, blocks of the latent and of stages (deepest first).
BACKBONES = {
    "resnet18": ("basic", 1, RESNET_STRIDES, BASIC, 2, (2, 2, 2, 2)),
    "resnet50": ("bottleneck", 1, RESNET_STRIDES, WIDE, 3, (3, 4, 6, 3)),
    "wide_resnet50_2": ("bottleneck", 2, RESNET_STRIDES, WIDE, 3, (3, 4, 6, 3)),
    "tf_efficientnet_lite0": ("basic", 1, LITE_STRIDES, (16, 24, 40, 112, 320), 2, (2, 2, 2, 2)),
}
STRATEGIES = ("recon", "recon-sub", "gan", "cka-img", "cka-patch")
SLOPE = 0.1
MARGIN, GAMMA, LAMBDA = 5.0, 0.5, 0.02


@dataclass
class Architecture:
    """What the networks need to know of a backbone and its taps."""

    kind: str
    width: int
    strides: tuple  # of the taps
    channels: tuple  # of the taps
    levels: list  # (stride, channels) from the deepest tap to the shallowest, levels that are no tap included
    latent_blocks: int
    stage_blocks: tuple
    signed: bool  # the taps of an EfficientNet are not rectified

    @classmethod
    def of(cls, backbone, strides):
        kind, width, every, channels, latent_blocks, stage_blocks = BACKBONES[backbone]
        widths = dict(zip(every, channels))
        levels = [(s, widths[s]) for s in reversed(every) if strides[0] <= s <= strides[-1]]
        return cls(kind, width, tuple(strides), tuple(widths[s] for s in strides), levels, latent_blocks, stage_blocks,
                   "efficientnet" in backbone)

    def steps(self, tap):
        """Halvings from this tap to the grid of the deepest."""
        return int(log2(self.strides[-1] // self.strides[tap]))


def norm_of(kind, channels):
    return nn.BatchNorm2d(channels) if kind == "batch" else nn.InstanceNorm2d(channels, eps=1e-5, affine=True)


class Normed(nn.Module):
    """A convolution and its norm."""

    def __init__(self, conv, norm):
        super().__init__()
        self.conv, self.norm = conv, norm_of(norm, conv.out_channels)

    def forward(self, x):
        return self.norm(self.conv(x))


class Block(nn.Module):
    """A residual block. `change` is "down" (stride 2), "up" (a transposed 2x2 convolution with stride 2) or None; what a `signed` one
    gives is not rectified."""

    def __init__(self, architecture, norm, inputs, outputs, change=None, signed=False):
        super().__init__()
        self.signed = signed
        down = 2 if change == "down" else 1

        def spatial(inputs, outputs):
            if change == "up":
                return nn.ConvTranspose2d(inputs, outputs, 2, stride=2, bias=False)
            return nn.Conv2d(inputs, outputs, 3, stride=down, padding=1, bias=False)

        if architecture.kind == "basic":
            convs = [spatial(inputs, outputs), nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)]
        else:
            middle = outputs // 4 * architecture.width
            convs = [nn.Conv2d(inputs, middle, 1, bias=False), spatial(middle, middle), nn.Conv2d(middle, outputs, 1, bias=False)]
        self.count = len(convs)
        for i, conv in enumerate(convs, 1):
            setattr(self, f"conv{i}", conv)
            setattr(self, f"norm{i}", norm_of(norm, conv.out_channels))
        if change == "up":
            self.shortcut = Normed(nn.ConvTranspose2d(inputs, outputs, 2, stride=2, bias=False), norm)
        elif change == "down" or inputs != outputs:
            self.shortcut = Normed(nn.Conv2d(inputs, outputs, 1, stride=down, bias=False), norm)
        else:
            self.shortcut = None

    def forward(self, x):
        y = x
        for i in range(1, self.count + 1):
            y = getattr(self, f"norm{i}")(getattr(self, f"conv{i}")(y))
            if i < self.count:
                y = relu(y)
        y = y + (x if self.shortcut is None else self.shortcut(x))
        return y if self.signed else relu(y)


def stage(architecture, norm, inputs, outputs, blocks, change, signed=False):
    """Its first block changes grid and channels, its last is signed where the stage is."""
    first = Block(architecture, norm, inputs, outputs, change, signed and blocks == 1)
    others = (Block(architecture, norm, outputs, outputs, signed=signed and i == blocks - 1) for i in range(1, blocks))
    return nn.Sequential(first, *others)


def halving(inputs, outputs):
    return nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)


class Encoder(nn.Module):
    def __init__(self, architecture, norm):
        super().__init__()
        self.taps = nn.ModuleList()
        joined = 0
        for tap, channels in enumerate(architecture.channels):
            steps = architecture.steps(tap)
            self.taps.append(nn.ModuleList(Normed(halving(channels << j, channels << j + 1), norm) for j in range(steps)))
            joined += channels << steps
        deepest = architecture.channels[-1]
        self.latent = stage(architecture, norm, joined, 2 * deepest, architecture.latent_blocks, "down")

    def forward(self, maps):
        small = []
        for x, steps in zip(maps, self.taps):
            for step in steps:
                x = relu(step(x))
            small.append(x)
        return self.latent(torch.cat(small, 1))


class Generator(nn.Module):
    """Auto-encoder of feature maps: the maps of the taps in, their reconstructions out."""

    def __init__(self, architecture, norm="instance"):
        super().__init__()
        self.encoder = Encoder(architecture, norm)
        self.decoder = nn.ModuleList()
        self.reconstructed = [stride in architecture.strides for stride, _ in architecture.levels]
        before = 2 * architecture.channels[-1]
        for (_, channels), blocks in zip(architecture.levels, architecture.stage_blocks):
            self.decoder.append(stage(architecture, norm, before, channels, blocks, "up", architecture.signed))
            before = channels

    def forward(self, maps):
        x, found = self.encoder(maps), []
        for part, kept in zip(self.decoder, self.reconstructed):
            x = part(x)
            if kept:
                found.append(x)
        return found[::-1]


class PatchDiscriminators(nn.ModuleList):
    """Values of every position, one map per tap."""

    def __init__(self, architecture):
        widths = [(c, (c, c, 1)) for c in architecture.channels]
        super().__init__(nn.ModuleList(nn.Conv2d(c, o, 1, bias=False) for o in outputs) for c, outputs in widths)

    def forward(self, maps):
        values = []
        for x, (first, second, last) in zip(maps, self):
            x = leaky_relu(first(normalize(x, dim=1, eps=1e-12)), SLOPE)
            values.append(last(leaky_relu(second(x), SLOPE)))
        return values


class ImageDiscriminator(nn.Module):
    """One value per image, in a list of one. `grid` is the side of the deepest tap, a power of two."""

    def __init__(self, architecture, grid):
        super().__init__()
        self.taps = nn.ModuleList()
        joined = 0
        for tap, channels in enumerate(architecture.channels):
            steps = architecture.steps(tap)
            self.taps.append(nn.ModuleList(halving(channels << j, channels << j + 1) for j in range(steps)))
            joined += channels << steps
        width = 2 * architecture.channels[-1]
        body = int(log2(grid)) - 1
        self.body = nn.ModuleList(halving(joined if j == 0 else width, width) for j in range(body))
        self.last = nn.Conv2d(width if body else joined, width, 2, bias=False)
        self.hidden = nn.Conv2d(width, width // 4, 1, bias=False)
        self.out = nn.Conv2d(width // 4, 1, 1, bias=False)

    def forward(self, maps):
        small = []
        for x, steps in zip(maps, self.taps):
            small.append(self.reduced(x, steps))
        x = self.hidden(self.last(self.reduced(torch.cat(small, 1), self.body)))
        centred = x - x.mean(1, keepdim=True)
        x = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
        return [self.out(leaky_relu(x, SLOPE))]

    @staticmethod
    def reduced(x, steps):
        for step in steps:
            x = leaky_relu(instance_norm(step(x), eps=1e-5), SLOPE)
        return x


def discriminator(strategy, architecture, grid):
    """With its prefix in the state dict; None where the strategy has none."""
    if strategy in ("recon", "recon-sub"):
        return None
    if strategy == "cka-patch":
        return nn.ModuleDict({"patch": PatchDiscriminators(architecture)})
    return nn.ModuleDict({"image": ImageDiscriminator(architecture, grid)})


def values(network, maps):
    """Raw values of a discriminator: a list with a tensor per tap (patches) or one (images)."""
    (found,) = (part(maps) for part in network.values())
    return found


def mean_sum(tensors, function=lambda x: x):
    """Mean over images and positions, summed over taps."""
    return sum(function(t).mean() for t in tensors)


def reconstruction(maps, found):
    """L_rec: cosine distance of the flattened maps, mean over images, summed over taps."""
    total = 0
    for x, y in zip(maps, found):
        x, y = x.flatten(1), y.flatten(1)
        product = (x.norm(dim=1) * y.norm(dim=1)).clamp_min(1e-8)
        total = total + (1 - (x * y).sum(1) / product).mean()
    return total


def discriminator_loss(strategy, network, normal, anomalous, generated, margin=MARGIN):
    """L_D; `generated` are the detached reconstructions of all images."""
    of_normal, of_generated = values(network, normal), values(network, generated)
    if strategy == "gan":
        return mean_sum(of_normal, lambda v: softplus(-v)) + mean_sum(of_generated, softplus)

    def hinge(energy):
        return relu(margin - energy.abs())

    of_anomalous = values(network, anomalous)
    return mean_sum(of_normal, torch.abs) + GAMMA * mean_sum(of_generated, hinge) + (1 - GAMMA) * mean_sum(of_anomalous, hinge)


def adversarial_loss(strategy, network, generated):
    """L_G."""
    found = values(network, generated)
    return mean_sum(found, lambda v: softplus(-v)) if strategy == "gan" else mean_sum(found, torch.abs)
