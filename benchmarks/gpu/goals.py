"""What speed was wished for, against what was measured: met or missed, never passed or failed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

ATTENTION, STEP, MEMORY, IDLE, WAITS = 2.5, {2: 4.0, 16: 5.0}, 0.35, 0.05, 1


def goals_of(checks: Mapping[str, dict]) -> list[dict]:
    """what, value, goal (texts) and met, for those whose checks have rows.

    Args:
        checks: outcomes by the check's name.
    """
    return [*_attention(_rows(checks, "benchmark attention")), *_steps(checks)]


def _rows(checks: Mapping[str, dict], name: str) -> list[dict]:
    return checks.get(name, {}).get("rows") or []


def _goal(what: str, value: str, goal: str, met: bool) -> dict:
    return {"what": what, "value": value, "goal": goal, "met": met}


def _attention(rows: list[dict]) -> Iterator[dict]:
    """bf16 against the original CUDA kernel where it was measured, else against plain PyTorch."""
    times = {row["what"]: row["ours_s"] for row in rows if "ours_s" in row}
    plain = {row["what"]: row["baseline_s"] for row in rows if "baseline_s" in row}
    for kind in ("encoder", "decoder"):
        what = f"attention, {kind}, forward + backward"
        if f"{what}, bf16" not in times:
            continue
        original = times.get(f"{what}, original CUDA kernel")
        side = "plain PyTorch" if original is None else "the original CUDA kernel"
        ratio = (original or plain[f"{what}, bf16"]) / times[f"{what}, bf16"]
        text = f"{what}, bf16 against {side}"
        yield _goal(text, f"{ratio:.1f}x", f"{ATTENTION}x", ratio >= ATTENTION)


def _steps(checks: Mapping[str, dict]) -> Iterator[dict]:
    """bf16 against the plain formulation in fp32, compiled where that is faster."""
    plain = {row["batch"]: row for row in _rows(checks, "training step, plain")}
    eager = {row["batch"]: row for row in _rows(checks, "training step, bf16")}
    compiled = {row["batch"]: row for row in _rows(checks, "training step, bf16, compiled")}
    for batch, row in eager.items():
        what = f"step, batch {batch}, bf16"
        if "gpu_idle" in row:
            idle, waits = row["gpu_idle"], row["host_waits"]
            yield _goal(f"{what}: idle GPU", f"{idle:.1%}", f"below {IDLE:.0%}", idle < IDLE)
            yield _goal(f"{what}: host waits", f"{waits}", f"at most {WAITS}", waits <= WAITS)
        base = plain.get(batch, {})
        if "images_per_s" not in base or "images_per_s" not in row or batch not in STEP:
            continue
        for name, ours in ((what, row), (f"{what}, compiled", compiled.get(batch, {}))):
            if "images_per_s" in ours:
                ratio = ours["images_per_s"] / base["images_per_s"]
                text = f"{name}: images a second against plain in fp32"
                yield _goal(text, f"{ratio:.1f}x", f"{STEP[batch]:g}x", ratio >= STEP[batch])
        if base["images"] == row["images"] and "peak_mib" in base and "peak_mib" in row:
            share = row["peak_mib"] / base["peak_mib"]
            text = f"{what}: memory against plain in fp32"
            yield _goal(text, f"{share:.2f}x", f"{MEMORY}x", share <= MEMORY)
