"""The machine, and what runs there."""

from __future__ import annotations

from benchmarks.gpu.checks import Result, demand
from detrex.utils.collect_env import environment


def describe(device: str) -> Result:
    """Versions and hardware.

    Raises:
        CheckFailed: on a GPU attention does not run in the Triton kernels.
    """
    facts = environment()
    path = facts[f"attention on {device}"]
    demand(path == "triton" or device != "cuda", f"attention on cuda runs in {path}, not in Triton")
    machine = facts.get("gpu 0", facts["cpu"])
    return Result(f"{machine}; torch {facts['torch']}; attention in {path}", [facts])
