"""N-pad and BGAD end to end in PyTorch, as whole_commands.py starts them: train, score, measure, draw.

    python detectors.py JOB.json

The job names images, settings and weights as a model of burn-ad has them (whole_commands.py writes it) and the folder for
the results: model.pt, scores.csv, results.json and heat maps. Networks are timm's, with BatchNorm, in eval and inference_mode
("best": folded, channels-last); statistics and flows are written as PyTorch users write them: batched linear algebra, k-means
by scikit-learn, FrEIA, features kept between epochs. Metrics: scikit-learn, and AUPRO by the published loop of metrics.py.
"""

import csv
import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from skimage.segmentation import find_boundaries
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

import flow_step
import metrics
import networks
from bgad import Bgad
from npad import Npad

AUPRO_LIMIT, THRESHOLDS = 0.3, 200
ENDS = [(0, 0, 4), (87, 16, 109), (187, 55, 85), (249, 141, 10), (252, 255, 164)]  # five colours of "inferno"
COLOURS = np.stack([np.interp(np.linspace(0, 1, 256), np.linspace(0, 1, len(ENDS)), channel) for channel in zip(*ENDS)], 1)


class Preprocess:
    """From a file to the network's input; the region is (top, left, height, width) of the picture in it."""

    def __init__(self, settings):
        geometry, normalisation = settings["geometry"], settings["normalisation"]
        self.size, self.fit = geometry["size"], geometry["fit"]
        self.filter = Image.Resampling[geometry["filter"].upper()]
        self.mean, self.std = (torch.tensor(normalisation[name])[:, None, None] for name in ("mean", "std"))
        if self.fit not in ("letterbox", "squash"):
            sys.exit(f"images are fitted by {self.fit}; this script knows letterbox and squash")

    def region(self, width, height):
        long = max(width, height)
        if self.fit == "squash":
            return 0, 0, self.size, self.size
        width, height = (max(1, (side * self.size + long // 2) // long) for side in (width, height))
        return (self.size - height) // 2, (self.size - width) // 2, height, width

    def pad(self, pixels, region, mode):
        top, left, height, width = region
        rest = [(top, self.size - top - height), (left, self.size - left - width)]
        return np.pad(pixels, rest + [(0, 0)] * (pixels.ndim - 2), mode)

    def image(self, image):
        region = self.region(*image.size)
        resized = image.convert("RGB").resize(region[:1:-1], self.filter)
        pixels = torch.from_numpy(self.pad(np.asarray(resized), region, "edge")).permute(2, 0, 1)
        return (pixels / 255 - self.mean) / self.std, region

    def mask(self, mask):
        region = self.region(*mask.size)
        return self.pad(np.asarray(mask.resize(region[:1:-1], Image.Resampling.NEAREST)) != 0, region, "constant")


class Pictures(Dataset):
    def __init__(self, paths, preprocess):
        self.paths, self.preprocess = paths, preprocess

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        with Image.open(self.paths[index]) as image:
            return self.preprocess.image(image)


def load_folded(module, tensors, prefix=""):
    """Gives convolutions their weights and the BatchNorm behind each its offset alone: burn-ad's files hold them folded."""
    before = None
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d):
            child.weight.data = tensors[f"{prefix}{name}.weight"]
            before = f"{prefix}{name}"
        elif isinstance(child, nn.BatchNorm2d):
            nn.init.ones_(child.weight), nn.init.zeros_(child.running_mean), child.running_var.data.fill_(1 - child.eps)
            child.bias.data = tensors[f"{before}.bias"]
        else:
            load_folded(child, tensors, f"{prefix}{name}.")


class Backbone:
    """Maps at strides 4, 8 and 16."""

    def __init__(self, job):
        self.network = timm.create_model(job["backbone"], pretrained=False, features_only=True, out_indices=(1, 2, 3)).eval()
        load_folded(self.network, load_file(job["weights"]))
        self.format = torch.contiguous_format
        if job["best"]:
            self.format = torch.channels_last
            with torch.no_grad():
                self.network = networks.fold(self.network).to(memory_format=self.format)
        self.preprocess, self.batch, self.workers = Preprocess(job["preprocess"]), job["batch"], job["workers"]

    @torch.no_grad()  # not inference_mode: BGAD's flows learn from what comes out
    def maps(self, images):
        return self.network(images.to(memory_format=self.format))

    def of(self, paths):
        """(maps, regions) of a batch after the other."""
        def collate(items):
            return torch.stack([image for image, _ in items]), [region for _, region in items]

        loader = DataLoader(Pictures(paths, self.preprocess), self.batch, num_workers=self.workers, collate_fn=collate)
        for images, regions in loader:
            yield self.maps(images), regions


def inside(values, region):
    top, left, height, width = region
    return values[top:top + height, left:left + width]


def measure(maps, scores, samples, preprocess, regions):
    """Image AUROC, pixel AUROC, AUPRO; pixels beside the picture do not count."""
    masks, shown = np.zeros(maps.shape, bool), np.zeros(maps.shape, bool)
    for index, (sample, region) in enumerate(zip(samples, regions)):
        inside(shown[index], region)[:] = True
        if sample["mask"]:
            with Image.open(sample["mask"]) as mask:
                masks[index] = preprocess.mask(mask.convert("L"))
    lowest = maps[shown].min()
    maps = np.where(shown, maps, lowest)
    share = float((shown & ~masks).sum() / (~masks).sum())
    # Never above a threshold, pixels beside the picture only dilute the false-positive rate: by this share.
    pro = metrics.published_pro(maps, masks, AUPRO_LIMIT * share, THRESHOLDS)
    return dict(image_auroc=roc_auc_score([sample["anomalous"] for sample in samples], scores),
                pixel_auroc=roc_auc_score(masks[shown], maps[shown]), aupro=float(pro))


def heat_map(path, sample, values, region, low, threshold):
    """Image, map over it, contour at the threshold: side by side, at the image's own resolution."""
    with Image.open(sample["image"]) as image:
        pixels = np.asarray(image.convert("RGB"))
    values = torch.from_numpy(np.ascontiguousarray(inside(values, region)))[None, None]
    values = F.interpolate(values, pixels.shape[:2], mode="bilinear")[0, 0].numpy()
    share = np.clip((values - low) / (2 * (threshold - low)), 0, 1)
    colours = COLOURS[(255 * share).astype(np.uint8)]
    grey, cover = pixels.mean(2, keepdims=True), (0.45 + 0.35 * share)[:, :, None]
    first, found = pixels.copy(), pixels.copy()
    if sample["mask"]:
        with Image.open(sample["mask"]) as mask:
            first[find_boundaries(np.asarray(mask.convert("L")) != 0)] = (64, 224, 255)
    found[find_boundaries(values > threshold)] = (255, 64, 64)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.hstack([first, (grey + (colours - grey) * cover).astype(np.uint8), found])).save(path, compress_level=1)


def chosen(samples, count):
    """One of each kind in turn."""
    seen, order = {}, []
    for index, sample in enumerate(samples):
        seen[sample["kind"]] = seen.get(sample["kind"], 0) + 1
        order.append((seen[sample["kind"]], index))
    return sorted(index for _, index in sorted(order)[:count])


def main():
    start, phases = time.perf_counter(), {}

    def done(phase):
        phases[phase] = round(time.perf_counter() - start - sum(phases.values()), 3)

    job = json.loads(Path(sys.argv[1]).read_text())
    out, samples = Path(job["out"]), job["test"]
    torch.set_num_threads(job["threads"])
    torch.manual_seed(job["seed"])
    backbone = Backbone(job)
    preprocess = backbone.preprocess
    detector = {"npad": Npad, "bgad": Bgad}[job["method"]](job, backbone)
    held = detector.fit(job).numpy()
    regions = {path: region_of(path, preprocess) for path in job["held_out"] + [sample["image"] for sample in samples]}
    held = [inside(values, regions[path]) for values, path in zip(held, job["held_out"])]
    rank = min(len(held), math.ceil((len(held) + 1) * (1 - job["target_fpr"])))
    threshold, low = float(np.sort([values.max() for values in held])[rank - 1]), float(np.median([np.median(v) for v in held]))
    torch.save(detector.state() | dict(threshold=threshold, low=low), out / "model.pt")
    done("train")
    with torch.inference_mode():
        maps = detector.score([sample["image"] for sample in samples]).numpy()
    regions = [regions[sample["image"]] for sample in samples]
    scores = [float(inside(values, region).max()) for values, region in zip(maps, regions)]
    done("score")
    for index in chosen(samples, job["heatmaps"]):
        sample = samples[index]
        path = out / "heatmaps" / sample["kind"] / f"{Path(sample['image']).stem}.png"
        heat_map(path, sample, maps[index], regions[index], low, threshold)
    done("heat maps")
    figures = measure(maps, scores, samples, preprocess, regions)
    with open(out / "scores.csv", "w", newline="") as file:
        csv.writer(file).writerows([("path", "score"), *((sample["image"], score) for sample, score in zip(samples, scores))])
    done("metrics")
    facts = flow_step.machine(job["threads"]) | dict(timm=timm.__version__)
    (out / "results.json").write_text(json.dumps(figures | dict(phases=phases, machine=facts), indent=1))


def region_of(path, preprocess):
    with Image.open(path) as image:
        return preprocess.region(*image.size)


if __name__ == "__main__":
    main()
