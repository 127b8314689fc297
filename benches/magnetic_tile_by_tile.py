"""Rearranges the magnetic-tile images so that no tile is in both training and test set (MVTec AD layout, symbolic links).

How to run:  python benches/magnetic_tile_by_tile.py FOLDER OUT [SEED]      (Python >= 3.9, nothing else)

Why: each tile was photographed about six times under different exposures (exp1 to exp6). A random split of the images, which the
literature uses and `burn-ad train` does by default, puts shots of one tile on both sides, so a detector can recognise test
normals instead of judging them. The number in a file's name counts exposures; shots of one tile have numbers at most 60 apart.
That grouping is our reading of the file names, not the authors' statement.
"""

import pathlib
import random
import re
import sys

GAP = 60
TRAIN_SHARE = 0.8


def tiles(images):
    """Images whose counters lie close together, in groups."""
    number = lambda path: int(re.search(r"_num_(\d+)", path.name).group(1))
    groups = []
    for path in sorted(images, key=lambda path: (number(path), path.name)):
        if groups and number(path) - number(groups[-1][-1]) <= GAP:
            groups[-1].append(path)
        else:
            groups.append([path])
    return groups


def link(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(source.resolve())


def main():
    root, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    if out.exists():
        sys.exit(f"{out} exists: remove it first")
    free = list((root / "MT_Free" / "Imgs").glob("*.jpg"))
    groups = tiles(free)
    random.Random(seed).shuffle(groups)
    trained = 0
    for group in groups:
        train = trained + len(group) <= TRAIN_SHARE * len(free)
        trained += len(group) if train else 0
        for path in group:
            link(path, out / ("train" if train else "test") / "good" / path.name)
    for folder in sorted(root.glob("MT_*")):
        kind = folder.name[3:].lower()
        if kind == "free":
            continue
        for path in sorted((folder / "Imgs").glob("*.jpg")):
            link(path, out / "test" / kind / path.name)
            link(path.with_suffix(".png"), out / "ground_truth" / kind / f"{path.stem}_mask.png")
    print(f"{len(groups)} tiles, {trained} images to train on, {len(free) - trained} normal images to test on")


if __name__ == "__main__":
    main()
