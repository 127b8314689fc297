"""BGAD with RPAG in PyTorch and FrEIA: used by detectors.py. Features are computed once and kept, as `burn-ad` does it."""

import math
import sys

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

import flow_step
import rpag


class Bgad:
    def __init__(self, job, backbone):
        self.settings, self.backbone, self.size = job["settings"], backbone, backbone.preprocess.size
        loss = self.settings["loss"]
        if loss["weights"]["enabled"] or "rpag" not in self.settings["augment"] or backbone.preprocess.fit != "squash":
            sys.exit("this script knows BGAD with RPAG, without weights, on squashed images")
        self.rng = np.random.default_rng(job["seed"])
        self.stacks = [flow_step.flow(channels) for channels in backbone.network.feature_info.channels()]
        self.sides = [-(-self.size // stride) for stride in (4, 8, 16)]
        self.codes = [flow_step.position_code(side) for side in self.sides]

    def vectors(self, paths):
        """For each level [images, positions, channels]."""
        levels = zip(*(maps for maps, _ in self.backbone.of(paths)))
        return [torch.cat([maps.flatten(2).transpose(1, 2) for maps in level]) for level in levels]

    def marks(self, mask):
        """A mask on the positions of each level, by the nearest pixel."""
        mask = torch.from_numpy(mask)[None, None].float()
        return [F.interpolate(mask, (side, side), mode="nearest").flatten() > 0 for side in self.sides]

    def fit(self, job):
        """Returns the maps of the images held out, which the threshold comes from."""
        schedule, paths = self.settings["schedule"], job["fit"]
        self.normals, self.paths = self.vectors(paths), paths
        self.known = [(np.array(Image.open(image).convert("L")), np.array(Image.open(mask).convert("L")) != 0)
                      for image, mask in job["anomalies"]]
        plain = self.vectors([image for image, _ in job["anomalies"]])
        masks = [self.marks(self.backbone.preprocess.mask(Image.fromarray(mask))) for _, mask in self.known]
        self.anomalous = {(number, None): ([level[number] for level in plain], masks[number]) for number in range(len(masks))}
        optimisers = [torch.optim.Adam([p for p in stack.parameters() if p.requires_grad]) for stack in self.stacks]
        batch, passes = schedule["batch"], schedule["sub_epochs"]
        for epoch in range(schedule["meta_epochs"] * passes):
            meta = epoch // passes
            normal = batch if meta == 0 else round(batch * schedule["normal_share"])
            order = torch.from_numpy(self.rng.permutation(len(paths))).split(normal)
            entries = self.entries(epoch)
            for number, images in enumerate(order):
                progress = (epoch % passes * len(order) + number) / (passes * len(order))
                for optimiser in optimisers:
                    optimiser.param_groups[0]["lr"] = self.rate(meta, progress)
                added = [] if meta == 0 else self.made([next(entries) for _ in range(batch - normal)])
                for level, optimiser in enumerate(optimisers):
                    self.steps(level, optimiser, images, added, meta > 0)
        with torch.inference_mode():  # the maxima over normal images scale the maps
            likelihoods = [self.likelihood(level, vectors) for level, vectors in enumerate(self.normals)]
            self.maxima, self.top = [float(values.max()) for values in likelihoods], 0.0
            self.top = max(float(-self.maps(values).min()) for values in zip(*(level.split(32) for level in likelihoods)))
            return self.score(job["held_out"])

    def rate(self, meta, progress):
        schedule = self.settings["schedule"]
        highest, epochs, warm_up = schedule["learning_rate"], schedule["meta_epochs"], schedule["warm_up"]

        def cosine(epoch):
            return highest * (1e-3 + (1 - 1e-3) * (1 + math.cos(math.pi * epoch / epochs)) / 2)

        if meta >= warm_up:
            return cosine(meta)
        return highest / 10 + (meta + progress) / warm_up * (cosine(warm_up) - highest / 10)

    def entries(self, epoch):
        """Known anomalies, each several times, without end: (number, None) as it is, or (number, version, repeat)."""
        schedule, turn = self.settings["schedule"], 0
        while True:
            for place in self.rng.permutation(len(self.known) * schedule["repeats"]):
                repeat, number = divmod(int(place), len(self.known))
                version = (epoch + turn) % schedule["versions"]
                yield (number, None) if repeat < schedule["plain_repeats"] else (number, version, repeat)
            turn += 1

    def made(self, keys):
        """Vectors and marks of anomalous images; those that are new are made and kept."""
        new, images = [key for key in dict.fromkeys(keys) if key not in self.anomalous], []
        for number, _, _ in new:
            with Image.open(self.paths[self.rng.integers(len(self.paths))]) as normal:
                images.append(rpag.pseudo_anomaly(np.asarray(normal.convert("L")), *self.known[number], self.rng))
        if new:
            inputs = torch.stack([self.backbone.preprocess.image(Image.fromarray(image))[0] for image, _ in images])
            levels = [maps.flatten(2).transpose(1, 2) for maps in self.backbone.maps(inputs)]
            for number, (key, (_, mask)) in enumerate(zip(new, images)):
                marks = self.marks(self.backbone.preprocess.mask(Image.fromarray(mask)))
                self.anomalous[key] = [level[number].clone() for level in levels], marks
        return [self.anomalous[key] for key in keys]

    def steps(self, level, optimiser, images, added, bounded):
        schedule = self.settings["schedule"]
        vectors = torch.cat([self.normals[level][images], *(levels[level][None] for levels, _ in added)])
        count, positions, channels = vectors.shape
        marks = torch.cat([torch.zeros(len(images) * positions, dtype=torch.bool), *(marks[level] for _, marks in added)])
        vectors, normal, anomalous = vectors.view(-1, channels), (~marks).nonzero()[:, 0], marks.nonzero()[:, 0]
        kept = normal[torch.randperm(len(normal))[:math.ceil(len(normal) * schedule["vector_share"])]]
        chosen = torch.cat([kept, anomalous])
        chosen = chosen[torch.randperm(len(chosen))]
        size = min(schedule["chunk"], len(chosen))
        for chunk in chosen[:len(chosen) // size * size].split(size):
            z, log_det = self.stacks[level](vectors[chunk], [self.codes[level][chunk % positions]])
            loss = self.loss(flow_step.log_likelihood(z, log_det), marks[chunk], bounded)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    def loss(self, values, marks, bounded):
        settings = self.settings["loss"]
        normal, anomalous = values[~marks], values[marks]
        loss = -F.logsigmoid(normal).mean()
        if not bounded or not len(anomalous):
            return loss
        normal, anomalous = normal / settings["normaliser"], anomalous / settings["normaliser"]
        boundary = normal.detach().sort().values[int(settings["beta"] * len(normal))]
        pulled = normal[normal <= boundary]
        pushed = anomalous[anomalous >= boundary - settings["tau"]]
        loss = loss + settings["lambda"] * (boundary - pulled).mean()
        return loss + settings["lambda"] * (pushed - boundary + settings["tau"]).mean() if len(pushed) else loss

    def likelihood(self, level, vectors):
        """[images, rows, columns]"""
        side, found = self.sides[level], []
        for some in vectors.split(self.backbone.batch):
            z, log_det = self.stacks[level](some.flatten(0, 1), [self.codes[level].repeat(len(some), 1)])
            found.append(flow_step.log_likelihood(z, log_det).view(-1, side, side))
        return torch.cat(found)

    def maps(self, likelihoods):
        relative = ((values - largest).exp()[:, None] for values, largest in zip(likelihoods, self.maxima))
        size = (self.size, self.size)
        return self.top - sum(F.interpolate(values, size, mode="bilinear", align_corners=True)[:, 0] for values in relative)

    def score(self, paths):
        found = []
        for maps, _ in self.backbone.of(paths):
            vectors = [values.flatten(2).transpose(1, 2) for values in maps]
            found.append(self.maps([self.likelihood(level, values) for level, values in enumerate(vectors)]))
        return torch.cat(found)

    def state(self):
        return dict(flows=[stack.state_dict() for stack in self.stacks], maxima=self.maxima, top=self.top)
