import logging
import pickle
from fractions import Fraction

import numpy as np
import pytest
import torch
from omegaconf import ListConfig
from torch import nn

from detrex.checkpoint import load_weights, read_checkpoint
from detrex.utils.errors import InputError


class Model(nn.Module):
    def __init__(self, classes=3):
        super().__init__()
        self.backbone = nn.Linear(2, 2)
        self.head = nn.Linear(2, classes)
        self.decoder = nn.ModuleDict({"head": self.head})  # the same weights under a second name
        self.criterion = nn.Module()
        self.criterion.register_buffer("empty_weight", torch.ones(4))


def trained(classes=3):
    torch.manual_seed(1)
    return Model(classes).state_dict()


def save(tmp_path, content, name="weights.pth"):
    path = tmp_path / name
    torch.save(content, path)
    return str(path)


def assert_loaded(model, names=("backbone.weight", "backbone.bias", "head.weight", "head.bias")):
    state, expected = model.state_dict(), trained()
    assert all(torch.equal(state[name], expected[name]) for name in names)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"model": state, "iteration": 4},
        lambda state: {"state_dict": state},
        lambda state: {"model": {f"module.{k}": v for k, v in state.items()}},
        lambda state: {"model": {k: v.numpy() for k, v in state.items()}},
    ],
)
def test_every_layout_loads_completely(tmp_path, wrap):
    model = Model()
    report, _ = load_weights(model, save(tmp_path, wrap(trained())), strict=True)
    assert report and report.total == 7
    assert_loaded(model)


@pytest.mark.parametrize("missing", ["head", "decoder.head", "criterion"])
def test_one_name_of_a_shared_tensor_is_enough_and_loss_constants_do_not_matter(tmp_path, missing):
    state = {k: v for k, v in trained().items() if not k.startswith(missing)}
    model = Model()
    report, _ = load_weights(model, save(tmp_path, state), strict=True)
    assert report.missing == []
    assert_loaded(model)


def broken():
    state = trained(classes=5)
    del state["backbone.bias"]
    return {**state, "extra.weight": torch.ones(1), "criterion.other": torch.ones(1)}


def test_strict_lists_every_kind_of_difference_and_changes_nothing(tmp_path):
    model = Model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(InputError) as error:
        load_weights(model, save(tmp_path, broken()), strict=True)
    message = str(error.value)
    for part in (
        "weights.pth",
        "1 missing (backbone.bias)",
        "1 unexpected (extra.weight)",
        "4 of another shape (head.weight [5, 2] in the file, [3, 2] in the model, ",
        ", ...)",
    ):
        assert part in message
    assert "\n" not in message
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_partial_loading_counts_and_warns(tmp_path, caplog):
    model = Model()
    with caplog.at_level(logging.INFO):
        report, _ = load_weights(model, save(tmp_path, broken()), strict=False)
    assert report.loaded == ["backbone.weight", "criterion.empty_weight"]
    assert report.summary() == "loaded 2 of 7 tensors: backbone 1, criterion 1"
    assert "head.weight not loaded: (5, 2) in the file, (3, 2) in the model" in caplog.text
    assert torch.equal(model.backbone.weight, trained()["backbone.weight"])


def test_weights_of_a_backbone_alone(tmp_path):
    state = {k.removeprefix("backbone."): v for k, v in trained().items() if "backbone" in k}
    model = Model()
    report, _ = load_weights(
        model, save(tmp_path, {**state, "fc.bias": torch.ones(1)}), strict=False
    )
    assert report.summary() == "loaded 2 of 7 tensors: backbone 2"
    assert_loaded(model, ["backbone.weight", "backbone.bias"])


def test_averaged_weights_where_the_file_has_them(tmp_path, caplog):
    path = save(tmp_path, {"model": Model().state_dict(), "ema_state": trained()})
    model = Model()
    load_weights(model, path, strict=True, averaged=True)
    assert_loaded(model)
    assert "averaged weights" not in caplog.text
    path = save(tmp_path, trained())
    model = Model()
    load_weights(model, path, strict=True, averaged=True)
    assert_loaded(model)
    assert f"{path} has no averaged weights (ema_state): its model's are taken" in caplog.text


def test_zoo_pickle_is_matched_by_suffix(tmp_path):
    content = {
        "model": {
            k.removeprefix("backbone."): v.numpy() for k, v in trained().items() if "backbone" in k
        },
        "__author__": "torchvision",
        "matching_heuristics": True,
    }
    path = tmp_path / "R-50.pkl"
    path.write_bytes(pickle.dumps(content, protocol=2))
    model = Model()
    report, _ = load_weights(model, str(path), strict=False)
    assert report.summary() == "loaded 2 of 7 tensors: backbone 2"
    assert_loaded(model, ["backbone.weight", "backbone.bias"])


@pytest.mark.parametrize("name", ["trusted.pth", "trusted.pkl"])
def test_files_that_hold_more_than_data_are_read_when_trusted_with_a_warning(
    tmp_path, name, caplog
):
    path = tmp_path / name
    content = {"model": trained(), "made": Fraction(1, 3)}
    path.write_bytes(pickle.dumps(content)) if name.endswith("pkl") else torch.save(content, path)
    with pytest.raises(InputError, match="more than data"):
        load_weights(Model(), str(path), strict=True)
    assert not caplog.records
    model = Model()
    _, metadata = load_weights(model, str(path), strict=True, trusted=True)
    assert metadata["made"] == Fraction(1, 3)
    assert_loaded(model, list(trained()))
    assert "runs whatever code" in caplog.text and name in caplog.text


def test_upstream_training_state_with_its_odd_containers_is_readable(tmp_path):
    state = {"betas": ListConfig([0.9, 0.999]), "best": np.float64(3.0)}
    content = read_checkpoint(save(tmp_path, {"model": trained(), "trainer": state}))
    assert list(content["trainer"]["betas"]) == [0.9, 0.999]
    assert content["trainer"]["best"] == 3.0
