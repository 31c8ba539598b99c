"""What is checked, in this order, and what a check gives back.

This module imports nothing but Python: the list can be read where no package is installed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

GOLDEN = Path(__file__).parents[2] / "tests/parity/golden"
HERE = "benchmarks.gpu"
VARIANTS = ("plain", "fp32", "tf32", "bf16")
COMPILED = ("bf16", "tf32", "fp32")


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Attributes:
        name: what is checked.
        function: "module:function"; it takes the device and ``options``, and returns a
            :class:`Result`.
        limit: seconds after which it has failed.
        gpus: how many it needs on CUDA.
        cpu: whether it runs on the CPU, too.
    """

    name: str
    function: str
    options: Mapping[str, object] = field(default_factory=dict)
    limit: float = 60.0
    gpus: int = 1
    cpu: bool = True


@dataclass
class Result:
    """What a check found: one line, and rows of numbers for the JSON file."""

    figure: str
    rows: list[dict] = field(default_factory=list)


class CheckFailed(Exception):
    """The check ran to its end, and its numbers are wrong."""


class CheckSkipped(Exception):
    """The check cannot run here; the message says what it lacks."""


def within(errors: Mapping[str, tuple[float, float]], rows: list[dict] | None = None) -> Result:
    """The result for errors and their tolerances, by name.

    Raises:
        CheckFailed: an error is above its tolerance or not a number; it is named first.
    """

    def text(name: str) -> str:
        error, tolerance = errors[name]
        return f"{name} {error:.2g} (at most {tolerance:.2g})"

    wrong = [name for name, (error, tolerance) in errors.items() if not error <= tolerance]
    if wrong:
        raise CheckFailed("; ".join(map(text, wrong)))
    closest = max(errors, key=lambda name: errors[name][0] / errors[name][1])
    return Result(f"{len(errors)} compared, closest: {text(closest)}", rows or [])


def demand(holds: bool, otherwise: str) -> None:
    """
    Raises:
        CheckFailed: with the text ``otherwise``, unless ``holds``.
    """
    if not holds:
        raise CheckFailed(otherwise)


def relative(difference: float, size: float) -> float:
    """A difference as a part of a size; of nothing it is the difference itself."""
    return difference / size if size and not math.isnan(size) else difference


def all_checks() -> list[Check]:
    """Correctness first, what takes long last."""
    attention = [
        Check(f"attention kernels, {dtype}", f"{HERE}.attention:check_kernels", {"dtype": dtype})
        for dtype in ("float32", "bfloat16", "float16")
    ]
    golden = [
        Check(
            f"golden model {path.stem}", f"{HERE}.golden:check_model", {"name": path.stem}, limit=40
        )
        for path in sorted(GOLDEN.glob("*.json"))
    ]
    steps = [
        Check(f"training step, {name}", f"{HERE}.steps:measure_step", {"variant": name}, limit=120)
        for name in VARIANTS
    ]
    compiled = [
        Check(
            f"training step, {name}, compiled",
            f"{HERE}.steps:measure_step",
            {"variant": name, "compiled": True},
            limit=170,
            cpu=False,
        )
        for name in COMPILED
    ]
    benchmarks = [
        Check(f"benchmark {name}", f"{HERE}.timings:time_{name}", limit=90)
        for name in ("attention", "inference", "criterion", "assignment", "rt_detr")
    ]
    return [
        Check("environment", f"{HERE}.environment:describe"),
        *attention,
        Check("loss scaling of fp16", f"{HERE}.training:check_loss_scaling"),
        Check("deferred NaN guard", f"{HERE}.training:check_nan_guard"),
        Check("fused AdamW", f"{HERE}.training:check_fused_optimizer"),
        Check("moving average on the device", f"{HERE}.training:check_moving_average"),
        *golden,
        Check("30 steps equal the CPU's", f"{HERE}.runs:check_equals_cpu", limit=120),
        Check("resume, deterministic", f"{HERE}.runs:check_resume", limit=120),
        Check(
            "one process of a group", f"{HERE}.processes:check_group", {"processes": 1}, limit=90
        ),
        Check(
            "two processes of a group",
            f"{HERE}.processes:check_group",
            {"processes": 2},
            limit=120,
            gpus=2,
        ),
        *steps,
        *benchmarks,
        *compiled,
    ]
