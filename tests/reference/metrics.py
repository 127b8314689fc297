"""Writes fixtures/metrics/expected.json: inputs and the values scikit-learn and an exhaustive AUPRO give for them.

Run from the folder `tests`:  python reference/metrics.py
Made with Python 3, numpy 2.4.6, scikit-learn 1.9.1, scikit-image 0.26.0.

Inputs are either stored (scores as the bits of their f32, labels and masks as "0"/"1"), or made on both sides by a
counter-based generator: u(seed, i) = (mix(seed * 2^32 + i) >> 40) / 2^24 with the finaliser `mix` of SplitMix64.
- labelled: label(i) = u(seed + 1, i) < rate;  score(i) = u(seed, i) + lift * label(i)
- maps, i = flat pixel over all maps: mask(map, y, x) = u(seed + 1, (map * 4096 + y // block) * 4096 + x // block) < rate,
  score(i) = u(seed, i) + lift * mask(i); valid: all but `margin` pixels on every side
- levels > 0 (a power of two) quantises: floor(score * levels) / levels. All arithmetic in f32.
"""

import json
import pathlib

import numpy as np
from skimage.measure import label, regionprops
from sklearn.metrics import accuracy_score, auc, average_precision_score, precision_recall_curve, roc_auc_score

LIMIT = 0.3


def uniform(seed, counter):
    z = np.uint64(seed << 32) + np.asarray(counter, dtype=np.uint64)
    with np.errstate(over="ignore"):
        z = z + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.float32) / np.float32(2**24)


def lifted(seed, counter, truth, lift, levels):
    scores = uniform(seed, counter) + np.float32(lift) * truth.astype(np.float32)
    return np.floor(scores * np.float32(levels)) / np.float32(levels) if levels else scores


def as_text(flags):
    return "".join("1" if f else "0" for f in np.ravel(flags))


def as_bits(scores):
    return [int(b) for b in np.ravel(np.asarray(scores, np.float32)).view(np.uint32)]


def labelled_metrics(scores, labels):
    """scikit-learn's values; infinities, which it refuses, are replaced by ranks (every metric depends on the order only)."""
    out = {"auroc": None, "average_precision": None, "best_f1": None, "accuracy_at_half": None}
    if len(scores):
        out["accuracy_at_half"] = float(accuracy_score(labels, scores >= np.float32(0.5)))
    if not labels.any():
        return out
    original = np.unique(scores)
    ranked = scores if np.isfinite(scores).all() else np.searchsorted(original, scores).astype(np.float64)
    if not labels.all():
        out["auroc"] = float(roc_auc_score(labels, ranked))
    out["average_precision"] = float(average_precision_score(labels, ranked))
    precision, recall, thresholds = precision_recall_curve(labels, ranked)
    f1 = (2 * precision * recall / np.maximum(precision + recall, 1e-300))[:-1]
    # Exact ties can differ in their last bit: the first of them, not whichever rounds up.
    best = int(np.flatnonzero(f1 >= f1.max() - 1e-12)[0])
    threshold = thresholds[best]
    if ranked is not scores:
        original_threshold = original[int(threshold)]
    else:
        original_threshold = np.float32(threshold) + np.float32(0.0)
    out["best_f1"] = {
        "f1": float(f1[best]),
        "threshold_bits": as_bits([original_threshold])[0],
        "precision": float(precision[best]),
        "recall": float(recall[best]),
        "accuracy": float(accuracy_score(labels, ranked >= threshold)),
    }
    return out


def regions_of(mask, valid):
    return [tuple(r.coords.T) for r in regionprops(label(mask & valid, connectivity=2))]


def exhaustive_aupro(scores, masks, valids, limit, literal):
    """Every distinct score is a threshold; `literal` counts pixels anew for each, else by searching sorted scores."""
    regions = [s[r] for s, m, v in zip(scores, masks, valids) for r in regions_of(m, v)]
    normal = np.concatenate([s[~m & v] for s, m, v in zip(scores, masks, valids)])
    if not regions or not normal.size:
        return None
    thresholds = np.unique(np.concatenate([s[v] for s, v in zip(scores, valids)]))[::-1]
    if literal:
        count = lambda values: np.array([(values >= t).sum() for t in thresholds])
    else:
        count = lambda values: len(values) - np.searchsorted(np.sort(values), thresholds, side="left")
    fpr = np.concatenate([[0.0], count(normal) / normal.size])
    pro = np.concatenate([[0.0], np.mean([count(r) / r.size for r in regions], axis=0)])
    inside = fpr <= limit
    xs, ys = list(fpr[inside]), list(pro[inside])
    if not inside.all():
        after = int(np.argmin(inside))
        t = (limit - fpr[after - 1]) / (fpr[after] - fpr[after - 1])
        xs.append(limit)
        ys.append(pro[after - 1] + t * (pro[after] - pro[after - 1]))
    return float(np.trapezoid(ys, xs) / limit)


def sampled_aupro(scores, masks, valids, limit, thresholds, keep):
    """The published loop: thresholds x maps x regions."""
    regions = [regions_of(m, v) for m, v in zip(masks, valids)]
    normal = sum((~m & v).sum() for m, v in zip(masks, valids))
    if not any(regions) or not normal:
        return None
    points = []
    for threshold in thresholds:
        pros, false_positives = [], 0
        for s, m, v, found in zip(scores, masks, valids, regions):
            predicted = (s > threshold) & v
            pros += [predicted[r].sum() / len(r[0]) for r in found]
            false_positives += (predicted & ~m).sum()
        points.append((false_positives / normal, np.mean(pros)))
    fpr, pro = np.array([p for p in points if keep(p[0], limit)]).reshape(-1, 2).T
    if len(fpr) < 2 or fpr.max() == 0:
        return None
    return float(auc(fpr / fpr.max(), pro))


def up(scores, masks, valids, limit, count=200):
    used = np.concatenate([s[v] for s, v in zip(scores, valids)]).astype(np.float64)
    low, high = used.min(), used.max()
    thresholds = [low + i * ((high - low) / count) for i in range(count)]
    return sampled_aupro([s.astype(np.float64) for s in scores], masks, valids, limit, thresholds, lambda f, l: f < l)


def down(scores, masks, valids, limit, count=1000):
    used = np.concatenate([s[v] for s, v in zip(scores, valids)]).astype(np.float64)
    low, high = used.min(), used.max()
    thresholds = [high - i * ((high - low) / count) for i in range(count)]
    return sampled_aupro([s.astype(np.float64) for s in scores], masks, valids, limit, thresholds, lambda f, l: f <= l)


def map_metrics(scores, masks, valids, limits, small):
    flat = np.concatenate([s[v] for s, v in zip(scores, valids)])
    truth = np.concatenate([m[v] for m, v in zip(masks, valids)])
    out = labelled_metrics(flat, truth)
    del out["accuracy_at_half"]
    out["aupro"] = []
    for limit in limits:
        value = exhaustive_aupro(scores, masks, valids, limit, literal=False)
        if small:
            again = exhaustive_aupro(scores, masks, valids, limit, literal=True)
            assert value == again or abs(value - again) < 1e-14
        out["aupro"].append({"limit": limit, "value": value})
    if np.isfinite(flat).all():
        out["sampled_up"] = up(scores, masks, valids, LIMIT)
        out["sampled_down"] = down(scores, masks, valids, LIMIT)
        each = [up([s], [m], [v], LIMIT) for s, m, v in zip(scores, masks, valids)]
        each = [value for value in each if value is not None]
        out["sampled_mean_image"] = float(np.mean(each)) if each else None
        out["has_sampled"] = True
    else:
        out["has_sampled"] = False
    return out


def labelled_cases():
    def stored(name, scores, labels):
        scores, labels = np.asarray(scores, np.float32), np.asarray(labels, bool)
        yield {
            "name": name,
            "scores_bits": as_bits(scores),
            "labels": as_text(labels),
            "expected": labelled_metrics(scores, labels),
        }

    rng = np.random.default_rng(0)
    for n in (2, 3, 7, 50, 300):
        labels = rng.random(n) < 0.4
        labels[:2] = [True, False]
        yield from stored(f"normal-{n}", rng.normal(size=n) + labels, labels)
        yield from stored(f"three levels {n}", rng.integers(0, 3, n) + 0.5 * labels, labels)
        yield from stored(f"two levels {n}", rng.integers(0, 2, n), labels)
    many = rng.random(100) < 0.5
    yield from stored("constant", np.full(100, 0.25), many)
    yield from stored("one anomalous", rng.normal(size=100), np.arange(100) == 17)
    yield from stored("one normal", rng.normal(size=100), np.arange(100) != 17)
    yield from stored("all anomalous", rng.normal(size=20), np.ones(20))
    yield from stored("all normal", rng.normal(size=20), np.zeros(20))
    yield from stored("empty", [], [])
    yield from stored("perfect", np.arange(40), np.arange(40) >= 25)
    yield from stored("inverted", -np.arange(40), np.arange(40) >= 25)
    odd = [-np.inf, np.inf, 0.0, -0.0, 1e-45, -1e-45, 3e38, -3e38, 1.0]
    yield from stored("odd floats", rng.choice(np.array(odd, np.float32), 120), rng.random(120) < 0.5)
    yield from stored("signed zeros", [0.0, -0.0, -0.0, 0.0, 1.0], [1, 0, 1, 0, 0])
    for name, spec in {
        "imbalanced": dict(seed=11, count=200_000, rate=5e-5, lift=0.25, levels=0),
        "imbalanced ties": dict(seed=13, count=200_000, rate=1e-3, lift=0.25, levels=64),
        "balanced": dict(seed=15, count=50_000, rate=0.5, lift=0.125, levels=0),
        "mostly anomalous": dict(seed=17, count=50_000, rate=0.999, lift=0.125, levels=0),
    }.items():
        counter = np.arange(spec["count"])
        labels = uniform(spec["seed"] + 1, counter) < np.float32(spec["rate"])
        scores = lifted(spec["seed"], counter, labels, spec["lift"], spec["levels"])
        yield {"name": name, "generated": spec, "expected": labelled_metrics(scores, labels)}


DRAWN = [
    ["##....#..#", ".#.....#.#", "..#.......", "#........#", "#...##...#", "....##....", ".#.#....##", "#.#.....#."],
    ["..........", "..........", "....#.....", "...###....", "....#.....", "..........", "..........", ".........."],
    ["..........", "..........", "..........", "..........", "..........", "..........", "..........", ".........."],
]
SEEN = [".xxxxxxxx.", ".xxxxxxxx.", ".xxx..xxx.", ".xxxxxxxx.", ".xxxxxxxx.", ".xxxxxxxx.", "..........", ".xxxxxxxx."]


def map_cases():
    drawn = np.array([[[c == "#" for c in row] for row in picture] for picture in DRAWN])
    seen = np.array([[[c == "x" for c in row] for row in SEEN]] * 3)
    everything = np.ones_like(seen)
    rng = np.random.default_rng(1)
    noise = rng.normal(size=drawn.shape).astype(np.float32)
    limits = [0.05, 0.3, 1.0]

    def stored(name, scores, masks, valids):
        scores = np.asarray(scores, np.float32)
        return {
            "name": name,
            "shape": list(scores.shape),
            "scores_bits": as_bits(scores),
            "masks": as_text(masks),
            "valids": None if valids.all() else as_text(valids),
            "expected": map_metrics(scores, masks, valids, limits, small=True),
        }

    for name, valids in (("", everything), (" partly valid", seen)):
        yield stored("noise" + name, noise, drawn, valids)
        yield stored("lifted" + name, noise + 1.5 * drawn, drawn, valids)
        yield stored("five levels" + name, np.clip(np.floor(noise + drawn), -2, 2), drawn, valids)
        yield stored("two levels" + name, noise + drawn > 0.5, drawn, valids)
        yield stored("constant" + name, np.zeros_like(noise), drawn, valids)
        yield stored("perfect" + name, drawn, drawn, valids)
        yield stored("inverted" + name, ~drawn, drawn, valids)
        yield stored("odd floats" + name, rng.choice(np.array([-np.inf, np.inf, 0.0, -0.0, 1.0], np.float32), drawn.shape), drawn, valids)
    yield stored("no region", noise, np.zeros_like(drawn), everything)
    yield stored("no normal pixel", noise, np.ones_like(drawn), everything)
    yield stored("one anomalous pixel", noise, np.arange(240).reshape(drawn.shape) == 93, everything)
    for name, spec in {
        "blocks": dict(seed=21, maps=12, height=64, width=48, block=4, rate=0.06, lift=0.375, levels=0, margin=0),
        "blocks in 32 levels": dict(seed=23, maps=12, height=64, width=48, block=3, rate=0.06, lift=0.25, levels=32, margin=5),
        "single pixels": dict(seed=25, maps=6, height=61, width=67, block=1, rate=0.2, lift=0.25, levels=0, margin=1),
        "rare": dict(seed=27, maps=20, height=96, width=96, block=8, rate=0.003, lift=0.5, levels=0, margin=0),
    }.items():
        shape = (spec["maps"], spec["height"], spec["width"])
        index, y, x = np.indices(shape)
        cells = (index * 4096 + y // spec["block"]) * 4096 + x // spec["block"]
        masks = uniform(spec["seed"] + 1, cells) < np.float32(spec["rate"])
        scores = lifted(spec["seed"], np.arange(masks.size).reshape(shape), masks, spec["lift"], spec["levels"])
        m = spec["margin"]
        valids = (y >= m) & (y < spec["height"] - m) & (x >= m) & (x < spec["width"] - m)
        yield {"name": name, "generated": spec, "expected": map_metrics(scores, masks, valids, limits, small=False)}


if __name__ == "__main__":
    out = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "metrics" / "expected.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    document = {"limit_of_sampled": LIMIT, "labelled": list(labelled_cases()), "maps": list(map_cases())}
    lines = [f' "{key}": [\n' + ",\n".join("  " + json.dumps(c) for c in document[key]) + "\n ]" for key in ("labelled", "maps")]
    out.write_text(f'{{\n "limit_of_sampled": {LIMIT},\n' + ",\n".join(lines) + "\n}\n")
    print(out.name, out.stat().st_size, "bytes;", [(c["name"], c["expected"]["aupro"][1]["value"]) for c in document["maps"]])
