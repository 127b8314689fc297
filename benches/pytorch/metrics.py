"""Times the usual Python metrics on the maps of benches/benches/metrics.rs: scikit-learn, and AUPRO as published code does it
(200 thresholds x maps x regions, scikit-image).

Run:  OMP_NUM_THREADS=1 python benches/pytorch/metrics.py [maps, default 100] [thresholds, default 200]
Made with Python 3, numpy 2.4.6, scikit-learn 1.9.1, scikit-image 0.26.0.
"""

import sys
import time

import numpy as np
from skimage.measure import label, regionprops
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score

BLOCK = 32


def uniform(seed, counter):
    """The generator of tests/reference/metrics.py."""
    z = np.uint64(seed << 32) + np.asarray(counter, dtype=np.uint64)
    with np.errstate(over="ignore"):
        z = z + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.float32) / np.float32(2**24)


def generate(maps, side=256):
    index, y, x = np.indices((maps, side, side))
    masks = uniform(2, (index * 4096 + y // BLOCK) * 4096 + x // BLOCK) < np.float32(0.02)
    scores = uniform(1, np.arange(masks.size).reshape(masks.shape))
    return scores + np.float32(0.375) * masks.astype(np.float32), masks


def published_pro(scores, masks, limit, count):
    low, high = float(scores.min()), float(scores.max())
    points = []
    for step in range(count):
        predicted = scores > low + step * (high - low) / count
        overlaps = []
        for image, mask in zip(predicted, masks):
            for region in regionprops(label(mask)):
                overlaps.append(image[region.coords[:, 0], region.coords[:, 1]].sum() / region.area)
        points.append((np.logical_and(~masks, predicted).sum() / (~masks).sum(), np.mean(overlaps)))
    fpr, pro = np.array([p for p in points if p[0] < limit]).T
    return auc(fpr / fpr.max(), pro)


def best_f1(truth, flat):
    precision, recall, _ = precision_recall_curve(truth, flat)
    return float(np.max(2 * precision * recall / np.maximum(precision + recall, 1e-300)))


def curves(truth, flat):
    """AUROC, average precision, best F1."""
    return float(roc_auc_score(truth, flat)), float(average_precision_score(truth, flat)), best_f1(truth, flat)


def timed(name, call):
    wall, cpu = time.perf_counter(), time.process_time()
    value = call()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{name:32} {wall:8.2f} s   {cpu:8.2f} s of CPU   {value!r}", flush=True)


if __name__ == "__main__":
    maps, count = ([int(a) for a in sys.argv[1:]] + [100, 200][len(sys.argv) - 1 :])[:2]
    scores, masks = generate(maps)
    flat, truth = scores.ravel(), masks.ravel()

    timed("roc_auc_score", lambda: float(roc_auc_score(truth, flat)))
    timed("average_precision_score", lambda: float(average_precision_score(truth, flat)))
    timed("best F1, precision_recall_curve", lambda: best_f1(truth, flat))
    timed(f"PRO, {count} thresholds", lambda: float(published_pro(scores, masks, 0.3, count)))
