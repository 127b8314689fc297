"""A training step of IGD: generator, then critic. Imported by works.py."""

import sys
from pathlib import Path

import torch

# At the end: modules of this folder and of that one share names.
sys.path.append(str(Path(__file__).resolve().parents[2] / "tests" / "reference"))

from igd_networks import (GLOBAL_WEIGHTS, GLOBAL_WINDOW, LOCAL, LOCAL_WEIGHTS, LOCAL_WINDOW, Critic, Generator, e_step,  # noqa: E402
                          optimisers, step)


class Step:
    """Networks with PyTorch's initial values, their optimisers, and random images: noise that the first steps begin to fit. With
    `features`, vectors of that width stand for what a frozen backbone gives."""

    def __init__(self, parameters, device, memory_format=torch.contiguous_format):
        side, batch, width, decoder_width, latent, features = (
            parameters[key] for key in ("side", "batch", "width", "decoder_width", "latent", "features"))

        def placed(value):
            return value.to(device).to(memory_format=memory_format)

        self.generator = placed(Generator(side, width, decoder_width, latent, features))
        self.critic = placed(Critic(side, width))
        self.optimisers = optimisers(self.generator, self.critic)
        self.images = placed(torch.randn(batch, 3, side, side))
        self.inputs = self.images if features is None else torch.randn(batch, features, device=device).abs()
        self.alpha, self.zeta = torch.rand(batch, device=device) / 2, torch.rand(batch, device=device)
        with torch.no_grad():
            self.centre, self.scale = e_step([self.generator.eval().encode(self.inputs)])
        self.generator.train()
        self.similarity = (LOCAL_WINDOW, LOCAL_WEIGHTS) if side == LOCAL else (GLOBAL_WINDOW, GLOBAL_WEIGHTS)

    def run(self):
        """The losses: of the generator, of the critic."""
        losses = step(self.generator, self.critic, *self.optimisers, self.inputs, self.images, self.alpha, self.zeta, self.centre,
                      self.scale, *self.similarity)
        return [loss.item() for group in losses for loss in group]
