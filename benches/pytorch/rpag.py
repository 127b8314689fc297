"""BGAD's pseudo-anomalies (RPAG) for grey images, in NumPy, SciPy and PyTorch: used by detectors.py.

A known anomaly is changed by three of ten random augmentations, together with its mask, and pasted onto a normal image; a
region of it of which too much would lie outside the picture is moved. Ranges and probabilities are those of `burn-ad`'s
default, the random numbers are not. Images are uint8 arrays, masks boolean ones.
"""

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from skimage.exposure import equalize_adapthist
from skimage.measure import label, regionprops
from torch.nn import functional as F

PICKS, INSIDE, PLACES, REDRAWS = 3, 2 / 3, 32, 8


def levels(values):
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def turn(image, mask, rng):
    quarters = rng.integers(4)
    return np.rot90(image, quarters).copy(), np.rot90(mask, quarters).copy()


def flip(image, mask, rng):
    axes = [(0,), (1,), (0, 1)][rng.integers(3)]
    return np.flip(image, axes).copy(), np.flip(mask, axes).copy()


def transpose(image, mask, rng):
    return image.T.copy(), mask.T.copy()


def warp(image, mask, source):
    """Each pixel from source(x, y), both from -1 to 1 between the centres of the outermost pixels; reflected beyond them."""
    height, width = image.shape
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    grid = torch.stack(source(x, y), -1)[None]
    options = dict(padding_mode="reflection", align_corners=True)
    moved = F.grid_sample(torch.from_numpy(image)[None, None].float(), grid, "bilinear", **options)
    marks = F.grid_sample(torch.from_numpy(mask)[None, None].float(), grid, "nearest", **options)
    return levels(moved[0, 0].numpy()), marks[0, 0].numpy() > 0.5


def optical(image, mask, rng, limit=1.0):
    k = rng.uniform(-limit, limit)

    def source(x, y):
        square = (x * x + y * y) / 4  # in units of the sides
        factor = 1 + k * square + k * square * square
        return x * factor, y * factor

    return warp(image, mask, source)


def shift_scale_rotate(image, mask, rng):
    height, width = image.shape
    down, right = rng.uniform(-0.125, 0.125, 2)
    scale, angle = 1 + rng.uniform(-0.2, 0.2), np.deg2rad(rng.uniform(-45, 45))

    def source(x, y):
        x, y = (x - right) * width, (y - down) * height
        cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
        return (cos * x + sin * y) / width, (cos * y - sin * x) / height

    return warp(image, mask, source)


def stretched_grid(image, mask, rng):
    def stretch():
        edges = np.concatenate([[0], np.cumsum(1 + rng.uniform(-0.3, 0.3, 5))])
        edges, even = 2 * edges / edges[-1] - 1, np.linspace(-1, 1, 6)
        return lambda x: torch.from_numpy(np.interp(x.numpy(), even, edges)).float()

    across, down = stretch(), stretch()
    return warp(image, mask, lambda x, y: (across(x), down(y)))


def moved_points(image, mask, rng):
    """A grid of 4 x 4 points moves; in between bilinear (burn-ad: affine on two triangles a cell)."""
    moves = torch.from_numpy(2 * rng.uniform(0.03, 0.05) * rng.standard_normal((1, 2, 4, 4))).float()
    moves = F.interpolate(moves, image.shape, mode="bilinear", align_corners=True)[0]
    return warp(image, mask, lambda x, y: (x + moves[0], y + moves[1]))


def distort(image, mask, rng):
    way = rng.choice(3, p=np.array([0.3, 0.1, 0.3]) / 0.7)
    return optical(image, mask, rng, 0.05) if way == 0 else (stretched_grid, moved_points)[way - 1](image, mask, rng)


def noise(image, mask, rng):
    return levels(image + np.sqrt(rng.uniform(10, 50)) * rng.standard_normal(image.shape)), mask


def filtered(image, kernel):
    return levels(ndimage.correlate(image.astype(np.float32), np.asarray(kernel, np.float32), mode="nearest"))


def blur(image, mask, rng):
    way = rng.choice(3, p=[0.5, 0.25, 0.25])
    if way == 1:
        return ndimage.median_filter(image, 3, mode="nearest"), mask
    if way == 2:
        return filtered(image, np.full((3, 3), 1 / 9)), mask
    side = rng.choice([3, 5, 7])
    (top, left), (bottom, right) = (divmod(place, side) for place in rng.choice(side * side, 2, replace=False))
    steps = max(abs(bottom - top), abs(right - left)) + 1
    kernel = np.zeros((side, side))
    kernel[np.rint(np.linspace(top, bottom, steps)).astype(int), np.rint(np.linspace(left, right, steps)).astype(int)] = 1 / steps
    return filtered(image, kernel), mask


def contrast(image, mask, rng):
    way = rng.integers(4)
    if way == 0:
        return levels(255 * equalize_adapthist(image, clip_limit=rng.uniform(1, 2) / 256)), mask
    if way == 3:
        return levels(image * (1 + rng.uniform(-0.2, 0.2)) + 255 * rng.uniform(-0.2, 0.2)), mask
    share = rng.uniform(0.2, 0.5)
    if way == 1:
        kernel = np.full((3, 3), -share)
        kernel[1, 1] = 1 - share + share * (8 + rng.uniform(0.5, 1.0))
    else:
        strength = rng.uniform(0.2, 0.7)
        far, near = share * (1 + strength), share * strength
        kernel = [[-far, -near, 0], [-near, 1, near], [0, near, far]]
    return filtered(image, kernel), mask


def brightness(image, mask, rng):
    """Hue, saturation and value: a grey image has only the last."""
    return levels(image + rng.uniform(-20, 20)), mask


AUGMENTATIONS = [(turn, 0.5), (flip, 0.5), (transpose, 0.5), (optical, 0.5), (noise, 0.2), (blur, 0.2), (shift_scale_rotate, 0.2),
                 (distort, 0.2), (contrast, 0.3), (brightness, 0.3)]


def augmented(image, mask, rng):
    for _ in range(REDRAWS):
        changed = image, mask
        for pick in rng.choice(len(AUGMENTATIONS), PICKS, replace=False):
            augmentation, probability = AUGMENTATIONS[pick]
            if rng.random() < probability:
                changed = augmentation(*changed, rng)
        if changed[1].any():
            return changed
    return image, mask


def scaled(image, mask, area):
    """In proportion, to about `area` pixels."""
    scale = np.sqrt(area / image.size)
    size = [max(1, round(side * scale)) for side in image.shape[::-1]]
    if size == list(image.shape[::-1]):
        return image, mask
    image = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)
    return np.array(image), np.array(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))


def pseudo_anomaly(normal, image, mask, rng):
    """(image, mask) of a normal image with the anomaly on it."""
    image, mask = augmented(*scaled(image, mask, normal.size), rng)
    made, marks = normal.copy(), np.zeros(normal.shape, bool)
    size = np.array(normal.shape)

    def inside(points):
        return ((points >= 0) & (points < size)).all(1)

    def paste(points, offset):
        kept = inside(points + offset)
        to, source = (points + offset)[kept], points[kept]
        made[to[:, 0], to[:, 1]] = image[source[:, 0], source[:, 1]]
        marks[to[:, 0], to[:, 1]] = True

    points, centring = np.argwhere(mask), (size - image.shape) // 2
    if not len(points):  # too small to survive scaling
        return made, marks
    if inside(points + centring).mean() > INSIDE:
        paste(points, centring)
        return made, marks
    regions = regionprops(label(mask))
    largest = max(regions, key=lambda region: region.area_bbox)
    margin = (np.array(largest.bbox[2:]) - largest.bbox[:2] + 1) // 2
    low, high = (margin, size - margin) if (2 * margin < size).all() else (np.zeros(2, int), size)
    for region in regions:
        offsets = rng.integers(low, high, (PLACES, 2)) - np.rint(region.centroid).astype(int)
        shares = [inside(region.coords + offset).mean() for offset in offsets]
        paste(region.coords, offsets[int(np.argmax(shares))])
    return made, marks
