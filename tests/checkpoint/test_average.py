"""The mean of checkpoints: numbers, refusals, and the command."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from detrex.checkpoint import read_checkpoint, save_checkpoint
from detrex.checkpoint.average import average
from detrex.utils.errors import InputError
from tests.models import ROOT


def checkpoint(value: float, count: int) -> dict:
    return {"weight": torch.full((2, 3), value), "count": torch.tensor(count)}


def test_shares_are_divided_by_their_sum() -> None:
    averaged = average([checkpoint(1.0, 5), checkpoint(3.0, 7)], [1, 3])
    assert torch.equal(averaged["weight"], torch.full((2, 3), 2.5))
    assert averaged["count"] == 7  # a counter has no mean: that of the larger share
    equal = average([checkpoint(1.0, 5), checkpoint(3.0, 7), checkpoint(5.0, 9)])
    assert torch.equal(equal["weight"], torch.full((2, 3), 3.0)) and equal["count"] == 5


def test_half_precision_is_summed_in_full_and_stays_half() -> None:
    halves = [{"w": torch.full((1,), 1e-4 * i, dtype=torch.float16)} for i in range(1, 31)]
    averaged = average(halves)["w"]
    mean = torch.cat([h["w"] for h in halves]).double().mean()
    assert averaged.dtype is torch.float16 and averaged.item() == mean.half().item()


@pytest.mark.parametrize(
    ("other", "weights", "message"),
    [
        ({"weight": torch.zeros(2, 3)}, None, "checkpoint 2 .* count"),
        ({**checkpoint(0, 0), "weight": torch.zeros(3)}, None, "checkpoint 2 .* weight"),
        (checkpoint(0, 0), [1], "weights: 2 numbers"),
        (checkpoint(0, 0), [0, 0], "weights"),
        (checkpoint(0, 0), [2, -1], "weights"),
    ],
)
def test_refusals_name_what_is_wrong(other: dict, weights: list | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        average([checkpoint(1.0, 1), other], weights)


def test_the_command_writes_a_checkpoint(tmp_path) -> None:
    files = []
    for i, value in enumerate((1.0, 2.0)):
        files.append(tmp_path / f"{i}.pth")
        about = {"classes": ["cat"], "calibration": {"of": "these weights"} if i else None}
        save_checkpoint({"model": checkpoint(value, i), "metadata": about}, files[-1])
    tool, target = ROOT / "tools/average_checkpoints.py", tmp_path / "averaged.pth"
    command = [sys.executable, tool, *files, "-o", target, "--weights", "3", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    averaged = read_checkpoint(target)
    assert torch.equal(averaged["model"]["weight"], torch.full((2, 3), 1.25))
    assert averaged["metadata"] == {"classes": ["cat"]}
    assert "maps of scores are left out" in done.stdout
    again = subprocess.run([*command[:-3], "-o", files[0]], capture_output=True, text=True)
    assert again.returncode and str(files[0]) in again.stderr
