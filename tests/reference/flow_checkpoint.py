"""Checkpoints of trained flows as PyTorch code writes them, and what their flows make of a few vectors.

Run:   python tests/reference/flow_checkpoint.py    (after flow.py, into the same folder; about 60 KB)
Made with: Python 3.11, torch 2.15, FrEIA 0.2 (PyPI), safetensors 0.8

`bgad_style.pth`: a dict with an epoch number, the encoder's state dict and, under `decoder_state_dict`, the list of the levels'
state dicts (C = 6 and 8, P = 8, 2 blocks, clamp alpha * tanh(a_s)). `bgad_style.safetensors`: per level l{i}.x,
l{i}.condition, l{i}.z, l{i}.log_det for 5 vectors, computed in f64, and stored as f32.

`plain_hard.pth`: the bare state dict of one unconditional flow (C = 5, 2 blocks, clamp alpha * tanh(a_s / alpha)) as FrEIA since
June 2023 writes it with hard permutations: w_perm and w_perm_inv are index vectors (y = x[:, w_perm]), not matrices.
`plain_hard.safetensors`: x, z, log_det.

`several.pth`: eleven levels of one block (C = 2 + level, P = 4), so that the order of the levels is numeric and not that of text.
"""

from collections import OrderedDict

import numpy as np
import torch
from safetensors.torch import save_file

from flow import OUT, randomise, run, stack


def trained(seed, *arguments, **keywords):
    np.random.seed(seed)
    torch.manual_seed(seed)
    flow = stack(*arguments, **keywords)
    randomise(flow, 30.0, torch.Generator().manual_seed(seed))
    return flow


def expected(flow, vectors, channels, width, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(vectors, channels, generator=generator)
    condition = torch.rand(vectors, width, generator=generator) if width else None
    with torch.no_grad():
        z, log_det = run(flow.double(), x.double(), condition.double() if width else None)
    flow.float()
    return dict(x=x, z=z.float(), log_det=log_det.float()) | (dict(condition=condition) if width else {})


def write_bgad_style():
    flows = [trained(20 + level, channels, 8, 2, "tanh") for level, channels in enumerate((6, 8))]
    encoder = torch.nn.Sequential(OrderedDict(conv_stem=torch.nn.Conv2d(3, 2, 3), bn1=torch.nn.BatchNorm2d(2)))
    state = {
        "epoch": 24,
        "encoder_state_dict": encoder.state_dict(),
        "decoder_state_dict": [flow.state_dict() for flow in flows],
    }
    torch.save(state, OUT / "bgad_style.pth")
    tensors = {}
    for level, flow in enumerate(flows):
        values = expected(flow, 5, (6, 8)[level], 8, 30 + level)
        tensors |= {f"l{level}.{name}": tensor for name, tensor in values.items()}
    save_file(tensors, OUT / "bgad_style.safetensors")
    save_file({f"decoder_state_dict.{level}.{name}": tensor.contiguous().clone()
               for level, flow in enumerate(flows) for name, tensor in flow.state_dict().items()},
              OUT / "bgad_style_flat.safetensors")


def write_plain_hard():
    flow = trained(40, 5, 0, 2, "tanh-scaled", soft=False)
    tensors = expected(flow, 5, 5, 0, 41)
    state = flow.state_dict()
    for name, matrix in state.items():
        if "w_perm" in name:
            state[name] = matrix.argmax(1)  # row i of the matrix has its 1 where output i comes from
    save_file(tensors, OUT / "plain_hard.safetensors")
    torch.save(state, OUT / "plain_hard.pth")
    for block, index in zip(flow.module_list, [state[f"module_list.{i}.w_perm"] for i in range(2)]):
        probe = torch.randn(3, 5)
        assert torch.equal(probe[:, index], probe @ block.w_perm.T)


def write_several():
    levels = [trained(50 + level, 2 + level, 4, 1, "tanh").state_dict() for level in range(11)]
    torch.save({"decoder_state_dict": levels}, OUT / "several.pth")


if __name__ == "__main__":
    torch.set_num_threads(1)
    write_bgad_style()
    write_plain_hard()
    write_several()
