"""Files that are no checkpoint, or an odd one: one line that names file and key, nothing loaded."""

import json
import struct
import threading
from collections import OrderedDict
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from torch import nn

from detrex.checkpoint import load_weights, read_checkpoint
from detrex.utils.errors import InputError


def model():
    return nn.ModuleDict({"backbone": nn.Linear(2, 2), "head": nn.Linear(2, 3)})


def trained():
    torch.manual_seed(1)
    return model().state_dict()


def prefixed(prefix, state=None):
    return {f"{prefix}{name}": value for name, value in (state or trained()).items()}


def saved(tmp_path, content, name="weights.pth"):
    torch.save(content, tmp_path / name)
    return str(tmp_path / name)


OPTIMIZER = {"state": {0: {"step": torch.ones(()), "exp_avg": torch.ones(2)}}, "param_groups": []}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"ema": {"module": state, "updates": 3}, "last_epoch": 1},
        lambda state: {"net": state, "epoch": 1, "optimizer": OPTIMIZER},
        lambda state: {"model_state_dict": state, "optimizer_state_dict": OPTIMIZER},
        lambda state: {"teacher": state},
        lambda state: {"a": {"b": {"c": state}}},
        lambda state: {"model": {"state_dict": state}},
        lambda state: {"model": {"name": "dino"}, "weights": state},
        lambda state: {"model": state, "ema": {"module": {}}, "criterion": {"w": torch.ones(1)}},
        lambda state: prefixed("_orig_mod."),
        lambda state: prefixed("module._orig_mod."),
        lambda state: prefixed("_orig_mod.module."),
        lambda state: (
            prefixed("backbone._orig_mod.", model()["backbone"].state_dict())
            | prefixed("backbone._orig_mod.", {k[9:]: v for k, v in state.items() if k[0] == "b"})
            | {k: v for k, v in state.items() if k[0] == "h"}
        ),
        lambda state: {"state_dict": prefixed("model."), "hyper_parameters": {"lr": 1.0}},
        lambda state: prefixed("teacher.") | {"student.other.weight": torch.ones(2)},
        lambda state: prefixed("ema.net."),
    ],
)
def test_weights_in_a_wrapper_are_found(tmp_path, wrap):
    network = model()
    report, _ = load_weights(network, saved(tmp_path, wrap(trained())), strict=False)
    assert len(report.loaded) == report.total == 4
    assert all(torch.equal(v, trained()[k]) for k, v in network.state_dict().items())


@pytest.mark.parametrize(
    "content, message",
    [
        (
            {"teacher": trained(), "ema": {"module": trained()}},
            "weights in 2 places: teacher (4 tensors), ema.module (4 tensors): save one of them",
        ),
        (
            prefixed("teacher.") | prefixed("student."),
            "has the model's names under teacher, student: save one of them",
        ),
        ({"args": 1, 3: None}, "holds no weights: in it are 'args' (int), 3 (NoneType)"),
        ({"optimizer": OPTIMIZER}, "holds no weights: in it are 'optimizer' (dict)"),
        ({}, "holds no weights: in it are no values"),
        ({"other.norm.weight": torch.ones(1)}, "fits nothing in this model"),
        (dict(enumerate(trained().values())), "model has the name 0, not a text"),
        ({"a\n\x1b[31m": torch.ones(1)}, r"model has the name 'a\n\x1b[31m', not a text"),
        ({"model": trained(), "metadata": 5}, "metadata is 5, not a dict"),
        (
            {"model": trained(), "metadata": {"classes": 5}},
            "metadata.classes is 5, not a list of str",
        ),
        (
            {"model": trained(), "metadata": {"classes": ["a", 1]}},
            "metadata.classes is a list, not a list of str",
        ),
        (
            {"model": trained(), "metadata": {"category_ids": ["1"]}},
            "metadata.category_ids is a list, not a list of int",
        ),
        ({"model": trained(), "metadata": {"config": b""}}, "metadata.config is a bytes, not a"),
        ({"model": trained(), "ema_state": 3}, "ema_state is a int, not a state dict"),
        (
            {"model": trained(), "ema_state": {1: torch.ones(1)}},
            "ema_state has the name 1, not a text",
        ),
        (
            trained() | {"head.bias": torch.ones(3).to_sparse()},
            "model: head.bias is a sparse or nested tensor",
        ),
        (
            trained() | {"head.bias": torch.quantize_per_tensor(torch.ones(3), 1, 0, torch.qint8)},
            "model: head.bias is a quantized tensor: save value.dequantize()",
        ),
        (trained() | {"head.bias": torch.ones(3, dtype=torch.cfloat)}, "head.bias is a complex"),
        (trained() | {"head.bias": torch.ones(3, device="meta")}, "head.bias is a tensor on meta"),
        (
            trained() | {"head.bias": torch.ones(1).expand(10**12)},
            "head.bias is of shape [1000000000000], more than the file holds",
        ),
        (
            trained() | {"head.bias": torch.tensor([1, float("nan"), 2])},
            "head.bias has 1 values of 3 that are NaN or infinite",
        ),
        (
            trained() | {"head.bias": torch.tensor([1, float("nan"), float("-inf")])},
            "head.bias has 2 values of 3 that are NaN or infinite",
        ),
    ],
)
def test_odd_content_is_one_line_that_names_file_and_key(tmp_path, content, message):
    network, path = model(), saved(tmp_path, content)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    for strict in (True, False):
        with pytest.raises(InputError) as error:
            load_weights(network, path, strict=strict)
        assert path in str(error.value) and message in str(error.value)
        assert "\n" not in str(error.value)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_a_value_that_is_infinite_before_training_may_be_so_behind_it(tmp_path):
    network = model()
    network.register_buffer("anchors", torch.tensor([1.0, float("inf")]))
    path = saved(tmp_path, network.state_dict())
    assert load_weights(network, path, strict=True)[0]
    with pytest.raises(InputError, match="anchors has 1 values of 2"):
        load_weights(network, saved(tmp_path, {"anchors": network.anchors / 0}), strict=False)


def test_what_a_failed_step_left_can_be_looked_at(tmp_path):
    path = saved(tmp_path, trained() | {"head.bias": torch.full((3,), float("nan"))})
    network = model()
    load_weights(network, path, strict=True, finite=False)
    assert network["head"].bias.isnan().all()


@pytest.mark.parametrize("name", ["a.pth", "a.pkl", "a.bin", "a.safetensors"])
def test_the_format_is_told_by_the_content(tmp_path, name):
    path = saved(tmp_path, {"model": trained()}, name.replace("safetensors", "ckpt"))
    assert read_checkpoint(path)["model"].keys() == trained().keys()
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    content = struct.pack("<Q", len(header)) + header + np.float32(2).tobytes()
    (tmp_path / name).write_bytes(content)
    assert read_checkpoint(tmp_path / name)["model"]["a"].tolist() == [2]


def test_files_of_old_torch_are_read(tmp_path):
    path = tmp_path / "old.pth"
    torch.save({"model": trained()}, path, _use_new_zipfile_serialization=False)
    weights = read_checkpoint(path)["model"]
    assert all(torch.equal(v, trained()[k]) for k, v in weights.items())


class HiddenMethod:
    """A tensor whose ``detach`` is an attribute that its file gives it."""

    def __reduce__(self):
        state = {"detach": OrderedDict}
        args = (torch.ones(2), True, OrderedDict(), state)
        return torch._utils._rebuild_parameter_with_state, args


def test_tensors_have_no_attributes_of_a_file(tmp_path):
    weights = read_checkpoint(saved(tmp_path, {"model": {"a": HiddenMethod()}}))["model"]
    assert weights["a"].tolist() == [1.0, 1.0] and not vars(weights["a"])


def test_addresses_are_told_apart_by_the_whole_of_them(tmp_path, monkeypatch):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    content = {}
    for value in (1.0, 2.0):
        (tmp_path / str(value)).mkdir()
        torch.save({"model": {"w": torch.tensor([value])}}, tmp_path / str(value) / "a.pth")
        handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / str(value)))
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/x/../../a.pth"
        content[value] = read_checkpoint(address)["model"]["w"].item()
        server.shutdown()
        server.server_close()
    assert content == {1.0: 1.0, 2.0: 2.0}
    cached = [path for path in (tmp_path / "cache").rglob("*.pth") if path.is_file()]
    assert [path.name for path in cached] == ["a.pth", "a.pth"]
