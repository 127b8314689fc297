"""Multiply-adds of one HGAD image: backbone up to the tap at three scales, and three flows (HGAD, appendix table 2).

How to run:  python benches/pytorch/hgad_complexity.py [--size 256] [--backbone tf_efficientnet_b6] [--classes 15]
             (pip install torch timm)

Counts by PyTorch's own counter on timm's network, and from the shapes of the flows as published: 12 blocks, position
code of 256 channels, subnet of one hidden layer twice as wide as its input.
"""

import argparse

import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

STRIDE = 16
BLOCKS = 12
CODE = 256
CENTRES = 10
SCALES = [1, 2, 4]


def backbone(name, size):
    """Multiply-adds up to the tap, and its channels."""
    network = timm.create_model(name, pretrained=False, features_only=True, out_indices=(3,)).eval()
    assert network.feature_info.reduction() == [STRIDE]
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(torch.zeros(1, 3, size, size))
    return counter.get_total_flops() / 2, network.feature_info.channels()[0]


def flow(channels, positions):
    """Multiply-adds of one flow on all positions of a map, and its trainable parameters."""
    moved = channels // 2
    kept = channels - moved
    hidden = 2 * (kept + CODE)
    subnet = (kept + CODE) * hidden + hidden * 2 * moved
    parameters = BLOCKS * (subnet + hidden + 2 * moved + 2 * channels)
    return BLOCKS * positions * (subnet + channels**2), parameters


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--backbone", default="tf_efficientnet_b6")
    parser.add_argument("--classes", type=int, default=15)
    options = parser.parse_args()
    total_backbone = total_flow = total_parameters = 0
    for scale in SCALES:
        side = options.size // scale
        adds, channels = backbone(options.backbone, side)
        flow_adds, parameters = flow(channels, (side // STRIDE) ** 2)
        parameters += options.classes * (CENTRES * channels + CENTRES + 1)
        print(f"1/{scale}: backbone {adds / 1e9:.2f} G, flow {flow_adds / 1e9:.2f} G multiply-adds, {parameters / 1e6:.2f} M trainable")
        total_backbone += adds
        total_flow += flow_adds
        total_parameters += parameters
    both = total_backbone + total_flow
    print(f"together: {both / 1e9:.2f} G multiply-adds = {2 * both / 1e9:.2f} GFLOPs (2 a multiply-add), {total_parameters / 1e6:.2f} M trainable")


if __name__ == "__main__":
    main()
