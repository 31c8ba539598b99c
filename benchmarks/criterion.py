"""Match + losses + backward of Rank-DETR's criterion against the plain formulation.

The clock is this thread's CPU time, which others on the machine disturb least; on a GPU, the time.

python -m benchmarks.criterion benchmarks/results/criterion_cpu.json docs/criterion_scaling.svg

draws how the cost grows, from the file that ``tools/benchmark.py criterion --json`` writes.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from matplotlib import pyplot
from torch import Tensor

from benchmarks.attention import now
from benchmarks.baseline.criterion import hybrid_losses
from detrex.modeling.criterion import Predictions, SetCriterion
from detrex.modeling.matcher import HighOrderMatcher
from detrex.modeling.queries import QueryGroup
from detrex.utils.cli import run_command
from detrex.utils.errors import InputError

WEIGHTS = {"loss_class": 2.0, "loss_bbox": 5.0, "loss_giou": 2.0}
GROUPS = (QueryGroup(size=300), QueryGroup("_one2many", size=1500, copies=6))
LAYERS, CLASSES, TOKENS, POWER = 6, 80, 17821, 4.0
SIZES = ((2, 7, 5), (2, 20, 5), (2, 60, 5), (8, 20, 30))  # images, objects of each, goal


def inputs(batch: int, objects: int, seed: int = 0, device: str = "cpu") -> tuple:
    """Random predictions (leaves that need gradients) and targets, sized as in training."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [(LAYERS, batch, 1800), (1, batch, TOKENS)]
    sets = []
    for size in sizes:
        logits = torch.randn(*size, CLASSES, generator=generator) - 4
        boxes = torch.rand(*size, 4, generator=generator) * 0.4 + 0.3
        sets.append(tuple(x.to(device).requires_grad_() for x in (logits, boxes)))
    targets = [
        {
            "labels": torch.randint(0, CLASSES, (objects,), generator=generator).to(device),
            "boxes": (torch.rand(objects, 4, generator=generator) * 0.4 + 0.3).to(device),
        }
        for _ in range(batch)
    ]
    return *sets, targets


def ours(decoder: tuple, encoder: tuple, targets: list[dict], high_order: bool) -> Tensor:
    """The total loss by the shipped criterion."""
    matcher = HighOrderMatcher(2.0, 5.0, 2.0, iou_order_alpha=POWER, matcher_change_iter=1)
    matcher.iter = int(high_order)
    criterion = SetCriterion(CLASSES, matcher, WEIGHTS, loss_class_type="giou_focal_loss")
    logits, boxes = (x.split([group.size for group in GROUPS], 2) for x in decoder)
    sets = [Predictions(*pair) for pair in zip(logits, boxes, GROUPS, strict=True)]
    sets.append(Predictions.of_encoder(encoder[0][0], encoder[1][0], class_agnostic=True))
    losses = criterion.weighted(criterion.losses_of_sets(sets, targets))
    return torch.stack(list(losses.values())).sum()


def plain(decoder: tuple, encoder: tuple, targets: list[dict], high_order: bool) -> Tensor:
    """The total loss by the baseline."""
    power = POWER if high_order else None
    single = encoder[0][0], encoder[1][0]
    return hybrid_losses(decoder, single, targets, one2one=300, copies=6, power=power)


def seconds(
    function: Callable, decoder: tuple, encoder: tuple, targets: list, high_order: bool
) -> float:
    """One forward and backward: CPU time; on a GPU, the clock's."""
    for leaf in (*decoder, *encoder):
        leaf.grad = None
    start = now(encoder[0])
    function(decoder, encoder, targets, high_order).backward()
    return now(encoder[0]) - start


def time_row(batch: int, objects: int, high_order: bool, repeats: int, device: str = "cpu") -> dict:
    """Medians of both sides, run in turns after one unmeasured run of ours, and their ratio."""
    data = inputs(batch, objects, device=device)
    times: dict = {plain: [], ours: []}
    seconds(ours, *data, high_order)
    for _ in range(repeats):
        for function, seconds_taken in times.items():
            seconds_taken.append(seconds(function, *data, high_order))
    base, fast = map(statistics.median, times.values())
    phase = "high-order cost" if high_order else "standard cost"
    row = {"what": f"criterion, batch {batch}, {objects} objects, {phase}"}
    return row | {"baseline_s": base, "ours_s": fast, "ratio": base / fast}


def run(
    repeats: int = 5, device: str = "cpu", sizes: Sequence[tuple[int, int, int]] = SIZES
) -> list[dict]:
    """One row per size and phase; on the CPU then rows with ``x``, a size that grows, for the
    scaling plot. The goals are the CPU's."""
    rows = [
        time_row(batch, objects, high_order, repeats if batch == 2 else 2, device)
        | ({"goal": goal} if device == "cpu" else {})
        for batch, objects, goal in sizes
        for high_order in (False, True)
    ]
    if device != "cpu" or sizes is not SIZES:
        return rows
    rows += [time_row(b, 20, False, 1) | {"axis": "images", "x": b} for b in (1, 2, 4, 8, 16)]
    counts = (5, 10, 20, 40, 60, 100)
    return rows + [time_row(2, g, False, 1) | {"axis": "objects", "x": g} for g in counts]


def plot(results: str, picture: str) -> None:
    """Seconds by images and by objects, both sides, from a results file.

    Raises:
        InputError: if the file has no rows of this benchmark that grow a size.
    """
    rows = [row for row in json.loads(Path(results).read_text())["rows"] if "axis" in row]
    if not rows:
        raise InputError(f"{results}: no rows with 'axis'; write it with tools/benchmark.py --json")
    figure, panels = pyplot.subplots(1, 2, figsize=(8, 3), layout="constrained")
    for panel, axis in zip(panels, ("images", "objects"), strict=True):
        mine = [row for row in rows if row["axis"] == axis]
        x = [row["x"] for row in mine]
        for side, name in (("baseline_s", "plain formulation"), ("ours_s", "this toolbox")):
            panel.loglog(x, [row[side] for row in mine], marker="o", label=name)
        ours_first = mine[0]["ours_s"]
        panel.loglog(x, [ours_first * n / x[0] for n in x], "k:", label="linear")
        panel.set(ylabel="CPU seconds, one thread")
        panel.set_xticks(x, [str(n) for n in x], minor=False)
        panel.minorticks_off()
        rest = "20 objects each" if axis == "images" else "2 images"
        panel.set_xlabel(f"{axis}{' per image' if axis == 'objects' else ''} ({rest})")
    panels[0].legend(frameon=False)
    figure.suptitle("Matching, losses and backward of a training step")
    figure.savefig(picture)


if __name__ == "__main__":
    run_command(lambda: plot(*sys.argv[1:3]))
