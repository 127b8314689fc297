"""N-pad in PyTorch, SciPy and scikit-learn: used by detectors.py. What is computed stands in `burn-ad`'s method/npad."""

import sys

import numpy as np
import torch
from safetensors import safe_open
from scipy.ndimage import gaussian_filter
from sklearn.cluster import KMeans, kmeans_plusplus
from torch.nn import functional as F

IMAGES_PER_PRODUCT = 32  # moments: one batched product for so many images


def whole_cells(side, size, region):
    """Which of side x side cells have their centre in the picture."""
    top, left, height, width = region
    centres = (torch.arange(side) + 0.5) * size / side
    rows, columns = ((centres >= first) & (centres < first + length) for first, length in ((top, height), (left, width)))
    return rows[:, None] & columns


def extend(maps, cells):
    """Cells beside the picture take the value of the nearest one in it."""
    for index, inside in enumerate(cells):
        rows, columns = inside.any(1).nonzero()[:, 0], inside.any(0).nonzero()[:, 0]
        if inside.all() or not len(rows):
            continue
        along = torch.arange(len(inside))
        maps[index] = maps[index][along.clamp(rows[0], rows[-1])][:, along.clamp(columns[0], columns[-1])]
    return maps


class Moments:
    """Sums over images at each position, about the mean of the first images."""

    def __init__(self):
        self.waiting, self.shift = [], None

    def add(self, features, weights):
        self.waiting.append((features, weights))
        if sum(len(features) for features, _ in self.waiting) >= IMAGES_PER_PRODUCT:
            self.finish()

    def finish(self):
        if not self.waiting:
            return
        features, weights = (torch.cat(parts) for parts in zip(*self.waiting))
        if self.shift is None:
            _, positions, width = features.shape
            self.shift = features[weights > 0].mean(0)
            self.counts, self.first = torch.zeros(positions), torch.zeros(positions, width)
            self.second = torch.zeros(positions, width, width)
        rows = ((features - self.shift) * weights[:, :, None]).transpose(0, 1).contiguous()
        self.second.baddbmm_(rows.transpose(1, 2), rows)
        self.first += rows.sum(1)
        self.counts += weights.sum(0)
        self.waiting.clear()


class Npad:
    def __init__(self, job, backbone):
        self.settings, self.backbone = job["settings"], backbone
        self.size = backbone.preprocess.size
        self.side = -(-self.size // self.settings["grid"])
        with safe_open(job["model"], "pt") as tensors:  # random, so the same on both sides
            self.projection = tensors.get_tensor("projection") if "projection" in tensors.keys() else None
        self.generator = np.random.default_rng(job["seed"])
        known = dict(taps=[4, 8, 16], pool=False, flips=False, image_score="max")
        if any(self.settings[name] != value for name, value in known.items()) or self.settings["bank"]["kind"] != "centroids":
            sys.exit("this script knows N-pad's default settings and those of the demo")

    def embed(self, maps):
        levels = [F.interpolate(level, (self.side, self.side), mode="bilinear") for level in maps]
        if self.settings["scaling"] == "unit-norm":
            levels = [F.normalize(level, dim=1) for level in levels]
        rows = torch.cat(levels, 1).flatten(2).transpose(1, 2)
        return rows if self.projection is None else rows @ self.projection

    def embedded(self, paths):
        for maps, regions in self.backbone.of(paths):
            yield self.embed(maps), torch.stack([whole_cells(self.side, self.size, region) for region in regions])

    @torch.inference_mode()
    def fit(self, job):
        """Returns the maps of the images held out, which the threshold comes from."""
        uses_bank = self.settings["combination"] != "gaussian"
        bank, paths = self.settings["bank"], job["fit"]
        quota, candidates, moments = -(-bank["max_candidates"] // len(paths)), [], Moments()
        for features, cells in self.embedded(paths):
            if uses_bank:
                for rows, inside in zip(features, cells.flatten(1)):
                    rows = rows[inside]
                    candidates.append(rows[self.generator.permutation(len(rows))[:quota]])
            moments.add(features, cells.flatten(1).float())
        moments.finish()
        self.gaussians(moments)
        self.centres = self.representatives(torch.cat(candidates), int(moments.counts.sum())) if uses_bank else None
        held = [(self.distances(features), cells) for features, cells in self.embedded(job["held_out"])]
        self.scale = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
        if uses_bank:
            values = torch.cat([both[:, cells] for both, cells in held], 1)
            self.scale = torch.stack([values.mean(1), values.std(1, correction=0)], 1)
        return torch.cat([self.maps(both, cells) for both, cells in held])

    def gaussians(self, moments):
        """Mean and inverse Cholesky factor of each position, estimated from its 3 x 3 neighbours; where padding hides a
        position now and then, the missing observations are those of all positions together."""
        side, radius, shift = self.side, self.settings["gaussian"]["radius"], moments.shift
        counts, first, second, width = moments.counts, moments.first, moments.second, len(shift)
        most, total = float(counts.max()), float(counts.sum())
        pooled = first.double().sum(0) / total
        spread = second.sum(0, dtype=torch.float64) / total - torch.outer(pooled, pooled)
        counts, first = counts.double().view(side, side), first.double().view(side, side, width)
        second = second.view(side, side, width, width)
        self.means, self.whitening = torch.empty(side ** 2, width), torch.empty(side ** 2, width, width)
        identity = torch.eye(width, dtype=torch.float64)

        def window(values, row):
            """Sums over the neighbours of the cells of a row."""
            rows = values[max(0, row - radius):row + radius + 1].sum(0, dtype=torch.float64)
            out = torch.zeros_like(rows)
            for step in range(-radius, radius + 1):
                out[max(0, -step):side - max(0, step)] += rows[max(0, step):side + min(0, step)]
            return out

        cells = torch.ones(side, side)
        for row in range(side):
            count, mean, scatter = (window(values, row) for values in (counts, first, second))
            missing = (most * window(cells, row) - count).clamp_min(0)[:, None]
            mean += missing * pooled
            scatter += missing[:, :, None] * (spread + torch.outer(pooled, pooled))
            count = count[:, None] + missing
            mean /= count
            covariance = (scatter - count[:, :, None] * mean[:, :, None] * mean[:, None]) / (count[:, :, None] - 1)
            factor = torch.linalg.cholesky(covariance + self.settings["gaussian"]["epsilon"] * identity)
            self.whitening[row * side:][:side] = torch.linalg.solve_triangular(factor, identity.expand_as(factor), upper=False)
            self.means[row * side:][:side] = mean + shift

    def representatives(self, candidates, vectors):
        bank = self.settings["bank"]
        count = min(round(vectors * bank["share"]), bank["max_members"], len(candidates))
        points, seed = candidates.numpy(), int(self.generator.integers(2 ** 31))
        # Greedy trials on all points would cost more than all the iterations do.
        some = points[self.generator.permutation(len(points))[:max(16 * count, 4096)]]
        start, _ = kmeans_plusplus(some, count, random_state=seed, n_local_trials=1)
        clusters = KMeans(count, init=start, n_init=1, max_iter=bank["iterations"], tol=0).fit(points)
        return torch.from_numpy(clusters.cluster_centers_)

    def distances(self, features):
        """[2, batch, rows, columns]: smallest Mahalanobis distance to the Gaussians around, distance to the nearest centre."""
        batch, positions, width = features.shape
        side, search = self.side, self.settings["gaussian"]["search"]
        grid = F.pad(features.view(batch, side, side, width), (0, 0, search, search, search, search))
        offsets = [(down, right) for down in range(2 * search + 1) for right in range(2 * search + 1)]
        # Each Gaussian is applied to the features around it, so that its matrix is read once.
        around = torch.stack([grid[:, down:down + side, right:right + side] for down, right in offsets], 1)
        around = around.view(batch * len(offsets), positions, width).transpose(0, 1) - self.means[:, None]
        found = torch.bmm(around, self.whitening.transpose(1, 2)).square_().sum(2).T.reshape(batch, len(offsets), side, side)
        smallest = torch.full((batch, side, side), torch.inf)
        for found, (down, right) in zip(found.unbind(1), offsets):
            down, right = down - search, right - search
            to = [slice(max(0, step), side + min(0, step)) for step in (down, right)]
            source = [slice(max(0, -step), side - max(0, step)) for step in (down, right)]
            smallest[:, to[0], to[1]] = torch.minimum(smallest[:, to[0], to[1]], found[:, source[0], source[1]])
        if self.centres is None:
            return torch.stack([smallest.sqrt(), torch.zeros_like(smallest)])
        nearest = torch.cdist(features.reshape(-1, width), self.centres).min(1).values
        return torch.stack([smallest.sqrt(), nearest.view_as(smallest)])

    def maps(self, distances, cells):
        standard = (distances - self.scale[:, :1, None, None]) / self.scale[:, 1:, None, None]
        maps = F.interpolate(extend(standard.sum(0), cells)[:, None], (self.size, self.size), mode="bilinear")[:, 0]
        return torch.from_numpy(gaussian_filter(maps.numpy(), self.settings["sigma"], axes=(1, 2)))

    def score(self, paths):
        return torch.cat([self.maps(self.distances(features), cells) for features, cells in self.embedded(paths)])

    def state(self):
        return {name: getattr(self, name) for name in ("projection", "means", "whitening", "centres", "scale")}
