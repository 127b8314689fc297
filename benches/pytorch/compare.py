"""Times the works of `burn-ad bench` in PyTorch and in burn-ad, taking turns on the same cores, and prints ratios.

    cargo build --release
    python benches/pytorch/compare.py [--only features,scoring] [--batch 1,8] [--threads 2] [--rounds 7] [--processes 1]
                                      [--json FILE] [--markdown FILE]

A ratio is PyTorch's median by ours: above 1 we are faster. The ratio of the minima stands beside it: other programs harm it
less. "eager" is PyTorch as users run it (torchvision and timm models, eval and inference_mode); further rows are its best:
BatchNorm folded and channels-last, a matrix product instead of cdist. What is run: works.py; the sizes come from
`burn-ad bench --worker`, so both sides do the same.

One worker process of burn-ad and this process take turns: in each round each side runs the work a few times (about
--slice seconds), in an order that alternates from round to round, with a pause between that lets the threads of the other
side fall asleep. Before the first round both have warmed up. Run it while nothing else runs: the load is printed.

PyTorch's times differ by up to two fifths from one process to the next (where its memory comes to lie, and what the system's pages
for it cost), and stay the same within one. --processes N measures N times with fresh processes of both sides, pools all their times, and
shows the ratio of each. They also depend on what ran before in the process: for a network as a program of its own would run it,
give one at a time with --backbones.

--backend cuda --device cuda compares on a GPU. Options after `--` go to `burn-ad bench`: compare.py -- --size 224
Made with: Python 3.11, torch 2.15, torchvision 0.29, timm 1.0.31, FrEIA 0.2, scikit-learn 1.9.1, scikit-image 0.26.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

import works
from flow_step import DISTURBED, IDLE, machine, publish

OURS = "burn-ad"
MOST_RUNS = 50


class Worker:
    """`burn-ad bench --worker`, which times itself."""

    def __init__(self, program, arguments, threads):
        environment = os.environ | {"RAYON_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen([program, "bench", "--worker", *arguments], env=environment, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.facts = self.answer()
        self.works = self.facts.pop("works")

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"burn-ad ended with code {self.process.wait()}")
        reply = json.loads(line)
        if "error" in reply:
            sys.exit(f"burn-ad: {reply['error']}")
        return reply

    def run(self, name, runs):
        self.process.stdin.write(f"{name} {runs}\n")
        self.process.stdin.flush()
        return self.answer()["ms"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def timer(call, device):
    """A function of a number of runs that gives their milliseconds."""
    def run(runs):
        times = []
        for _ in range(runs):
            start = time.perf_counter()
            call()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append((time.perf_counter() - start) * 1000)
        return times
    return run


def take_turns(sides, options):
    """{side: all its milliseconds}. Each has as many runs a round as fill the slice."""
    runs = {}
    for name, run in sides.items():
        run(1)
        once = min(run(1))
        runs[name] = max(1, min(MOST_RUNS, round(options.slice * 1000 / once)))
    times = {name: [] for name in sides}
    for number in range(options.rounds):
        order = list(sides)
        for name in order[::1 if number % 2 == 0 else -1]:
            time.sleep(options.pause)
            times[name].append(sides[name](runs[name]))
    return times


def summary(rounds):
    values = [value for times in rounds for value in times]
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
    return dict(median_ms=middle, quartiles_ms=[low, high], minimum_ms=min(values), rounds_ms=rounds)


def compare(found):
    """A row's two sides from the summaries of all of them: ours, and the others with their ratios to it."""
    ours = found.pop(OURS)
    for other in found.values():
        other["ratio"] = other["median_ms"] / ours["median_ms"]
        other["ratio_of_minima"] = other["minimum_ms"] / ours["minimum_ms"]
    return dict(burn_ad=ours, pytorch=found)


def fresh_processes(options, arguments):
    """Facts and rows of several runs of this script with all their times together."""
    results = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "times.json"
        for number in range(options.processes):
            before = " (a load is that of the ones before)" if number > 0 else ""
            print(f"processes {number + 1} of {options.processes}{before}", file=sys.stderr)
            own = ["--processes", "1", "--json", str(file), "--markdown", str(Path(folder) / "table.md")]
            split = arguments.index("--") if "--" in arguments else len(arguments)
            command = [sys.executable, __file__, *arguments[:split], *own, *arguments[split:]]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            results.append(json.loads(file.read_text()))
    facts, rows = results[0]["machine"], []
    facts |= dict(processes=options.processes, load_after=results[-1]["machine"]["load_after"])
    for row in results[0]["works"]:
        same = [other for result in results for other in result["works"] if other["name"] == row["name"]]
        both = {OURS: [other["burn_ad"] for other in same]}
        both |= {way: [other["pytorch"][way] for other in same] for way in row["pytorch"]}
        pooled = {side: summary([times for found in all_found for times in found["rounds_ms"]]) for side, all_found in both.items()}
        together = row | compare(pooled)
        for way, found in together["pytorch"].items():
            found["ratios_of_processes"] = [other["pytorch"][way]["ratio"] for other in same]
        rows.append(together)
    return facts, rows


def markdown(rows, facts):
    lines = ["| work | burn-ad, ms | PyTorch | PyTorch, ms | ratio | of minima | target |",
             "| --- | ---: | --- | ---: | ---: | ---: | ---: |"]
    several = "processes" in facts
    if several:
        lines = [line + more for line, more in zip(lines, [" by process |", " --- |"])]
    for row in rows:
        for index, (way, found) in enumerate(row["pytorch"].items()):
            target = row["target"] if index == 0 and row["target"] else None
            cells = [row["work"], digits(row["burn_ad"]["median_ms"]), way, digits(found["median_ms"]), f"{found['ratio']:.2f}",
                     f"{found['ratio_of_minima']:.2f}", f">= {target:g}" if target else "-"]
            if several:
                cells.append(", ".join(f"{ratio:.2f}" for ratio in found["ratios_of_processes"]))
            lines.append("| " + " | ".join(cells) + " |")
    lines += ["", f"{facts['cpu']}, {facts['threads']} threads of {facts['cores']} cores, {facts['capability']}; torch {facts['torch']} on "
              f"{facts['device']}, burn-ad {facts['burn_ad']['versions']['burn_ad']} on {facts['burn_ad']['backend']}; {facts['rounds']} rounds"
              f"{' in each of ' + str(facts['processes']) + ' processes' if several else ''}; "
              f"load {facts['load_before'][0]} before, {facts['load_after'][0]} after; {facts['date']}"]
    if facts["load_before"][0] > IDLE:
        lines += ["", DISTURBED]
    return "\n".join(lines) + "\n"


def digits(ms):
    return f"{ms:.1f}" if ms >= 100 else f"{ms:.2f}" if ms >= 10 else f"{ms:.3f}"


def commit():
    folder = Path(__file__).parent
    result = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=folder, capture_output=True, text=True)
    return result.stdout.strip() or None


def options_of(arguments):
    own, ours = (arguments[:arguments.index("--")], arguments[arguments.index("--") + 1:]) if "--" in arguments else (arguments, [])
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ours", default="target/release/burn-ad", help="the command [default: %(default)s]")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--processes", type=int, default=1, help="measure so many times with fresh processes [default: %(default)s]")
    parser.add_argument("--slice", type=float, default=0.5, help="seconds of one side in one round")
    parser.add_argument("--pause", type=float, default=0.2, help="seconds between two sides")
    parser.add_argument("--device", default="cpu", help="PyTorch's device")
    parser.add_argument("--json", help="file for every single time")
    parser.add_argument("--markdown", help="file for the table")
    for name in ("backend", "only", "backbones", "batch"):
        parser.add_argument(f"--{name}", help="as of `burn-ad bench`")
    parser.add_argument("--quick", action="store_true", help="as of `burn-ad bench`: whether everything works")
    options = parser.parse_args(own)
    if min(options.rounds, options.threads, options.processes) < 1:
        parser.error("--rounds, --threads and --processes must be at least 1")
    given = [(f"--{name}", getattr(options, name)) for name in ("backend", "only", "backbones", "batch")]
    options.arguments = [text for name, value in given if value for text in (name, value)]
    options.arguments += ["--threads", str(options.threads), *(["--quick"] if options.quick else []), *ours]
    return options


def main():
    options = options_of(sys.argv[1:])
    facts, rows = fresh_processes(options, sys.argv[1:]) if options.processes > 1 else one_process(options)
    publish(markdown(rows, facts), facts, rows, options)


def one_process(options):
    """Facts about the machine, and a row for each work."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    device = torch.device(options.device)
    worker = Worker(options.ours, options.arguments, options.threads)
    facts = machine(options.threads) | dict(device=str(device), burn_ad=worker.facts, rounds=options.rounds, commit=commit(),
                                            date=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
    print(json.dumps(facts), file=sys.stderr)
    if facts["load_before"][0] > IDLE:
        print("other programs are running: torch's threads wait for each other and suffer most", file=sys.stderr)
    rows = []
    try:
        for work in worker.works:
            ways = works.ways(work["parameters"], device)
            if not ways:
                continue
            sides = {OURS: lambda runs, name=work["name"]: worker.run(name, runs)}
            sides |= {way: timer(call, device) for way, call in ways.items()}
            found = {name: summary(rounds) for name, rounds in take_turns(sides, options).items()}
            row = dict(name=work["name"], work=work["work"], parameters=work["parameters"],
                       target=None if options.quick else works.target(work["parameters"]), **compare(found))
            rows.append(row)
            ratios = ", ".join(f"{way} {other['ratio']:.2f}" for way, other in row["pytorch"].items())
            print(f"{work['work']}: {digits(row['burn_ad']['median_ms'])} ms, ratios {ratios}", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print("stopped; what was measured so far:", file=sys.stderr)
    worker.close()
    facts["load_after"] = [round(value, 2) for value in os.getloadavg()]
    return facts, rows


if __name__ == "__main__":
    main()
