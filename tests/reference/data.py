"""Reference images for the data path: what Pillow and torchvision make of real photos.

Run:  python tests/reference/data.py        (writes tests/fixtures/data/)
Made with Python 3.11, Pillow 13.0.0, torchvision 0.29.2, numpy 2.4.6, scikit-image 0.26.0.

The photos are crops of scikit-image's public-domain or CC0 pictures coffee, chelsea, astronaut
and brick. Sources and results are stored as PNG, so decoding adds no difference of its own; the
lossy files are there to compare decoders. Pillow before 13 runs its two passes in another order
where rows are dropped and columns added (`chelsea.squash180.*`); all else is the same.
"""

import json
from pathlib import Path

import numpy as np
import torchvision.transforms as T
from PIL import Image
from skimage import data as photos
from torchvision.transforms import InterpolationMode

OUT = Path(__file__).resolve().parent.parent / "fixtures" / "data"
PILLOW = {"bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC, "lanczos": Image.LANCZOS}
TORCHVISION = {
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
    "lanczos": InterpolationMode.LANCZOS,
}


def crop(array, top, left, height, width):
    return Image.fromarray(np.ascontiguousarray(array[top : top + height, left : left + width]))


SOURCES = {
    # name: (picture, its geometry cases: (fit, size))
    "coffee": (crop(photos.coffee(), 100, 150, 150, 201), [("crop", 96), ("squash", 64)]),
    # Tall; at 64 the excess of the longer side is odd.
    "chelsea": (crop(photos.chelsea(), 40, 130, 197, 150), [("crop", 64), ("squash", 180)]),
    # Hard black and white edges, where negative lobes overshoot: order and clipping matter.
    "astronaut": (crop(photos.astronaut(), 300, 60, 80, 121), [("crop", 112), ("crop", 55)]),
    "brick": (crop(photos.brick(), 0, 0, 90, 140).convert("RGB"), [("crop", 37), ("squash", 50)]),
}


def reference(image, fit, size, mode):
    if fit == "crop":
        return T.CenterCrop(size)(T.Resize(size, TORCHVISION[mode])(image))
    return image.resize((size, size), PILLOW[mode])


def mask_reference(mask, fit, size):
    if fit == "crop":
        return T.CenterCrop(size)(T.Resize(size, InterpolationMode.NEAREST)(mask))
    return mask.resize((size, size), Image.NEAREST)


def blobs(size, seed):
    """A mask with thin and thick parts."""
    rng = np.random.default_rng(seed)
    width, height = size
    mask = np.zeros((height, width), np.uint8)
    for _ in range(6):
        y, x = rng.integers(0, height), rng.integers(0, width)
        h, w = rng.integers(1, 30, 2)
        mask[y : y + h, x : x + w] = rng.integers(1, 256)
    mask[height // 3] = 1
    return Image.fromarray(mask)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    for old in OUT.iterdir():
        old.unlink()
    cases = []
    for seed, (name, (image, geometries)) in enumerate(SOURCES.items()):
        image.save(OUT / f"{name}.png", optimize=True)
        mask = blobs(image.size, seed)
        mask.save(OUT / f"{name}.mask.png", optimize=True)
        for fit, size in geometries:
            target = f"{name}.{fit}{size}.mask.png"
            mask_reference(mask, fit, size).save(OUT / target, optimize=True)
            cases.append({"source": f"{name}.mask.png", "fit": fit, "size": size, "filter": None, "target": target})
            for mode in PILLOW:
                target = f"{name}.{fit}{size}.{mode}.png"
                reference(image, fit, size, mode).save(OUT / target, optimize=True)
                cases.append({"source": f"{name}.png", "fit": fit, "size": size, "filter": mode, "target": target})
    modes = colour_modes()
    boxes = centre_crops()
    (OUT / "cases.json").write_text(
        json.dumps({"resize": cases, "modes": modes, "centre_crop": boxes}, indent=1) + "\n"
    )


def colour_modes():
    """Files of every colour mode, and the RGB that a reader should get."""
    photo = crop(photos.coffee(), 120, 200, 40, 56)
    grey = photo.convert("L")
    pixels = np.asarray(photo)
    alpha = Image.fromarray((np.indices((40, 56)).sum(0) % 256).astype(np.uint8))
    wide = (np.asarray(grey).astype(np.uint32) * 257 + 100).clip(0, 65535).astype(np.uint16)
    # What is right for 16 bits is a matter of definition (v / 257); Pillow's own conversion clips.
    narrow = ((wide.astype(np.uint32) + 128) // 257).astype(np.uint8)
    rgba = photo.copy()
    rgba.putalpha(alpha)
    la = grey.copy()
    la.putalpha(alpha)
    palette = photo.convert("P", palette=Image.ADAPTIVE, colors=64)
    exif = Image.Exif()
    exif[0x0112] = 6
    files = {
        # file: (image, save options, expected RGB or None for what Pillow reads)
        "grey.png": (grey, {}, None),
        "grey-alpha.png": (la, {}, grey),
        "colour-alpha.png": (rgba, {}, photo),
        "palette.png": (palette, {}, None),
        "palette-transparent.png": (palette, {"transparency": 3}, None),
        "bilevel.png": (grey.convert("1"), {}, None),
        "grey16.png": (Image.fromarray(wide), {}, Image.fromarray(narrow)),
        "grey16.tif": (Image.fromarray(wide), {"compression": "tiff_lzw"}, Image.fromarray(narrow)),
        "colour.tif": (photo, {"compression": "tiff_adobe_deflate"}, photo),
        "colour.bmp": (photo, {}, photo),
        "grey.bmp": (grey, {}, grey),
        "lossless.webp": (photo, {"lossless": True}, photo),
        "turned.png": (photo, {"exif": exif}, photo),
        "colour.jpg": (photo, {"quality": 90}, None),
        "subsampled.jpg": (photo, {"quality": 85, "subsampling": 2}, None),
        "progressive.jpg": (photo, {"quality": 85, "progressive": True}, None),
        "grey.jpg": (grey, {"quality": 90}, None),
        "cmyk.jpg": (photo.convert("CMYK"), {"quality": 90}, None),
        "lossy.webp": (photo, {"quality": 80}, None),
    }
    modes = []
    for name, (image, options, expected) in files.items():
        image.save(OUT / name, **options)
        if expected is None:
            expected = Image.open(OUT / name)
        target = name.replace(".", "-") + ".rgb.png"
        expected.convert("RGB").save(OUT / target, optimize=True)
        modes.append({"source": name, "target": target})
    # Not an image we accept, but one that Pillow writes: floating point.
    Image.fromarray(pixels[..., 0].astype(np.float32) / 255).save(OUT / "float.tif")
    return modes


def centre_crops():
    """Resized size and crop corner for many shapes, by torchvision's own functions."""
    from torchvision.transforms.functional import _compute_resized_output_size

    rows = []
    rng = np.random.default_rng(0)
    shapes = [(1, 1000), (1000, 1), (1, 1), (2, 3), (199, 200), (200, 199), (640, 480)]
    shapes += [tuple(int(v) for v in rng.integers(1, 700, 2)) for _ in range(60)]
    for height, width in shapes:
        for size in (1, 17, 64, 256):
            scaled = _compute_resized_output_size((height, width), [size])
            top = int(round((scaled[0] - size) / 2.0))
            left = int(round((scaled[1] - size) / 2.0))
            rows.append([height, width, size, *scaled, top, left])
    return rows


if __name__ == "__main__":
    main()
