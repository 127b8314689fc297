"""Losses, boundaries, weights and gradients of NFAD, BGAD and BGAD-dagger on given log-likelihoods.

Run:   python tests/reference/bgad.py          (writes tests/fixtures/bgad/losses.json, about 250 KB)
Made with: Python 3.11, torch 2.15

Written from the formulas (Yao et al., CVPR 2023, eqs 4-9, 17-19, and the published defaults), with torch's autograd, in f64.
A chunk is a list of per-dimension log-likelihoods l (f32 values) and a flag per vector: anomalous or not. q = l / 10.

  L_ml  mean over the normal vectors of w * -log sigmoid(l)
  b_n   the normal l at place floor(beta * count) from the smallest, / 10, no gradient;  b_a = b_n - 0.1
  L_n   over the normal vectors with q <= b_n: w (b_n - q);  L_a  over the anomalous ones with q >= b_a: w (q - b_a)
        `mean` divides by the number of selected vectors, `sum` (eq. 19) does not; L_ml is a mean in both
  losses  nfad            L_ml
          bgad            L_ml + L_n + L_a; a chunk without anomalous vectors: L_ml
          dagger          the same with L_n over all normal and L_a over all anomalous vectors
          normal-boundary L_ml + L_n (published training without anomalies)
  Nothing selected contributes 0. Without normal vectors there is neither likelihood term nor boundary: L = 0, no gradient.
  w (no gradient), u = l / scale, p = exp(u): normal 1 if u > normal_threshold, else alpha_n (1 - p)^gamma_n |u|;
  anomalous 1 if u <= anomalous_threshold, else alpha_a (1 + p)^gamma_a / |u|, at most `cap` (also at u = 0).
  Weightings: `published` (the published code; scale 10); the paper prints thresholds -2 and -20 without their scale, so
  both readings are here: `paper` takes eqs 17 and 18 literally (u = l), `paper-scaled` has the thresholds on l and the
  weights in u = q.

No l lies within 1e-5 of an edge (thresholds, 10 b_a, 10 b_n unless equal to it), so an f32 implementation selects the same
vectors. beta times count must be formed in f64: 0.01 as f32 times 200 is below 2.
In the JSON: chunks [{name, l, anomalous, weights {weighting: [..]}, cases [{loss, reduction, weighting, beta, b_n, b_a,
l_ml, l_n, l_a, total, gradient (of total with respect to l)}]}]; null where a boundary does not exist.
"""

import json
from pathlib import Path

import torch
from torch.nn.functional import logsigmoid

OUT = Path(__file__).resolve().parent.parent / "fixtures" / "bgad"
NORMALISER, TAU, CAP = 10.0, 0.1, 100.0

PUBLISHED = dict(scale=10.0, alpha_n=11.7, gamma_n=0.5, normal_threshold=-0.2,
                 alpha_a=0.53, gamma_a=2.0, anomalous_threshold=-1.0)
PAPER = dict(scale=1.0, alpha_n=15.0, gamma_n=1.0, normal_threshold=-2.0,
             alpha_a=0.53, gamma_a=2.0, anomalous_threshold=-20.0)
WEIGHTINGS = {
    "off": None,
    "published": PUBLISHED,
    "paper": PAPER,
    "paper-scaled": PAPER | dict(scale=10.0, normal_threshold=-0.2, anomalous_threshold=-2.0),
}


def weight(l, anomalous, constants):
    """The weight of one vector."""
    if constants is None:
        return 1.0
    u = l / constants["scale"]
    p = torch.exp(u)
    if not anomalous:
        if u > constants["normal_threshold"]:
            return 1.0
        return (constants["alpha_n"] * (1 - p) ** constants["gamma_n"] * u.abs()).item()
    if u <= constants["anomalous_threshold"]:
        return 1.0
    return min(CAP, (constants["alpha_a"] * (1 + p) ** constants["gamma_a"] / u.abs()).item())


def boundary(normal, beta):
    place = int(beta * len(normal))
    return torch.sort(normal.detach()).values[place] / NORMALISER


def reduced(terms, reduction):
    """Mean or sum; 0 where nothing is selected."""
    if not terms:
        return torch.zeros((), dtype=torch.float64)
    total = sum(terms)
    return total / len(terms) if reduction == "mean" else total


def evaluate(values, anomalous, weights, loss, reduction, beta):
    l = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    normals = [i for i, flag in enumerate(anomalous) if not flag]
    others = [i for i, flag in enumerate(anomalous) if flag]
    l_ml = reduced([-logsigmoid(l[i]) * weights[i] for i in normals], "mean")
    l_n = l_a = torch.zeros((), dtype=torch.float64)
    b_n = b_a = None
    if normals:
        b_n = boundary(l[normals], beta)
        b_a = b_n - TAU
        q = l / NORMALISER
        everything = loss == "dagger"
        l_n = reduced([weights[i] * (b_n - q[i]) for i in normals if everything or q[i] <= b_n], reduction)
        l_a = reduced([weights[i] * (q[i] - b_a) for i in others if everything or q[i] >= b_a], reduction)
    if loss == "nfad" or (loss in ("bgad", "dagger") and not others):
        total = l_ml
    elif loss == "normal-boundary":
        total = l_ml + l_n
    else:
        total = l_ml + l_n + l_a
    gradient = [0.0] * len(values)
    if total.requires_grad:
        total.backward()
        gradient = l.grad.tolist()
    else:
        assert not normals and total == 0
    assert all(abs(g) < 1e9 for g in gradient)  # NaN fails too

    def number(tensor):
        return None if tensor is None else rounded(tensor.item())

    return dict(loss=loss, reduction=reduction, beta=beta, b_n=number(b_n), b_a=number(b_a), l_ml=number(l_ml),
                l_n=number(l_n), l_a=number(l_a), total=number(total), gradient=[rounded(g) for g in gradient])


def rounded(value):
    """Ten digits: far below f32 and half the size."""
    return float(f"{value:.10g}")


def far_from_edges(values, anomalous, beta):
    """Whether rounding to f32 cannot change on which side of an edge a vector lies."""
    normal = torch.tensor([v for v, flag in zip(values, anomalous) if not flag], dtype=torch.float64)
    edges = [c[key] * c["scale"] for c in WEIGHTINGS.values() if c for key in ("normal_threshold", "anomalous_threshold")]
    if len(normal):
        b_n = boundary(normal, beta)
        edges.append(((b_n - TAU) * NORMALISER).item())
        if not all(q == b_n or abs(q - b_n) > 1e-6 for q in normal / NORMALISER):
            return False
    return all(abs(v - edge) > 1e-5 for v in values for edge in edges)


def chunks():
    generator = torch.Generator().manual_seed(11)

    def draw(count, mean, std):
        return (mean + std * torch.randn(count, generator=generator)).tolist()

    def mixed(normal, anomalous):
        """In a random order, as a shuffled chunk has them."""
        pairs = [(v, False) for v in normal] + [(v, True) for v in anomalous]
        return [pairs[i] for i in torch.randperm(len(pairs), generator=generator).tolist()]

    # Normal l reach from far below every threshold to above 0; anomalous ones overlap with them, and one is exactly 0.
    normal = draw(180, -1.5, 1.2) + draw(20, -14.0, 6.0)
    anomalous = draw(30, -12.0, 7.0) + draw(23, -2.0, 1.5) + [0.0, -0.001, 6.0]
    yield "ordinary", mixed(normal, anomalous)
    yield "no-anomalous", mixed(draw(120, -3.0, 3.0), [])
    yield "all-anomalous", mixed([], draw(24, -6.0, 5.0))
    yield "separated", mixed(draw(40, -1.0, 0.4), draw(8, -30.0, 2.0))  # no anomalous vector is above b_a
    yield "one-normal", [(-2.5, False)]
    yield "one-anomalous", [(-2.5, True)]
    yield "one-of-each", [(-4.0, False), (-1.0, True)]
    # The 21 smallest normal values are equal: the boundary falls on a tie, and all of them are selected.
    ties = [-5.0] * 21 + [-3.0] * 39 + [-1.5] * 40
    yield "ties", mixed(ties, [-5.0] * 3 + [-5.5] * 4 + [-7.0] * 5)


def settings(name, anomalous):
    """(loss, reduction, weighting, beta): all for the ordinary chunk, the telling ones elsewhere."""
    all_normal = not any(anomalous)
    weightings = list(WEIGHTINGS) if name == "ordinary" else ["off", "published"]
    for weighting in weightings:
        if name in ("ordinary", "no-anomalous"):
            yield "nfad", "mean", weighting, 0.01
        for beta in (0.01, 0.05):
            for reduction in ("mean", "sum"):
                yield "bgad", reduction, weighting, beta
                if weighting in ("off", "published"):
                    yield "dagger", reduction, weighting, beta
                    if all_normal:
                        yield "normal-boundary", reduction, weighting, beta


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    written = []
    for name, pairs in chunks():
        values = [torch.tensor(v, dtype=torch.float32).item() for v, _ in pairs]
        anomalous = [flag for _, flag in pairs]
        assert all(far_from_edges(values, anomalous, beta) for beta in (0.01, 0.05)), name
        exact = torch.tensor(values, dtype=torch.float64)
        weights = {key: [weight(l, flag, constants) for l, flag in zip(exact, anomalous)]
                   for key, constants in WEIGHTINGS.items()}
        cases = [dict(weighting=key) | evaluate(values, anomalous, weights[key], loss, reduction, beta)
                 for loss, reduction, key, beta in settings(name, anomalous)]
        del weights["off"]
        weights = {key: [rounded(w) for w in row] for key, row in weights.items()}
        written.append(dict(name=name, l=values, anomalous=anomalous, weights=weights, cases=cases))
        print(name, len(values), [c["total"] for c in cases if c["loss"] == "bgad"][:3])
    weightings = {key: constants | dict(cap=CAP) for key, constants in WEIGHTINGS.items() if constants}
    head = dict(normaliser=NORMALISER, tau=TAU, weightings=weightings, chunks=written)
    (OUT / "losses.json").write_text(json.dumps(head, separators=(",", ":")) + "\n")
    print((OUT / "losses.json").stat().st_size, "bytes")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
