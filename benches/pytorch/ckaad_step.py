"""A training step of CKAAD (CKAPatch) on given feature maps: the discriminator, then the generator. Imported by works.py."""

import sys
from pathlib import Path

import torch

# At the end: modules of this folder and of that one share names.
sys.path.append(str(Path(__file__).resolve().parents[2] / "tests" / "reference"))

from ckaad_networks import (LAMBDA, Architecture, Generator, adversarial_loss, discriminator, discriminator_loss,  # noqa: E402
                            reconstruction)

STRATEGY = "cka-patch"
BETAS = (0.5, 0.999)


class Step:
    """Networks with PyTorch's initial values, their optimisers, and random maps as a backbone would give them (behind a ReLU)."""

    def __init__(self, parameters, device, memory_format=torch.contiguous_format):
        backbone, strides, size = (parameters[key] for key in ("backbone", "strides", "size"))
        architecture = Architecture.of(backbone, strides)

        def placed(value):
            return value.to(device).to(memory_format=memory_format)

        def maps(images):
            shapes = [(images, c, size // s, size // s) for c, s in zip(architecture.channels, strides)]
            return [placed(torch.randn(shape).relu()) for shape in shapes]

        self.generator = placed(Generator(architecture))
        self.discriminator = placed(discriminator(STRATEGY, architecture, size // strides[-1]))
        self.of_generator = torch.optim.Adam(self.generator.parameters(), lr=1e-3, betas=BETAS)
        self.of_discriminator = torch.optim.Adam(self.discriminator.parameters(), lr=1e-4, betas=BETAS)
        self.normal, self.anomalous = maps(parameters["normal"]), maps(parameters["anomalous"])

    def run(self):
        """The generator runs once: the step of the discriminator does not change it."""
        normals = self.normal[0].shape[0]
        found = self.generator([torch.cat(pair) for pair in zip(self.normal, self.anomalous)])
        loss = discriminator_loss(STRATEGY, self.discriminator, self.normal, self.anomalous, [y.detach() for y in found])
        self.of_discriminator.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.discriminator.parameters(), 1.0)
        self.of_discriminator.step()

        self.discriminator.requires_grad_(False)
        total = reconstruction(self.normal, [y[:normals] for y in found])
        total = total + LAMBDA * adversarial_loss(STRATEGY, self.discriminator, found)
        self.of_generator.zero_grad()
        total.backward()
        self.of_generator.step()
        self.discriminator.requires_grad_(True)
        return loss.item(), total.item()
