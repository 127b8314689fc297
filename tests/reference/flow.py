"""Conditional normalizing flows of FrEIA's AllInOneBlock, the position code and the learning-rate schedule.

Run:   python tests/reference/flow.py          (writes tests/fixtures/flow/, about 2.6 MB)
Made with: Python 3.11, torch 2.15, FrEIA 0.2 (PyPI), safetensors 0.8

The stacks are built as BGAD's published code builds them (SequenceINN; subnet Linear, ReLU, Linear; SOFTPLUS;
affine_clamping 1.9). FrEIA 0.2 clamps with alpha * tanh(a_s); later FrEIA (from August 2023, never released to PyPI) with
alpha * tanh(a_s / alpha). Which one is installed is measured; the other is a subclass with its own coupling.

Nothing is at its initial value: scales and offsets are random, one scale of the first case lies in the softplus's linear
part, and the last layer of each subnet is enlarged until the clamp saturates for part of the elements. State, inputs and the
cotangents are rounded to f32 first; everything is then computed in f64 and stored as f32. No hidden value lies within 2e-5
of the ReLU's kink, so an f32 implementation has the same gradient.

Files: `<case>.safetensors` with
  state.module_list.{i}.{subnet.0.weight,subnet.0.bias,subnet.2.weight,subnet.2.bias,w_perm,w_perm_inv,global_scale,global_offset}
  x [N, C], condition [N, P] (absent where P = 0), z [N, C], log_det [N], x_back [N, C] = inverse(z),
  log_det_back [N] of that inverse, gz [N, C], gl [N], and grad.x, grad.module_list.{i}.<parameter>: gradients of
  sum(z * gz) + sum(log_det * gl). Case `deep` has the gradients of its first and last block only.
`position.safetensors`: p{P}_{H}x{W} [P, H, W]. `index.json`: the cases, and how far f32 on PyTorch is from f64.
`schedule.json`: learning rates.
"""

import json
import math
from pathlib import Path

import numpy as np
import torch
from FrEIA.framework import SequenceINN
from FrEIA.modules import AllInOneBlock
from safetensors.torch import save_file
from torch import nn

OUT = Path(__file__).resolve().parent.parent / "fixtures" / "flow"
ALPHA = 1.9
KINK = 2e-5

CASES = [
    dict(name="small", channels=24, condition=16, blocks=2, vectors=40, clamp="tanh", soft=True, gain=30.0),
    dict(name="odd", channels=7, condition=8, blocks=3, vectors=40, clamp="tanh-scaled", soft=True, gain=60.0),
    dict(name="hard", channels=10, condition=0, blocks=2, vectors=40, clamp="tanh", soft=False, gain=60.0),
    dict(name="deep", channels=40, condition=128, blocks=8, vectors=64, clamp="tanh", soft=True, gain=6.0),
]


def subnet(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, 2 * inputs), nn.ReLU(), nn.Linear(2 * inputs, outputs))


class OtherClamp(AllInOneBlock):
    """The coupling with the other soft clamp: `scale` divides the argument of tanh."""

    scale = None

    def _affine(self, x, a, rev=False):
        half = x.shape[1]
        log_s = self.clamp * torch.tanh(0.1 * a[:, :half] / self.scale)
        shift = 0.1 * a[:, half:]
        if rev:
            return (x - shift) * torch.exp(-log_s), -log_s.sum(1)
        return x * torch.exp(log_s) + shift, log_s.sum(1)


class Tanh(OtherClamp):
    scale = 1.0


class TanhScaled(OtherClamp):
    scale = ALPHA


def installed_clamp():
    """The clamp of the installed FrEIA, from what it does to a saturating coefficient."""
    block = AllInOneBlock([(2,)], subnet_constructor=subnet, affine_clamping=ALPHA)
    _, log_s = block._affine(torch.zeros(1, 1), torch.tensor([[20.0, 0.0]]))
    return min(("tanh", "tanh-scaled"), key=lambda name: abs(log_s.item() - ALPHA * math.tanh(
        2.0 / (ALPHA if name == "tanh-scaled" else 1.0))))


def stack(channels, condition, blocks, clamp, soft=True):
    """A stack as BGAD's published code builds it."""
    block = AllInOneBlock if clamp == installed_clamp() else {"tanh": Tanh, "tanh-scaled": TanhScaled}[clamp]
    flow = SequenceINN(channels)
    for _ in range(blocks):
        conditional = dict(cond=0, cond_shape=(condition,)) if condition else {}
        flow.append(block, subnet_constructor=subnet, affine_clamping=ALPHA, global_affine_type="SOFTPLUS",
                    permute_soft=soft, **conditional)
    return flow


def randomise(flow, gain, generator):
    """Moves every parameter away from where training starts; two log-scales of the first block saturate for every vector."""
    with torch.no_grad():
        for block in flow.module_list:
            # g = 0.2 ln(1 + exp(theta / 2)) between 0.7 and 1.3
            wanted = 0.7 + 0.6 * torch.rand(block.global_scale.shape, generator=generator)
            block.global_scale.copy_(2 * torch.log(torch.expm1(5 * wanted)))
            block.global_offset.copy_(0.3 * torch.randn(block.global_offset.shape, generator=generator))
            block.subnet[2].weight.mul_(gain)
            block.subnet[2].bias.mul_(gain)
        flow.module_list[0].subnet[2].bias[:2] = torch.tensor([25.0, -25.0])


def run(flow, x, condition, rev=False):
    return flow(x, [condition], rev=rev) if condition is not None else flow(x, rev=rev)


def observe(flow, x, condition):
    """Smallest |hidden value| before the ReLU of every vector, and the share of coefficients with |a_s| > 2."""
    smallest, coefficients = [], []
    hooks = []
    for block in flow.module_list:
        half = block.splits[1]
        hooks.append(block.subnet[0].register_forward_hook(lambda _, i, out: smallest.append(out.abs().amin(1))))
        hooks.append(block.subnet[2].register_forward_hook(
            lambda _, i, out, half=half: coefficients.append(0.1 * out[:, :half].detach().clone())))
    with torch.no_grad():
        run(flow, x, condition)
    for hook in hooks:
        hook.remove()
    saturated = torch.cat([c.flatten() for c in coefficients]).abs().gt(2).double().mean().item()
    return torch.stack(smallest).amin(0), saturated


def evaluate(flow, x, condition, gz, gl):
    """Outputs, inverse, and the gradients of sum(z gz) + sum(log_det gl)."""
    x = x.clone().requires_grad_(True)
    flow.zero_grad()
    z, log_det = run(flow, x, condition)
    ((z * gz).sum() + (log_det * gl).sum()).backward()
    with torch.no_grad():
        x_back, log_det_back = run(flow, z.detach(), condition, rev=True)
    tensors = dict(z=z, log_det=log_det, x_back=x_back, log_det_back=log_det_back)
    tensors["grad.x"] = x.grad
    tensors |= {"grad." + name: p.grad for name, p in flow.named_parameters() if p.requires_grad}
    return {name: t.detach().clone() for name, t in tensors.items()}


def relative(value, truth):
    return ((value.double() - truth).abs().max() / truth.abs().max()).item()


def write_case(case, seed):
    np.random.seed(seed)  # FrEIA draws its rotations from numpy
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    name, channels, width, count = case["name"], case["channels"], case["condition"], case["vectors"]
    flow = stack(channels, width, case["blocks"], case["clamp"], case["soft"])
    randomise(flow, case["gain"], generator)
    if name == "small":
        with torch.no_grad():
            flow.module_list[0].global_scale[0, 0] = 42.0  # linear part of the softplus: g = 4.2
            flow.module_list[1].global_scale[0, 1] = -1.0  # far on the other side: g = 0.095
    candidates = 2 * count
    x = torch.randn(candidates, channels, generator=generator)
    condition = 2 * torch.rand(candidates, width, generator=generator) - 1 if width else None
    double = flow.double()
    smallest, saturated = observe(double, x.double(), condition.double() if width else None)
    keep = (smallest > KINK).nonzero().flatten()[:count]
    assert len(keep) == count, f"{name}: too many vectors near a kink"
    assert 0.01 < saturated < 0.9, f"{name}: {saturated:.3f} of the coefficients saturate"
    x = x[keep]
    condition = condition[keep] if width else None
    gz = torch.randn(count, channels, generator=generator)
    gl = torch.randn(count, generator=generator)
    inputs = dict(x=x, gz=gz, gl=gl) | (dict(condition=condition) if width else {})

    def precision(kind):
        return [None if t is None else t.to(kind) for t in (x, condition, gz, gl)]

    state = {"state." + key: t.float() for key, t in flow.state_dict().items()}
    truth = evaluate(double, *precision(torch.float64))
    assert relative(truth["x_back"], x.double()) < 3e-5  # not less: the rotations are rounded to f32
    check_log_det(double, x.double(), condition.double() if width else None, truth["log_det"])
    single = evaluate(flow.float(), *precision(torch.float32))
    errors = {}
    for key, value in truth.items():
        kind = key if not key.startswith("grad.module") else "grad.parameters"
        errors[kind] = max(errors.get(kind, 0.0), relative(single[key], value))
    if name == "deep":
        last = f"grad.module_list.{case['blocks'] - 1}."
        truth = {k: t for k, t in truth.items()
                 if not k.startswith("grad.module") or k.startswith(("grad.module_list.0.", last))}
    tensors = {k: t.float().contiguous().clone() for k, t in (state | inputs | truth).items()}
    save_file(tensors, OUT / f"{name}.safetensors")
    return dict(
        name=name, file=f"{name}.safetensors", channels=channels, condition=width, blocks=case["blocks"], vectors=count,
        clamp=case["clamp"], alpha=ALPHA, permutation="soft" if case["soft"] else "hard",
        saturated=round(saturated, 4), largest_z=round(truth["z"].abs().max().item(), 3),
        f32_error={k: float(f"{v:.1e}") for k, v in errors.items()})


def check_log_det(flow, x, condition, log_det):
    """log_det of the first vectors against the determinant of the Jacobian."""
    for i in range(3):
        row = condition[i:i + 1] if condition is not None else None
        jacobian = torch.autograd.functional.jacobian(lambda v: run(flow, v[None], row)[0][0], x[i])
        assert abs(torch.linalg.slogdet(jacobian)[1] - log_det[i]) < 1e-5


def position_code(planes, rows, columns):
    """[P, H, W]: the first half of the planes encodes the column, the second half the row; sine and cosine in turn."""
    half = planes // 2
    k = torch.arange(half // 2, dtype=torch.float64)
    frequency = torch.exp(-2 * k * math.log(1e4) / half)
    code = torch.empty(planes, rows, columns, dtype=torch.float64)
    for first, size, view in ((0, columns, (-1, 1, columns)), (half, rows, (-1, rows, 1))):
        angle = (frequency[:, None] * torch.arange(size)).view(view)
        code[first:first + half:2] = torch.sin(angle)
        code[first + 1:first + half:2] = torch.cos(angle)
    return code


def position_code_by_elements(planes, rows, columns):
    """The same from Vaswani et al.'s formula, PE(pos, 2i) = sin(pos / 10000^(2i/d)) with d = P / 2, element by element."""
    d = planes // 2
    code = np.empty((planes, rows, columns))
    for plane, row, column in np.ndindex(*code.shape):
        place, index = (column, plane) if plane < d else (row, plane - d)
        angle = place / 10000 ** ((index - index % 2) / d)
        code[plane, row, column] = math.cos(angle) if index % 2 else math.sin(angle)
    return torch.from_numpy(code)


def write_positions():
    tensors = {}
    for planes, rows, columns in ((128, 8, 8), (128, 5, 7), (16, 3, 4)):
        code = position_code(planes, rows, columns)
        assert (code - position_code_by_elements(planes, rows, columns)).abs().max() < 1e-12
        tensors[f"p{planes}_{rows}x{columns}"] = code.float()
    save_file(tensors, OUT / "position.safetensors")


def schedule(meta_epochs, sub_epochs, batches, lr=2e-4, warm=2):
    """One rate per batch; `rates` runs over meta epochs, sub-epochs and batches."""
    floor = lr * 0.1 ** 3

    def cosine(epoch):
        return floor + (lr - floor) * (1 + math.cos(math.pi * epoch / meta_epochs)) / 2

    rates, per_meta = [], sub_epochs * batches
    for epoch in range(meta_epochs):
        for batch in range(per_meta):
            if epoch < warm:
                share = (epoch * per_meta + batch) / (warm * per_meta)
                rates.append(lr / 10 + share * (cosine(warm) - lr / 10))
            else:
                rates.append(cosine(epoch))
    return dict(lr=lr, meta_epochs=meta_epochs, sub_epochs=sub_epochs, batches=batches, warm_up_meta_epochs=warm,
                rates=rates)


if __name__ == "__main__":
    torch.set_num_threads(1)
    OUT.mkdir(parents=True, exist_ok=True)
    print("the installed FrEIA clamps with", installed_clamp())
    cases = [write_case(case, seed) for seed, case in enumerate(CASES)]
    for case in cases:
        print(case)
    (OUT / "index.json").write_text(json.dumps(dict(freia_0_2_clamp="tanh", cases=cases), indent=1) + "\n")
    write_positions()
    tables = [schedule(25, 8, 3), schedule(3, 2, 4), schedule(2, 1, 5), schedule(1, 1, 4)]
    (OUT / "schedule.json").write_text(json.dumps(tables) + "\n")
    print(sum(path.stat().st_size for path in OUT.iterdir()), "bytes")
