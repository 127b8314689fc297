"""Times training of FrEIA's conditional flows on PyTorch, in turn with another program on the same cores.

    python flow_step.py [--ours PATH] [--rounds 7] [--threads 2]               one optimiser step for C = 40, 72, 200
    python flow_step.py --sub-epoch [--images 32] [--ours PATH] [--rounds 3]   one pass over the features of N images
    add --json FILE to keep the figures and the facts of the machine

One step: 4096 vectors, position code P = 128, 8 blocks of AllInOneBlock (clamp 1.9, soft permutation), loss
mean(-log sigmoid(log p / C)), gradients, Adam with learning rate 2e-4. One sub-epoch: batches of 32 images of random features
at three levels (64x64x40, 32x32x72, 16x16x200); per batch and level the maps become vectors, the position code is made and
repeated, both are shuffled and cut into chunks of 4096 with one step each, the rest is dropped: as BGAD's published loop does
it, without the backbone, which bgad_training.py times.

Both sides are child processes that print one JSON line per measurement after a warm-up of their own (one step, or none for
a sub-epoch), so start-up is not timed. PATH is called as this script calls itself:
    PATH --channels 40 --steps 5         one or more lines {"channels": 40, "seconds": S}, S the wall time of ONE step
    PATH --sub-epoch --images 32         {"images": 32, "steps": 42, "seconds": S}, S the wall time of the whole pass
Rounds alternate (FrEIA, ours, ours, FrEIA, ..); the table has medians over the rounds of each round's median.

Run it while nothing else runs: beside a compiler on the same two cores, torch with 2 threads was seen to take 2.7 s for a step
that it does in 0.16 s with 1 thread, because its threads wait for each other. The load is printed and kept.

Made with: Python 3.11, torch 2.15, FrEIA 0.2. Threads are set for torch and, through RAYON_NUM_THREADS, for PATH.
"""

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

LEVELS = [(64, 40), (32, 72), (16, 200)]  # side of the feature map, channels
CHUNK, POSITION, BLOCKS, BATCH = 4096, 128, 8, 32
OURS, FREIA = "ours", "FrEIA"
IDLE = 0.5  # load, the mean of a minute
DISTURBED = "**Other programs were running: these figures say nothing about idle cores.**"


def flow(channels):
    from FrEIA.framework import SequenceINN
    from FrEIA.modules import AllInOneBlock
    from torch import nn

    def subnet(inputs, outputs):
        return nn.Sequential(nn.Linear(inputs, 2 * inputs), nn.ReLU(), nn.Linear(2 * inputs, outputs))

    stack = SequenceINN(channels)
    for _ in range(BLOCKS):
        stack.append(AllInOneBlock, cond=0, cond_shape=(POSITION,), subnet_constructor=subnet, affine_clamping=1.9,
                     global_affine_type="SOFTPLUS", permute_soft=True)
    return stack


def log_likelihood(z, log_det):
    """Of each vector, a channel."""
    channels = z.shape[1]
    return (log_det - 0.5 * z.square().sum(1) - 0.5 * channels * math.log(2 * math.pi)) / channels


def step(stack, optimiser, x, condition):
    import torch

    loss = -torch.nn.functional.logsigmoid(log_likelihood(*stack(x, [condition]))).mean()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.item()


def position_code(side):
    """[side * side, P], row-major positions."""
    import torch

    half = POSITION // 2
    frequency = torch.exp(torch.arange(0.0, half, 2) * (-math.log(1e4) / half))
    angle = torch.arange(0.0, side)[:, None] * frequency
    axis = torch.stack([angle.sin(), angle.cos()], 2).reshape(side, half)
    columns = axis[None].expand(side, side, half)
    rows = axis[:, None].expand(side, side, half)
    return torch.cat([columns, rows], 2).reshape(side * side, POSITION)


def child_steps(channels, steps):
    import torch

    torch.manual_seed(0)
    stack = flow(channels)
    optimiser = torch.optim.Adam([p for p in stack.parameters() if p.requires_grad], lr=2e-4)
    x, condition = torch.randn(CHUNK, channels), torch.rand(CHUNK, POSITION) * 2 - 1
    step(stack, optimiser, x, condition)
    for _ in range(steps):
        start = time.perf_counter()
        step(stack, optimiser, x, condition)
        print(json.dumps(dict(channels=channels, seconds=time.perf_counter() - start)), flush=True)


def child_sub_epoch(images):
    import torch

    torch.manual_seed(0)
    stacks = [flow(channels) for _, channels in LEVELS]
    parameters = [p for stack in stacks for p in stack.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(parameters, lr=2e-4)
    features = [torch.randn(images, channels, side, side) for side, channels in LEVELS]
    start, steps = time.perf_counter(), 0
    for first in range(0, images, BATCH):
        for stack, maps, (side, channels) in zip(stacks, features, LEVELS):
            batch = maps[first:first + BATCH]
            vectors = batch.permute(0, 2, 3, 1).reshape(-1, channels)
            code = position_code(side).repeat(len(batch), 1)
            order = torch.randperm(len(vectors))
            for chunk in range(len(vectors) // CHUNK):
                index = order[chunk * CHUNK:(chunk + 1) * CHUNK]
                step(stack, optimiser, vectors[index], code[index])
                steps += 1
    print(json.dumps(dict(images=images, steps=steps, seconds=time.perf_counter() - start)), flush=True)


def environment(threads):
    """What a child of either side needs to use so many threads."""
    return os.environ | {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")}


def measure(program, arguments, threads):
    """Median of the seconds that one call prints."""
    result = subprocess.run([*program, *arguments], env=environment(threads), stdout=subprocess.PIPE, text=True, check=True)
    lines = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    return statistics.median(line["seconds"] for line in lines)


def compare(programs, arguments, rounds, threads):
    seconds = {name: [] for name in programs}
    for number in range(rounds):
        for name in list(programs)[::1 if number % 2 == 0 else -1]:
            seconds[name].append(measure(programs[name], arguments, threads))
    return seconds


def machine(threads):
    import torch

    model = platform.processor()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as lines:
            model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    return dict(cpu=model, cores=os.cpu_count(), threads=threads, torch=torch.__version__,
                capability=torch.backends.cpu.get_cpu_capability(), python=platform.python_version(),
                load_before=[round(value, 2) for value in os.getloadavg()])


def publish(table, facts, works, options):
    """Prints a table, and writes it and every single time to the files that options name."""
    print(table)
    if options.markdown:
        Path(options.markdown).write_text(table)
    if options.json:
        Path(options.json).write_text(json.dumps(dict(machine=facts, works=works), indent=1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ours", help="program to compare with")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--steps", type=int, default=5, help="timed steps in a round")
    parser.add_argument("--sub-epoch", action="store_true")
    parser.add_argument("--images", type=int, default=BATCH)
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--channels", type=int, help="as a child: time steps of this width")
    parser.add_argument("--child", action="store_true", help="as a child: time a sub-epoch")
    options = parser.parse_args()
    if options.channels:
        return child_steps(options.channels, options.steps)
    if options.child:
        return child_sub_epoch(options.images)

    own = [sys.executable, os.path.abspath(__file__)]
    if options.sub_epoch:
        own.append("--child")
        rounds = options.rounds or 3
        works = [(f"sub-epoch, {options.images} images", ["--sub-epoch", "--images", str(options.images)])]
    else:
        rounds = options.rounds or 7
        works = [(f"step, C = {c}", ["--channels", str(c), "--steps", str(options.steps)]) for _, c in LEVELS]
    programs = {FREIA: own} | ({OURS: [options.ours]} if options.ours else {})
    facts = machine(options.threads)
    print(json.dumps(facts))
    if facts["load_before"][0] > 0.5:
        print("other programs are running: torch's threads wait for each other and suffer most", file=sys.stderr)
    rows = []
    print(f"{'work':28} {'FrEIA s':>10} {'ours s':>10} {'FrEIA / ours':>13}")
    for work, arguments in works:
        seconds = compare(programs, arguments, rounds, options.threads)
        median = {name: statistics.median(values) for name, values in seconds.items()}
        row = dict(work=work, median=median, rounds=seconds)
        ours, ratio = "-", "-"
        if OURS in median:
            row["ratio"] = median[FREIA] / median[OURS]
            ours, ratio = f"{median[OURS]:.4f}", f"{row['ratio']:.2f}"
        rows.append(row)
        print(f"{work:28} {median[FREIA]:10.4f} {ours:>10} {ratio:>13}", flush=True)
    facts["load_after"] = [round(value, 2) for value in os.getloadavg()]
    if options.json:
        with open(options.json, "w") as file:
            json.dump(dict(machine=facts, works=rows), file, indent=1)


if __name__ == "__main__":
    main()
