"""Files without usable weights: the message names the file, and what is wrong with it."""

import os
import pickle
import zipfile

import pytest
import torch
from torch import nn

from detrex.checkpoint import load_weights, read_checkpoint
from detrex.checkpoint.convert import convert, detect_layout
from detrex.checkpoint.efficientnet_lite0 import match_by_order
from detrex.checkpoint.weights import write_safetensors
from tests.models import tiny
from tests.refusals import assert_refused, refused


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


def evil_archive(tmp_path):
    torch.save({"model": Evil()}, tmp_path / "evil.pth")
    read_checkpoint(tmp_path / "evil.pth")


def evil_pickle(tmp_path):
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps({"model": Evil()}))
    read_checkpoint(tmp_path / "evil.pkl")


def cut_off(size):
    def action(tmp_path):
        path = tmp_path / "weights.pth"
        torch.save(nn.Linear(2, 3).state_dict(), path)
        path.write_bytes(path.read_bytes()[:size])
        read_checkpoint(path)

    return action


def cut_off_safetensors(tmp_path):
    path = tmp_path / "model.safetensors"
    write_safetensors(nn.Linear(2, 3), path, "", None)
    path.write_bytes(path.read_bytes()[:-1])
    read_checkpoint(path)


def with_content(content):
    def action(tmp_path):
        torch.save(content, tmp_path / "weights.pth")
        load_weights(nn.Linear(2, 3), str(tmp_path / "weights.pth"), strict=False)

    return action


def archive_of(*names):
    def action(tmp_path):
        with zipfile.ZipFile(tmp_path / "weights.pth", "w") as archive:
            for name in names:
                archive.writestr(name, b"")
        read_checkpoint(tmp_path / "weights.pth")

    return action


def empty_folder(tmp_path):
    (tmp_path / "output").mkdir()
    read_checkpoint(tmp_path / "output")


def folder_with_checkpoints(tmp_path):
    for name in ("model_final.pth", "nan_state.pth", "log.txt"):
        (tmp_path / name).touch()
    read_checkpoint(tmp_path)


def pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe.pth")
    read_checkpoint(tmp_path / "pipe.pth")


def without_permission(tmp_path, monkeypatch):
    path = tmp_path / "weights.pth"
    torch.save({}, path)

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("pathlib.Path.open", refuse)
    read_checkpoint(path)


UNREADABLE = {
    "code in an archive": (evil_archive, "evil.pth", "--trust-checkpoint"),
    "code in a pickle": (evil_pickle, "evil.pkl", "--trust-checkpoint"),
    "missing": (lambda tmp_path: read_checkpoint(tmp_path / "a.pth"), "a.pth not found"),
    "empty": (cut_off(0), "weights.pth", "empty"),
    "first bytes": (cut_off(10), "weights.pth", "cut off"),
    "half a file": (cut_off(1000), "weights.pth", "cut off"),
    "half a safetensors file": (cut_off_safetensors, "model.safetensors"),
    "a list": (with_content([1, 2]), "weights.pth", "list"),
    "no tensors": (with_content({"model": 3}), "weights.pth", "'model'", "int"),
    "weights of another model": (with_content({"other.scale": torch.ones(1)}), "other.scale"),
    "an archive with a checkpoint": (archive_of("model_final.pth"), "weights.pth", "archive"),
    "TorchScript": (archive_of("a/data.pkl", "a/constants.pkl"), "weights.pth", "TorchScript"),
    "an empty folder": (empty_folder, "output", "folder", ".pth"),
    "a folder of a run": (folder_with_checkpoints, "folder", "/model_final.pth"),
    "a pipe": (pipe, "pipe.pth", "regular"),
    "no permission": (without_permission, "weights.pth", "Permission denied"),
    "no network": (
        lambda: read_checkpoint("http://127.0.0.1:9/R-50.pkl"),
        "http://127.0.0.1:9/R-50.pkl",
        "train.init_checkpoint",
    ),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_file_without_usable_weights_is_named(request, capsys, case):
    assert_refused(request, *UNREADABLE[case])
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".pth", ".pkl", ".safetensors"])
@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "0 bytes"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
        (b"\n<!DOCTYPE html><html>", "HTML"),
        (b"<html>", "HTML"),
        (b'{"error": "not found"}', "JSON"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"\x89HDF\r\n", "HDF5"),
        (b"\x93" * 2000, "cannot be read"),
    ],
)
def test_a_file_of_another_kind_is_named_with_its_kind(tmp_path, content, kind, suffix):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with refused(str(path), kind):
        read_checkpoint(path)


MASKS = {f"mask_head.lay{i}.weight": torch.ones(1) for i in range(22)}
UNEXPECTED = {"model.encoder_input_proj.0.0.weight": 0, "model.mask_head.weight": 0}
STEM_AND_HEAD = {"stem": torch.zeros(3, 2), "head": torch.zeros(4)}
UNKNOWN_NAMES = {
    "of a layout": (lambda: convert(MASKS, "detr"), "22 names", "detr", "mask_head.lay0"),
    "of no layout": (lambda: detect_layout(MASKS), "dino", "mask_head.lay0"),
    "our own": (lambda: detect_layout(tiny().state_dict()), "train.init_checkpoint"),
    "of another model": (
        lambda: convert({name: torch.zeros(1) for name in UNEXPECTED}, "rt_detr"),
        "1 names",
        "rt_detr",
        "model.mask_head.weight",
    ),
    "another shape": (
        lambda: match_by_order({"a": torch.zeros(3, 2), "b": torch.zeros(5)}, STEM_AND_HEAD),
        "b is (5,)",
        "head (4,)",
    ),
    "another count": (
        lambda: match_by_order({"a": torch.zeros(3, 2)}, STEM_AND_HEAD),
        "1 tensors",
        "has 2",
    ),
}


@pytest.mark.parametrize("case", UNKNOWN_NAMES)
def test_weights_that_cannot_be_converted_are_named(request, case):
    assert_refused(request, *UNKNOWN_NAMES[case])
