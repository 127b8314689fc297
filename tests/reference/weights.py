"""Tiny checkpoints in every container, and full-size ones whose tensors share a small storage.

Run:   python tests/reference/weights.py        (writes tests/fixtures/weights/, about 200 KB)
Made with: Python 3.11, torch 2.15, timm 1.0.31, torchvision, safetensors

The full-size state dicts have the shapes of the real networks, but every tensor is a strided,
overlapping view of one storage of a few thousand numbers: the file stays small, and reading it right
needs offsets and strides to be honoured (the Lite files on PyPI have transposed strides).
"""

import io
import json
import os
import pickle
import struct
import sys
import tarfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

OUT = Path(__file__).resolve().parent.parent / "fixtures" / "weights"


def tiny():
    """Names, shapes and types that a reader must tell apart; values are exact in every type."""
    count = torch.arange(24, dtype=torch.float32)
    shared = torch.arange(12, dtype=torch.float32) / 4
    return OrderedDict(
        [
            ("conv.weight", (count - 12).reshape(2, 3, 2, 2)),
            ("transposed.weight", (count / 8).reshape(2, 2, 3, 2).permute(3, 2, 0, 1)),
            ("half.weight", torch.tensor([0.5, -1.25, 65504.0], dtype=torch.float16)),
            ("bfloat.weight", torch.tensor([1.5, -3.0, 2.0**100], dtype=torch.bfloat16)),
            ("double.weight", torch.tensor([0.1, 1e-30, -7.0], dtype=torch.float64)),
            ("view.front", shared[:5]),
            ("view.back", shared[5:].reshape(7)),
            ("bn.num_batches_tracked", torch.tensor(7, dtype=torch.int64)),
        ]
    )


def write_tiny():
    state = tiny()
    expected = {
        name: {"shape": list(t.shape), "values": t.float().contiguous().flatten().tolist()}
        for name, t in state.items()
        if t.is_floating_point()
    }
    (OUT / "tiny.json").write_text(json.dumps(expected))
    torch.save(state, OUT / "tiny-zip.pth")
    torch.save(state, OUT / "tiny-legacy.pth", _use_new_zipfile_serialization=False)
    save_file({k: v.contiguous().clone() for k, v in state.items()}, OUT / "tiny.safetensors",
              metadata={"format": "pt"})
    # What training scripts write: a wrapper, a prefix, and things that are not tensors.
    wrapped = {
        "epoch": 3,
        "best": np.float64(0.5),
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.1, "params": [0, 1]}]},
        "state_dict": OrderedDict(("module." + k, torch.nn.Parameter(v) if v.is_floating_point() else v)
                                  for k, v in state.items()),
    }
    torch.save(wrapped, OUT / "tiny-wrapped.pth")
    write_tar(state, OUT / "tiny-tar.pth")
    for name in ("tiny-zip.pth", "tiny-legacy.pth", "tiny-tar.pth"):
        again = torch.load(OUT / name, weights_only=False)
        assert all(torch.equal(again[k], v) for k, v in state.items()), name


def write_tar(state, path):
    """The container of PyTorch 0.1, which torch still reads but no longer writes."""
    kinds = {torch.float32: "Float", torch.float16: "Half", torch.float64: "Double",
             torch.bfloat16: "BFloat16", torch.int64: "Long"}

    def storage_type(dtype):
        return getattr(torch, kinds[dtype] + "Storage")

    def dump(value):
        return pickle.dumps(value, protocol=2)

    storages, tensors, numbers, done = io.BytesIO(), io.BytesIO(), {}, {}
    for tensor in state.values():
        storage = tensor.untyped_storage()
        numbers.setdefault(storage.data_ptr(), (100 + len(numbers), tensor.dtype, storage))
    storages.write(dump(len(numbers)))
    for number, dtype, storage in numbers.values():
        storages.write(dump((number, "cpu", storage_type(dtype))))
        storages.write(struct.pack("<q", storage.nbytes() // dtype.itemsize))
        storages.write(bytes(storage))
    storages.write(dump([]))  # no views of storages
    tensors.write(dump(len(state)))
    for key, (name, tensor) in enumerate(state.items()):
        done[name] = key
        number = numbers[tensor.untyped_storage().data_ptr()][0]
        tensors.write(dump((key, number, storage_type(tensor.dtype))))
        tensors.write(struct.pack("<ii", tensor.dim(), 0))
        tensors.write(struct.pack(f"<{tensor.dim()}q", *tensor.shape))
        tensors.write(struct.pack(f"<{tensor.dim()}q", *tensor.stride()))
        tensors.write(struct.pack("<q", tensor.storage_offset()))

    class ByReference(pickle.Pickler):
        def persistent_id(self, value):
            return str(done[value[1]]) if isinstance(value, tuple) and value[:1] == ("tensor",) else None

    main = io.BytesIO()
    ByReference(main, protocol=2).dump(OrderedDict((name, ("tensor", name)) for name in state))
    info = dump({"protocol_version": 1000, "little_endian": sys.byteorder == "little", "type_sizes": {}})
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in (("sys_info", info), ("pickle", main.getvalue()),
                           ("tensors", tensors.getvalue()), ("storages", storages.getvalue())):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def write_hostile():
    """Pickles that would run a command when unpickled by Python; reading them must not."""

    class Command:
        def __reduce__(self):
            return os.system, ("touch burn-ad-was-here",)

    torch.save({"conv.weight": torch.zeros(2), "evil": Command()}, OUT / "hostile-zip.pth")
    torch.save({"conv.weight": torch.zeros(2), "evil": Command()}, OUT / "hostile-legacy.pth",
               _use_new_zipfile_serialization=False)


def overlapping(shape, seed, storage):
    """A tensor of `shape` whose elements are spread over `storage` by odd strides."""
    strides = [(seed * 7 + 13 * axis) % 5 + 1 for axis in range(len(shape))]
    span = sum((size - 1) * stride for size, stride in zip(shape, strides))
    assert span < len(storage), (shape, span)
    offset = (seed * 31) % (len(storage) - span)
    return torch.as_strided(storage, shape, strides, offset)


def full(keys, path, legacy):
    """The state dict of a real network, and the sums of what an import must make of it."""
    generator = torch.Generator().manual_seed(5)
    storage = torch.randn(20000, generator=generator) * 0.05
    positive = torch.rand(20000, generator=generator) + 0.5
    state = OrderedDict()
    for seed, (key, shape) in enumerate(keys):
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(1)
        elif key.endswith("running_var"):
            state[key] = overlapping(shape, seed, positive)
        else:
            state[key] = overlapping(shape, seed, storage)
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    return state


def fold(state, conv, norm, epsilon):
    weight = state[conv + ".weight"].double()
    scale = state[norm + ".weight"].double() / (state[norm + ".running_var"].double() + epsilon).sqrt()
    bias = state[norm + ".bias"].double() - state[norm + ".running_mean"].double() * scale
    folded = weight * scale[:, None, None, None]
    ramp = torch.arange(folded.numel(), dtype=torch.float64) % 97
    return [folded.sum().item(), (folded.flatten() * ramp).sum().item(), bias.sum().item(), bias.abs().sum().item()]


def write_full():
    import timm
    import torchvision

    def shapes(model):
        return [(k, tuple(v.shape)) for k, v in model.state_dict().items()]

    expected = {}
    state = full(shapes(torchvision.models.resnet18()), OUT / "resnet18.pth", legacy=False)
    expected["resnet18"] = {
        conv: fold(state, conv, norm, 1e-5)
        for conv, norm in [("conv1", "bn1"), ("layer1.0.conv1", "layer1.0.bn1"),
                           ("layer2.0.downsample.0", "layer2.0.downsample.1"),
                           ("layer4.1.conv2", "layer4.1.bn2")]
    }
    timm_keys = shapes(timm.create_model("tf_efficientnet_lite0", pretrained=False))
    pypi = [(pypi_name(key), shape) for key, shape in timm_keys]
    state = full(pypi, OUT / "lite0-legacy.pth", legacy=True)
    expected["tf_efficientnet_lite0"] = {
        timm_name: fold(state, conv, norm, 1e-3)
        for timm_name, conv, norm in [
            ("conv_stem", "_conv_stem", "_bn0"),
            ("blocks.0.0.conv_dw", "_blocks.0._depthwise_conv", "_blocks.0._bn1"),
            ("blocks.0.0.conv_pw", "_blocks.0._project_conv", "_blocks.0._bn2"),
            ("blocks.1.0.conv_pw", "_blocks.1._expand_conv", "_blocks.1._bn0"),
            ("blocks.2.1.conv_dw", "_blocks.4._depthwise_conv", "_blocks.4._bn1"),
            ("blocks.6.0.conv_pwl", "_blocks.15._project_conv", "_blocks.15._bn2"),
        ]
    }
    (OUT / "full.json").write_text(json.dumps(expected))


def pypi_name(key):
    """The PyPI file's name of a tensor of timm's tf_efficientnet_lite0 (blocks per stage: 1 2 2 3 3 4 1)."""
    first = [0, 1, 3, 5, 8, 11, 15]
    parts = key.split(".")
    if parts[0] != "blocks":
        top = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1",
               "classifier": "_fc"}
        return ".".join([top[parts[0]], *parts[1:]])
    stage, block, module, rest = int(parts[1]), int(parts[2]), parts[3], parts[4:]
    if stage == 0:
        names = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    else:
        names = {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1",
                 "conv_pwl": "_project_conv", "bn3": "_bn2"}
    return ".".join(["_blocks", str(first[stage] + block), names[module], *rest])


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    write_tiny()
    write_hostile()
    write_full()
