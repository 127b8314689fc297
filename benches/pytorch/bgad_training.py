"""Times NFAD training in PyTorch end to end, as BGAD's published loop does it: nothing is kept between epochs.

    python bgad_training.py FOLDER [--pattern '*.jpg'] [--images 64] [--epochs 2] [--backbone tf_efficientnet_lite0] [--size 256]
                            [--batch 32] [--threads 2] [--workers 0] [--json FILE]

Every epoch decodes the first --images images of FOLDER (searched recursively, sorted by path) in a new random order, resizes
them (shorter side, Lanczos), crops the centre, normalises, runs the frozen backbone (timm's, with random weights: the time
does not depend on them; features at strides 4, 8, 16, for Lite0 24, 40, 112 channels), makes vectors and position codes,
shuffles, and takes one Adam step of FrEIA's flow per chunk of 4096 and level; the rest of a batch's vectors and the
last incomplete batch are dropped. Learning rates follow the published schedule. The published loop also scores the test set
after every 8 epochs; that is left out.

Printed: seconds of each epoch, of the median epoch, the share of images and backbone in it, and 200 x the median as what
the published 25 x 8 epochs would take: an extrapolation, and printed as such.

--workers are loader processes beside the --threads of torch (the published default is 4 beside a GPU).
Made with: Python 3.11, torch 2.15, torchvision 0.29, timm 1.0.31, FrEIA 0.2. Run it while nothing else runs.
"""

import argparse
import json
import math
import statistics
import sys
import time
from pathlib import Path

import timm
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from flow_step import CHUNK, flow, machine, position_code, step

PUBLISHED_META_EPOCHS, SUB_EPOCHS, LEARNING_RATE = 25, 8, 2e-4
KINDS = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


class Images(Dataset):
    def __init__(self, paths, size):
        self.paths = paths
        self.transform = transforms.Compose([
            transforms.Resize(size, transforms.InterpolationMode.LANCZOS),
            transforms.CenterCrop(size),
            transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ])

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        with Image.open(self.paths[index]) as image:
            return self.transform(image.convert("RGB"))


def learning_rate(epoch, batch, batches):
    """Cosine over meta epochs; a ramp per batch in the first two."""
    floor = LEARNING_RATE * 0.1 ** 3

    def cosine(meta):
        return floor + (LEARNING_RATE - floor) * (1 + math.cos(math.pi * meta / PUBLISHED_META_EPOCHS)) / 2

    meta = epoch // SUB_EPOCHS
    if meta >= 2:
        return cosine(meta)
    share = (epoch * batches + batch) / (2 * SUB_EPOCHS * batches)
    return LEARNING_RATE / 10 + share * (cosine(2) - LEARNING_RATE / 10)


def train_epoch(epoch, loader, backbone, stacks, optimiser):
    """(seconds before the flows, number of steps, mean loss)."""
    before, losses, mark = 0.0, [], time.perf_counter()
    for number, images in enumerate(loader):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(epoch, number, len(loader))
        with torch.no_grad():
            features = backbone(images)
        before += time.perf_counter() - mark
        for stack, maps in zip(stacks, features):
            batch, channels, side, _ = maps.shape
            vectors = maps.permute(0, 2, 3, 1).reshape(-1, channels)
            code = position_code(side).repeat(batch, 1)
            order = torch.randperm(len(vectors))
            for chunk in range(len(vectors) // CHUNK):
                index = order[chunk * CHUNK:(chunk + 1) * CHUNK]
                losses.append(step(stack, optimiser, vectors[index], code[index]))
        mark = time.perf_counter()
    return before, len(losses), statistics.fmean(losses)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pattern", default="*", help="names of the images to take")
    parser.add_argument("--backbone", default="tf_efficientnet_lite0", help="a name of timm")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--json", help="file for the figures")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)

    found = (path for path in options.folder.rglob(options.pattern) if path.suffix.lower() in KINDS)
    paths = sorted(found)[:options.images]
    if len(paths) < options.batch:
        sys.exit(f"{options.folder} has {len(paths)} images, fewer than a batch of {options.batch}")
    loader = DataLoader(Images(paths, options.size), batch_size=options.batch, shuffle=True, drop_last=True,
                        num_workers=options.workers)
    backbone = timm.create_model(options.backbone, pretrained=False, features_only=True, out_indices=(1, 2, 3)).eval()
    stacks = [flow(channels) for channels in backbone.feature_info.channels()]
    parameters = [p for stack in stacks for p in stack.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(parameters, lr=LEARNING_RATE)
    facts = machine(options.threads) | dict(workers=options.workers, backbone=options.backbone)
    print(json.dumps(facts))
    print(f"{len(paths)} images in {len(loader)} batches of {options.batch}, {sum(p.numel() for p in parameters)} parameters")

    epochs = []
    for epoch in range(options.epochs):
        start = time.perf_counter()
        before, steps, loss = train_epoch(epoch, loader, backbone, stacks, optimiser)
        epochs.append(dict(seconds=time.perf_counter() - start, images_and_backbone=before, steps=steps, loss=loss))
        print(f"epoch {epoch}: {epochs[-1]['seconds']:.2f} s, of that images and backbone {before:.2f} s; "
              f"{steps} steps, loss {loss:.4f}", flush=True)
    median = statistics.median(epoch["seconds"] for epoch in epochs)
    share = sum(epoch["images_and_backbone"] for epoch in epochs) / sum(epoch["seconds"] for epoch in epochs)
    total = PUBLISHED_META_EPOCHS * SUB_EPOCHS
    print(f"median epoch {median:.2f} s; images and backbone take {100 * share:.0f} %")
    print(f"{options.epochs} epochs measured; extrapolated to {total}: {total * median:.0f} s")
    if options.json:
        record = dict(machine=facts, images=len(paths), size=options.size, batch=options.batch, epochs=epochs,
                      median_seconds=median, extrapolated_epochs=total, extrapolated_seconds=total * median)
        Path(options.json).write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
