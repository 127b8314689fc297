"""Times `burn-ad demo`, and N-pad and BGAD on magnetic tile (`burn-ad train` and `eval`), beside PyTorch scripts of the same.

    cargo build --release
    python benches/pytorch/whole_commands.py --data MAGNETIC_TILE --weights LITE0 [--only demo,npad,bgad] [--rounds 1]
                                             [--threads 2] [--best] [--workers N] [--out DIR] [--markdown FILE] [--json FILE]

LITE0 is an imported tf_efficientnet_lite0 (`burn-ad weights fetch efficientnet_lite0`). Every side is a fresh process; in each
round the two sides of a work follow each other, in an order that alternates after the first round. Seconds are wall time
with start-up (burn-ad: both commands together), memory is the peak resident set of a process (burn-ad: of the larger
command). Several rounds: medians.

demo   metal plate, ResNet-18 with burn-ad's random weights, N-pad's Gaussians. PyTorch reads the images that burn-ad drew;
       what `burn-ad data synth` takes for the same images is timed beside it, and the ratio is without it, too.
npad   EfficientNet-Lite0 at 256 x 256, default settings.
bgad   the same at 128 x 128, RPAG, no weights, 10 known anomalies of each kind, seed 0: benches/bgad-magnetic-tile.sh.

What runs in PyTorch, in one process a work: detectors.py, npad.py, bgad.py, rpag.py. Test images, known anomalies, settings and
the demo's random weights and projection are those of burn-ad's model and predictions. Other random numbers are not: a model does
not name the images kept aside for the threshold, so others are drawn, and k-means, flows and augmentations begin elsewhere. With
the same images kept aside, the demo's scores agree to 1e-5, N-pad's to 2e-2 with the same centroids (JPEG decoders differ by up to
2/255); other centroids change its image AUROC by 0.003.

Left out on PyTorch's side: report.html, figures by kind, average precision, F1, PRO by image, training's log and checkpoints.
AUPRO is the published loop over 200 thresholds. It takes much of the time, so the second table has the seconds without metrics; on
the demo's equal scores it gives 0.003 less than the exact area.

--limit N learns from N images and tests N of each kind: whether everything works, not how fast. Run it while nothing else runs.
Made with: Python 3.11, torch 2.15, timm 1.0.31, FrEIA 0.2, scikit-learn 1.9.1, scikit-image 0.26, SciPy 1.17.
"""

import argparse
import csv
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from flow_step import DISTURBED, IDLE, environment, publish

# Nothing large is imported here, nor by flow_step: a child's peak memory begins with that of its parent.
OURS, PYTORCH = "burn-ad", "PyTorch"
BGAD = ["--method", "bgad", "--size", "128", "--fit", "squash", "--anomalies-per-kind", "10",
        "--set", "method.schedule.meta_epochs=6", "--set", "method.schedule.sub_epochs=4", "--set", "method.schedule.warm_up=1",
        "--set", "method.schedule.vector_share=0.1", "--set", "method.schedule.chunk=1024",
        "--set", "method.schedule.learning_rate=3e-3", "--set", "method.schedule.versions=4",
        "--set", "method.loss.weights.enabled=false"]
NAMES = {"demo": "demo", "npad": "N-pad, magnetic tile, 256 x 256", "bgad": "BGAD, magnetic tile, 128 x 128"}
HEATMAPS = {"demo": 10 ** 9, "npad": 64, "bgad": 64}  # the commands' defaults
SCORES = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC", "aupro": "AUPRO"}


def run(command, options, log):
    """(seconds, MiB) of a process."""
    with open(log, "ab") as output:
        start = time.perf_counter()
        process = subprocess.Popen([str(part) for part in command], env=environment(options.threads), stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        last = Path(log).read_text(errors="replace").replace("\r", "\n").strip().splitlines()[-5:]
        sys.exit("\n".join([f"{' '.join(str(part) for part in command)}\nended with code {process.returncode}:", *last]))
    return seconds, usage.ru_maxrss / 1024


class Work:
    def __init__(self, name, options, out):
        self.name, self.options, self.out = name, options, out / name
        self.out.mkdir(parents=True, exist_ok=True)
        self.log = self.out / "log.txt"
        self.runs = {OURS: [], PYTORCH: []}
        self.drawing = []
        self.data = self.out / "demo" / "data" / "metal-plate" if name == "demo" else Path(options.data)
        folder = self.out / "demo" if name == "demo" else self.out
        self.model, self.results = folder / "model", folder / "results"

    def commands(self):
        """The commands of burn-ad that are timed."""
        program, machine = self.options.ours, ["--threads", self.options.threads, "--overwrite"]
        if self.name == "demo":
            return [[program, "demo", "-o", self.out / "demo", *machine]]
        limit = self.options.limit
        limits = ["--train-limit", limit, "--test-limit", limit] if limit else []
        weights = ["--weights", self.options.weights]
        settings = BGAD if self.name == "bgad" else []
        return [[program, "train", self.data, "-o", self.model, *weights, *settings, *limits, *machine],
                [program, "eval", self.model, self.data, "-o", self.results, *weights, *machine]]

    def take_turn(self, side):
        if side == PYTORCH:
            seconds, memory = run([sys.executable, Path(__file__).with_name("detectors.py"), self.job()], self.options, self.log)
        else:
            parts = [run(command, self.options, self.log) for command in self.commands()]
            seconds, memory = sum(part[0] for part in parts), max(part[1] for part in parts)
            if self.name == "demo":
                synth = [self.options.ours, "data", "synth", self.out / "synth", "--overwrite"]
                self.drawing.append(run(synth, self.options, self.log)[0])
        self.runs[side].append(dict(seconds=seconds, mib=memory, **self.figures(side)))
        last = self.runs[side][-1]
        print(f"{NAMES[self.name]}: {side} {last['seconds']:.1f} s, {last['mib']:.0f} MiB", file=sys.stderr, flush=True)

    def figures(self, side):
        """What a side measured last."""
        if side == PYTORCH:
            return json.loads((self.out / "pytorch" / "results.json").read_text())
        found = json.loads((self.results / "metrics.json").read_text())
        return dict(image_auroc=found["image"]["auroc"], pixel_auroc=found["pixel"]["auroc"], aupro=found["pixel"]["aupro"])

    def job(self):
        """What detectors.py is to do: what burn-ad's model and predictions say that burn-ad did."""
        header = json.loads((self.model / "model.json").read_text())
        with open(self.results / "predictions.csv", newline="") as file:
            test = [sample(Path(row["path"])) for row in csv.DictReader(file)]
        tested = {each["image"] for each in test}
        normal = self.data / "train" / "good" if self.name == "demo" else self.data / "MT_Free" / "Imgs"
        train = sorted(str(path) for path in normal.iterdir() if path.suffix in (".jpg", ".png") and is_picture(path))
        train = [path for path in train if path not in tested]
        generator = random.Random(header["training"]["seed"])
        count, held = header["training"]["images"], header["calibration"]["images"]
        if self.options.limit:
            train = generator.sample(train, min(count, len(train)))
        if len(train) != count:
            sys.exit(f"burn-ad learnt from {count} images, but {len(train)} are not in its predictions")
        held_out = sorted(generator.sample(train, held))
        out = self.out / "pytorch"
        out.mkdir(exist_ok=True)
        known = [self.data.joinpath(name) for name in header["training"]["known_anomalies"]]
        job = dict(method=header["method"]["name"], settings=header["method"]["settings"], preprocess=header["preprocess"],
                   backbone=header["backbone"]["arch"], weights=str(self.weights()), model=str(self.model / "model.safetensors"),
                   seed=header["training"]["seed"], target_fpr=header["calibration"]["target_fpr"], held_out=held_out,
                   fit=[path for path in train if path not in set(held_out)], test=test,
                   anomalies=[(str(path), sample(path)["mask"]) for path in known], heatmaps=HEATMAPS[self.name], out=str(out),
                   threads=self.options.threads, best=self.options.best, workers=self.options.workers, batch=self.options.batch)
        path = self.out / "job.json"
        path.write_text(json.dumps(job, indent=1))
        return path

    def weights(self):
        """The backbone of the demo exists in memory only: a small training with the same seed writes it (not timed)."""
        if self.name != "demo":
            return self.options.weights
        folder = self.out / "weights"
        if not folder.exists():
            run([self.options.ours, "train", self.data, "-o", folder, "--random-weights", "--backbone", "resnet18",
                 "--with-backbone", "--train-limit", 4], self.options, self.log)
        drawn, demo = (json.loads((path / "model.json").read_text())["backbone"]["digest"] for path in (folder, self.model))
        if drawn != demo:
            sys.exit("the random weights that `burn-ad train` draws are not those of the demo")
        return folder / "backbone.safetensors"

    def summary(self):
        sides = {}
        for side, runs in self.runs.items():
            middle = {key: statistics.median(run[key] for run in runs) for key in ("seconds", "mib", *SCORES)}
            sides[side] = middle | dict(runs=runs)
        phases = [run["phases"] for run in self.runs[PYTORCH]]
        sides[PYTORCH]["phases"] = {name: statistics.median(run[name] for run in phases) for name in phases[0]}
        drawing = statistics.median(self.drawing) if self.drawing else 0.0
        return dict(name=self.name, work=NAMES[self.name], drawing_s=drawing, sides=sides,
                    ratio=sides[PYTORCH]["seconds"] / sides[OURS]["seconds"])


def is_picture(path):
    """Magnetic tile has a mask beside each picture, of the same name."""
    return path.suffix == ".jpg" or not path.with_suffix(".jpg").exists()


def sample(path):
    """Kind and mask of a test image, from where it lies."""
    if path.parent.name == "Imgs":
        kind = path.parent.parent.name.removeprefix("MT_").lower()
        kind, mask = "good" if kind == "free" else kind, path.with_suffix(".png")
    else:
        kind = path.parent.name
        mask = path.parents[2] / "ground_truth" / kind / f"{path.stem}_mask.png"
    anomalous = kind != "good"
    return dict(image=str(path), kind=kind, anomalous=anomalous, mask=str(mask) if anomalous else None)


def markdown(rows, facts):
    lines = ["| work | burn-ad s, MiB | PyTorch s, MiB | ratio of seconds |", "| --- | ---: | ---: | ---: |"]
    for row in rows:
        ours, other = row["sides"][OURS], row["sides"][PYTORCH]
        cells = [f"{side['seconds']:.1f} s, {side['mib']:.0f} MiB" for side in (ours, other)]
        lines.append(f"| {row['work']} | {cells[0]} | {cells[1]} | {row['ratio']:.2f} |")
        if row["drawing_s"]:
            rest, pytorch = ours["seconds"] - row["drawing_s"], other["seconds"]
            lines.append(f"| the same, without drawing the images | {rest:.1f} s | {pytorch:.1f} s | {pytorch / rest:.2f} |")
    phases = list(rows[0]["sides"][PYTORCH]["phases"])
    lines += ["", f"| PyTorch, s | start | {' | '.join(phases)} | without metrics |", "| --- |" + " ---: |" * (len(phases) + 2)]
    for row in rows:
        found = row["sides"][PYTORCH]
        seconds, of = found["seconds"], found["phases"]
        cells = [seconds - sum(of.values()), *of.values(), seconds - of["metrics"]]
        lines.append(f"| {row['work']} | " + " | ".join(f"{cell:.1f}" for cell in cells) + " |")
    titles = " | ".join(f"{name}, burn-ad and PyTorch" for name in SCORES.values())
    lines += ["", f"| work | {titles} |", "| --- | ---: | ---: | ---: |"]
    for row in rows:
        ours, other = row["sides"][OURS], row["sides"][PYTORCH]
        lines.append(f"| {row['work']} | " + " | ".join(f"{ours[key]:.4f}, {other[key]:.4f}" for key in SCORES) + " |")
    way = "folded, channels-last" if facts["best"] else "eager"
    lines += ["", f"{facts['cpu']}, {facts['threads']} threads of {facts['cores']} cores, {facts['capability']}; "
              f"torch {facts['torch']} ({way}), {facts['burn_ad']}; {facts['rounds']} rounds; "
              f"load {facts['load_before']} before, {facts['load_after']} after; {facts['date']}"]
    if facts["load_before"] > IDLE:
        lines += ["", DISTURBED]
    if facts["limit"]:
        lines += ["", f"**Only {facts['limit']} images: these figures say nothing about speed or quality.**"]
    return "\n".join(lines) + "\n"


def options_of():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ours", default="target/release/burn-ad", help="the command [default: %(default)s]")
    parser.add_argument("--data", help="folder of magnetic tile: MT_Free, MT_Blowhole, ...")
    parser.add_argument("--weights", help="imported tf_efficientnet_lite0")
    parser.add_argument("--only", default="demo,npad,bgad", help="works, separated by commas [default: %(default)s]")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=8, help="PyTorch: images a pass [default: %(default)s, as burn-ad]")
    parser.add_argument("--workers", type=int, default=0, help="PyTorch: processes that read images [default: %(default)s]")
    parser.add_argument("--best", action="store_true", help="PyTorch: backbone folded and channels-last")
    parser.add_argument("--limit", type=int, help="images to learn from, and to test of each kind (not for demo)")
    parser.add_argument("--out", help="folder for models and results [default: a temporary one]")
    parser.add_argument("--json", help="file for every single time")
    parser.add_argument("--markdown", help="file for the tables")
    options = parser.parse_args()
    options.only = options.only.split(",")
    if wrong := set(options.only) - set(NAMES):
        parser.error(f"--only knows {', '.join(NAMES)}, not {', '.join(sorted(wrong))}")
    if min(options.rounds, options.threads, options.batch) < 1 or options.workers < 0:
        parser.error("--rounds, --threads and --batch must be at least 1, --workers at least 0")
    if options.limit is not None and options.limit < 20:
        parser.error("--limit must be at least 20: BGAD takes 10 anomalies of each kind")
    if not os.access(options.ours, os.X_OK) or not Path(options.ours).is_file():
        parser.error(f"there is no program {options.ours}: build it with `cargo build --release`, or name it with --ours")
    options.ours = str(Path(options.ours).resolve())
    if set(options.only) - {"demo"}:
        if not options.data or not (Path(options.data) / "MT_Free" / "Imgs").is_dir():
            parser.error("--data must name the folder of magnetic tile, with MT_Free/Imgs, MT_Blowhole/Imgs, ...")
        if not options.weights or not Path(options.weights).is_file():
            parser.error("--weights must name an imported tf_efficientnet_lite0: `burn-ad weights fetch efficientnet_lite0`")
    return options


def measure(options, out):
    load = round(os.getloadavg()[0], 2)
    if load > IDLE:
        print("other programs are running: torch's threads wait for each other and suffer most", file=sys.stderr)
    rows = []
    for name in options.only:
        work = Work(name, options, out)
        for number in range(options.rounds):
            for side in (OURS, PYTORCH) if number % 2 == 0 else (PYTORCH, OURS):
                work.take_turn(side)
        rows.append(work.summary())
    version = subprocess.run([options.ours, "--version"], capture_output=True, text=True).stdout.strip()
    facts = rows[0]["sides"][PYTORCH]["runs"][0]["machine"] | dict(
        load_before=load, load_after=round(os.getloadavg()[0], 2), burn_ad=version, rounds=options.rounds, best=options.best,
        limit=options.limit, date=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
    publish(markdown(rows, facts), facts, rows, options)


def main():
    options = options_of()
    if options.out:
        return measure(options, Path(options.out))
    with tempfile.TemporaryDirectory() as out:
        measure(options, Path(out))


if __name__ == "__main__":
    main()
