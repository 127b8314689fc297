"""Independent float64 reference of the statistics and scores of N-pad, PaDiM and PatchCore on tiny random features.

How to run:  python tests/reference/npad.py tests/fixtures/npad/npad.json      (Python >= 3.9, numpy >= 1.23; nothing else)

Plain loops and `numpy.linalg`, written from the formulas, not from any other implementation. Conventions:
- features are [image, channel, row, column]; every list in the JSON is nested in that order; grid positions are (row, column);
- the neighbourhood of radius p around a position is the (2p+1) x (2p+1) square clipped at the border (no padding, no wrap-around);
- mean and covariance of a position are over all training images *and* all positions of its neighbourhood, every vector with weight one;
- the covariance is the unbiased sample covariance, divisor n - 1 with n = images x positions in the clipped neighbourhood,
  and eps is added to its diagonal after that division;
- the Mahalanobis distance is the square root of the quadratic form; N-pad's map is the minimum over the Gaussians of the
  test position's own clipped neighbourhood (same radius); PaDiM is p = 0, where there is one Gaussian to compare with;
- greedy k-centre: training vectors in the order (image, row, column), Euclidean distance, the first index is given as 0, the next
  is the vector farthest from the chosen ones, ties to the lowest index;
- PatchCore's image score (Roth et al., CVPR 2022, eq. 7): s* = the largest nearest-neighbour distance over the test patches, m* = the
  bank vector nearest to that patch, N_b(m*) = the b bank vectors nearest to m* (m* itself is one of them);
  score = (1 - exp(s*) / sum over m in N_b(m*) of exp(|patch - m|)) * s*. The sum runs over the b members, m* among them, so
  the weight is 1 - softmax and lies in [0, 1).
"""

import json
import pathlib
import sys

import numpy as np

TRAIN, TEST, CHANNELS, ROWS, COLUMNS = 6, 3, 7, 5, 6
EPS = 0.01
CORESET = 12
REWEIGHT = 3


def neighbourhood(row, column, radius):
    """Positions of the clipped square around (row, column), in row-major order."""
    return [
        (r, c)
        for r in range(max(0, row - radius), min(ROWS, row + radius + 1))
        for c in range(max(0, column - radius), min(COLUMNS, column + radius + 1))
    ]


def fit(train, radius):
    """Mean [row, column, D] and regularised covariance [row, column, D, D] of every position."""
    mean = np.zeros((ROWS, COLUMNS, CHANNELS))
    covariance = np.zeros((ROWS, COLUMNS, CHANNELS, CHANNELS))
    for row in range(ROWS):
        for column in range(COLUMNS):
            vectors = [
                train[image, :, r, c]
                for image in range(TRAIN)
                for r, c in neighbourhood(row, column, radius)
            ]
            centre = sum(vectors) / len(vectors)
            scatter = np.zeros((CHANNELS, CHANNELS))
            for vector in vectors:
                scatter += np.outer(vector - centre, vector - centre)
            mean[row, column] = centre
            covariance[row, column] = scatter / (len(vectors) - 1) + EPS * np.eye(CHANNELS)
    return mean, covariance


def mahalanobis_map(test, mean, covariance, radius):
    """[image, row, column]: distance to the closest Gaussian of the neighbourhood."""
    result = np.zeros((len(test), ROWS, COLUMNS))
    for image in range(len(test)):
        for row in range(ROWS):
            for column in range(COLUMNS):
                vector = test[image, :, row, column]
                distances = []
                for r, c in neighbourhood(row, column, radius):
                    difference = vector - mean[r, c]
                    form = difference @ np.linalg.solve(covariance[r, c], difference)
                    distances.append(np.sqrt(form))
                result[image, row, column] = min(distances)
    return result


def vectors_of(image):
    """Patches of one image [D, row, column] in row-major order."""
    return [image[:, row, column] for row in range(ROWS) for column in range(COLUMNS)]


def greedy_k_centre(vectors, count):
    """Indices of the chosen vectors, in the order of choice."""
    chosen = [0]
    while len(chosen) < count:
        distances = [min(np.linalg.norm(v - vectors[i]) for i in chosen) for v in vectors]
        chosen.append(int(np.argmax(distances)))  # numpy takes the first of equal values
    return chosen


def patchcore(image, bank):
    """(nearest-neighbour map [row, column], largest distance s*, re-weighted image score)."""
    patches = vectors_of(image)
    nearest = [min(np.linalg.norm(p - m) for m in bank) for p in patches]
    worst = int(np.argmax(nearest))
    patch, largest = patches[worst], nearest[worst]
    star = int(np.argmin([np.linalg.norm(patch - m) for m in bank]))
    order = np.argsort([np.linalg.norm(bank[star] - m) for m in bank], kind="stable")
    members = [bank[i] for i in order[:REWEIGHT]]
    # Shifting every exponent by s* leaves the quotient unchanged.
    total = sum(np.exp(np.linalg.norm(patch - m) - largest) for m in members)
    weight = 1.0 - 1.0 / total
    return np.array(nearest).reshape(ROWS, COLUMNS), largest, weight * largest


def main():
    generator = np.random.default_rng(0)
    # Rounded to what an f32 holds exactly, so that both sides read the same numbers.
    train = generator.normal(size=(TRAIN, CHANNELS, ROWS, COLUMNS)).astype(np.float32).astype(np.float64)
    test = generator.normal(size=(TEST, CHANNELS, ROWS, COLUMNS)).astype(np.float32).astype(np.float64)
    test[1, :, 2, 3] += 3.0  # an obvious defect, so that the maxima are not all chance
    test = test.astype(np.float32).astype(np.float64)

    fixture = {
        "shape": {"train": TRAIN, "test": TEST, "channels": CHANNELS, "rows": ROWS, "columns": COLUMNS},
        "eps": EPS,
        "covariance_divisor": "n - 1",
        "train": train.tolist(),
        "test": test.tolist(),
    }
    for name, radius in (("padim", 0), ("npad", 1)):
        mean, covariance = fit(train, radius)
        fixture[name] = {
            "radius": radius,
            "mean": mean.tolist(),
            # All of them would be most of the file: a corner, an edge and an inner position.
            "covariance": [
                {"row": r, "column": c, "matrix": covariance[r, c].tolist()}
                for r, c in ((0, 0), (0, 3), (2, 2), (4, 5))
            ],
            "map": mahalanobis_map(test, mean, covariance, radius).tolist(),
        }

    vectors = [v for image in range(TRAIN) for v in vectors_of(train[image])]
    indices = greedy_k_centre(vectors, CORESET)
    bank = [vectors[i] for i in indices]
    scored = [patchcore(image, bank) for image in test]
    fixture["patchcore"] = {
        "coreset": indices,
        "reweight": REWEIGHT,
        "map": [nearest.tolist() for nearest, _, _ in scored],
        "largest": [largest for _, largest, _ in scored],
        "score": [score for _, _, score in scored],
    }

    target = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "npad.json")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(fixture) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
