"""Makes one dataset of several real products (MVTec AD layout, one folder a product): what HGAD's comparison learns from.

How to run:  python benches/products.py OUT --tile FOLDER [--train 60] [--test 40] [--seed 0]
             (Python >= 3.9; pip install numpy pillow scikit-image)

Products:
  tile    the magnetic tiles of Huang, Qiu, Yuan with their real defects, split so that no tile is in both sets
          (as benches/magnetic_tile_by_tile.py does)
  brick, grass, gravel (CC0), tissue (ihc.png, no known restrictions): textures cut from photographs that come
          with scikit-image. Training images come from the left part of a photograph, test images from the right
          one; the two share no pixel. Defects are pieces of real texture with soft, irregular outlines: `foreign`
          is cut from another photograph, `enlarged` from this one at twice the scale. Pieces get the mean
          brightness of what they cover, so that brightness alone does not give them away.
The sixth product, the demo's metal plate, is drawn by `burn-ad data synth`.
"""

import argparse
import pathlib
import random
import shutil
import sys

import numpy as np
import skimage
from PIL import Image
from skimage.filters import gaussian

from magnetic_tile_by_tile import tiles

TEXTURES = {"brick": "brick.png", "grass": "grass.png", "gravel": "gravel.png", "tissue": "ihc.png"}
OTHERS = ["brick.png", "grass.png", "gravel.png", "ihc.png", "chelsea.png", "coffee.png", "rocket.jpg"]
# Sides of a cut and of a piece of it, in pixels of the photograph.
CUT = 160
PIECE = 64
TRAIN_SHARE = 0.6


def photographs():
    folder = pathlib.Path(skimage.__file__).parent / "data"
    return {name: Image.open(folder / name).convert("RGB") for name in OTHERS}


def window(image, rng, left, right, side):
    """A square of an image whose columns lie in left..right."""
    x = rng.randint(left, right - side)
    y = rng.randint(0, image.height - side)
    return image.crop((x, y, x + side, y + side))


def outline(rng):
    """An irregular blob in 0..1, [PIECE, PIECE]: smooth noise, cut at a level and softened, with a free margin."""
    numbers = np.random.default_rng(rng.getrandbits(32)).normal(size=(PIECE, PIECE))
    noise = gaussian(numbers, 5)
    y, x = np.mgrid[:PIECE, :PIECE] / (PIECE - 1) * 2 - 1
    height = noise / noise.std() * 0.4 + 2 - 4 * np.sqrt(x**2 + y**2)
    return gaussian((height > 0).astype(float), 1)


def plant(image, piece, rng):
    """The image with the piece in it, and the mask of what changed."""
    pixels, blob = np.asarray(image, float), outline(rng)
    x, y = (rng.randint(0, CUT - PIECE) for _ in range(2))
    below = pixels[y : y + PIECE, x : x + PIECE]
    above = np.asarray(piece, float)
    weight = blob.sum()
    shift = ((below - above) * blob[..., None]).sum((0, 1)) / weight
    mixed = below * (1 - blob[..., None]) + (above + shift) * blob[..., None]
    pixels = pixels.copy()
    pixels[y : y + PIECE, x : x + PIECE] = mixed
    mask = np.zeros((CUT, CUT), np.uint8)
    mask[y : y + PIECE, x : x + PIECE] = 255 * (blob > 0.5)
    return Image.fromarray(np.uint8(np.clip(pixels.round(), 0, 255))), Image.fromarray(mask)


def save(image, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def texture(out, name, images, options):
    rng = random.Random(f"{options.seed} {name}")
    own = images[TEXTURES[name]]
    border = int(own.width * TRAIN_SHARE)
    cut = lambda left, right: window(own, rng, left, right, CUT)
    for index in range(options.train):
        save(cut(0, border), out / "train" / "good" / f"{index:03}.png")
    for index in range(options.test // 2):
        save(cut(border, own.width), out / "test" / "good" / f"{index:03}.png")
    grey = name != "tissue"
    others = [other for file, other in images.items() if file != TEXTURES[name]]
    for index in range(options.test // 4):
        for kind in ["foreign", "enlarged"]:
            if kind == "foreign":
                other = rng.choice(others)
                piece = window(other, rng, 0, other.width, PIECE)
            else:
                piece = window(own, rng, border, own.width, PIECE // 2).resize((PIECE, PIECE), Image.Resampling.BICUBIC)
            if grey:
                piece = piece.convert("L").convert("RGB")
            image, mask = plant(cut(border, own.width), piece, rng)
            save(image, out / "test" / kind / f"{index:03}.png")
            save(mask, out / "ground_truth" / kind / f"{index:03}_mask.png")


def copy(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def magnetic_tile(root, out, options):
    rng = random.Random(f"{options.seed} tile")
    groups = tiles(list((root / "MT_Free" / "Imgs").glob("*.jpg")))
    if not groups:
        sys.exit(f"{root} holds no MT_Free/Imgs/*.jpg")
    rng.shuffle(groups)
    half = len(groups) // 2
    for part, groups, count in [("train", groups[:half], options.train), ("test", groups[half:], options.test // 2)]:
        images = [path for group in groups for path in group]
        for path in rng.sample(images, min(count, len(images))):
            copy(path, out / part / "good" / path.name)
    kinds = [folder for folder in sorted(root.glob("MT_*")) if folder.name != "MT_Free"]
    for folder in kinds:
        kind = folder.name[3:].lower()
        images = sorted((folder / "Imgs").glob("*.jpg"))
        for path in rng.sample(images, min(options.test // 2 // len(kinds), len(images))):
            copy(path, out / "test" / kind / path.name)
            copy(path.with_suffix(".png"), out / "ground_truth" / kind / f"{path.stem}_mask.png")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--tile", type=pathlib.Path, required=True, help="folder of the magnetic-tile dataset")
    parser.add_argument("--train", type=int, default=60, help="training images a product")
    parser.add_argument("--test", type=int, default=40, help="test images a product, half of them defective")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.out.exists():
        sys.exit(f"{options.out} exists: remove it first")
    images = photographs()
    magnetic_tile(options.tile, options.out / "tile", options)
    for name in TEXTURES:
        texture(options.out / name, name, images, options)
    print(f"{len(TEXTURES) + 1} products in {options.out}")


if __name__ == "__main__":
    main()
