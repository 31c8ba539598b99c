"""Spoil checkpoints: each is read and used, or refused with one line that names it."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import torch
from torch import nn

from detrex.checkpoint import load_weights
from detrex.checkpoint.weights import write_tensors
from detrex.train.checkpoints import read_resumable
from detrex.utils.errors import InputError

SUFFIXES = (".pth", ".old.pth", ".pkl", ".safetensors")
ODD = [None, 5, "5", b"5", -1, 1.5, float("nan"), True, [], {}, (1, [2]), [{}], {"a": {1: 2}}]
TENSORS: list[Callable[[torch.Tensor], torch.Tensor]] = [
    lambda t: t * float("nan"),
    lambda t: t.to_sparse(),
    lambda t: t.to("meta"),
    lambda t: t.to(torch.cfloat),
    lambda t: t.reshape(-1)[:1].expand(10**12),
    lambda t: t[..., None],
    lambda t: nn.Parameter(t),
    lambda t: t.half(),
    lambda t: torch.quantize_per_tensor(t, 1, 0, torch.qint8),
    lambda t: t.T,
    lambda t: t.numpy(),
]
WRAPPERS: list[Callable[[dict], object]] = [
    lambda c: c["model"],
    lambda c: {"ema": {"module": c["model"]}},
    lambda c: {"a": c["model"], "b": c["model"]},
    lambda c: {f"module.{name}": value for name, value in c["model"].items()},
    lambda c: {f"x.{name}": value for name, value in c["model"].items()},
    lambda c: dict(enumerate(c["model"].values())),
    lambda c: {**c, "model": [c["model"]]},
    lambda c: [c],
    lambda c: {},
]


def network() -> nn.Module:
    return nn.ModuleDict({"backbone": nn.Linear(2, 3), "head": nn.Linear(3, 2)})


def spoiled(random: Random) -> object:
    """A run's checkpoint, one time in three as it should be."""
    weights = network().state_dict()
    content = {
        "model": weights,
        "iteration": 3,
        "trainer": {"optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{}]}},
        "metadata": {"classes": ["a", "b"], "category_ids": [1, 2], "config": "model: {}"},
        "ema_state": dict(weights),
    }
    kind = random.choice(["none", "value", "tensor", "wrapper"])
    if kind == "wrapper":
        return random.choice(WRAPPERS)(content)
    if kind != "none":
        part = random.choice([content, content["trainer"], content["metadata"], weights])
        if kind == "tensor":
            part = weights
        key = random.choice(list(part))
        part[key] = random.choice(TENSORS)(part[key]) if kind == "tensor" else random.choice(ODD)
    return content


def write(content: object, path: Path, random: Random) -> None:
    """Write it in the format of the path's ending, half of the time with some bytes changed."""
    if path.suffix == ".pkl":
        path.write_bytes(pickle.dumps(_as_arrays(content), random.randrange(6)))
    elif path.suffix == ".safetensors":
        weights = {name: value.clone() for name, value in network().state_dict().items()}
        write_tensors(
            weights, path, {"classes": random.choice(["[1]", "5", "{", '["a"]', "[" * 9999])}
        )
    else:
        torch.save(content, path, _use_new_zipfile_serialization=".old" not in path.suffixes)
    if random.random() < 0.5:
        _change_bytes(path, random)


def _as_arrays(value: object) -> object:
    if isinstance(value, torch.Tensor):
        plain = value.layout is torch.strided and not (value.is_meta or value.is_quantized)
        return value.detach().numpy() if plain and value.numel() < 9 else np.zeros((), object)
    if isinstance(value, dict):
        return {key: _as_arrays(item) for key, item in value.items()}
    return [_as_arrays(item) for item in value] if isinstance(value, list | tuple) else value


def _change_bytes(path: Path, random: Random) -> None:
    """Of the whole file, or, with right checksums, of the pickle in torch's archive."""
    if not zipfile.is_zipfile(path) or random.random() < 0.3:
        path.write_bytes(_changed(path.read_bytes(), random))
        return
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, _changed(part, random) if name.endswith("data.pkl") else part)


def _changed(content: bytes, random: Random) -> bytes:
    changed = bytearray(content)
    for _ in range(random.randint(1, 4)):
        place = random.randrange(len(changed))
        changed[place : place + random.randrange(2)] = random.choice(
            [random.randbytes(1), b"\x85", b"\xff\xff\xff\x7f", b"R", b"b", b"\x81", b"(", b""]
        )
    return bytes(changed[: random.choice([None, None, len(changed) // 2])])


def check(folder: Path, seed: int, number: int) -> str:
    """Try one; return "survived" or "refused".

    Raises:
        AssertionError: a message of several lines, or without the file's name; changed weights.
        Exception: anything that is no InputError.
    """
    random = Random(f"{seed}/{number}")
    torch.manual_seed(number)
    path = folder / f"weights{random.choice(SUFFIXES)}"
    write(spoiled(random), path, random)
    outcome = "survived"
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    uses = (
        lambda: read_resumable(path),
        lambda: load_weights(model, path, strict=False, averaged=random.random() < 0.5),
    )
    for use in uses:
        try:
            use()
        except InputError as error:
            outcome = "refused"
            assert str(path) in str(error) and "\n" not in str(error), str(error)
            assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    assert all(value.isfinite().all() for value in model.state_dict().values())
    return outcome
