"""Watch the memory and the open files of a training run: they must stay flat.

python tests/nightly/memory.py --steps 2000

Trains the tiny detector of the tests on the sample data in a real process with two loading
processes. Compares the last fifth of the run with what it had after the warm-up, its first tenth:
medians of memory, and the fewest open files, since a file being written is open for a moment.
Exit status 1 if a process grew by more than 1 % and half a MB, or files were left open: pages that
a process shares with its parent become its own when it first writes to them, for some 9,000 steps.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[2]))

from detrex.data.sample.files import make_sample_data
from tests.train import processes
from tests.train.runs import TinyRuns

WARM_UP, END, GROWTH, SLACK = 0.1, 0.8, 1.01, 0.5


def sample(pid: int) -> dict[str, float]:
    """Open files, resident MB, and the MB that each process shares with no other (Linux only)."""
    main = Path("/proc", str(pid))
    rss = int((main / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    numbers = {"files": len(os.listdir(main / "fd")), "RSS MB": rss, "private MB": _private(pid)}
    tasks = (main / "task").glob("*/children")
    children = sorted(int(child) for task in tasks for child in task.read_text().split())
    return numbers | {f"worker {i} MB": _private(child) for i, child in enumerate(children)}


def _private(pid: int) -> float:
    lines = Path("/proc", str(pid), "smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) * 1024 / 1e6


def watch(process, folder: Path) -> list[tuple[int, dict[str, float]]]:
    """(iteration, sample) while the run lasts."""
    samples = []
    while process.is_alive():
        try:
            samples.append((processes.iterations(folder), sample(process.pid)))
        except OSError:  # a process has just ended
            continue
        time.sleep(0.2)
    return samples


def compare(samples: list[tuple[int, dict[str, float]]], steps: int) -> bool:
    """Print what there was behind the warm-up and at the end; whether nothing grew."""
    fifth = steps * (1 - END)
    flat = True
    for name in samples[len(samples) // 2][1]:
        early = [s[name] for i, s in samples if 0 <= i - WARM_UP * steps < fifth and name in s]
        late = [s[name] for i, s in samples if END * steps <= i < steps - 1 and name in s]
        typical = min if name == "files" else median
        before, after = typical(early), typical(late)
        grew = after > max(before * GROWTH, before + SLACK)
        flat = flat and not grew
        print(f"{name:14s}{before:10.1f} -> {after:10.1f}  x{after / before:.4f}", "GREW" * grew)
    return flat


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000)
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as root:
        make_sample_data(Path(root, "data"), train=60, val=4, size=128)
        files = [
            f"dataloader.dataset.{split}.{key}={Path(root, 'data', split)}{suffix}"
            for split in ("train", "val")
            for key, suffix in (("json", ".json"), ("images", ""))
        ]
        options = [
            *(f"train.max_iter={args.steps}", "model.num_classes=10", "train.log_period=10"),
            *("train.checkpointer.period=0.1", "dataloader.train.num_workers=2"),
            *("train.model_ema.enabled=True", "train.eval_period=0"),
        ]
        runs = TinyRuns(Path(root), files)
        process = processes.start(runs.args("run", *options), Path(root, "log"))
        samples = watch(process, Path(root, "run"))
        if processes.finish(process):
            print(Path(root, "log").read_text()[-3000:])
            return 1
        print(f"{args.steps} steps, {len(samples)} samples")
        return int(not compare(samples, args.steps))


if __name__ == "__main__":
    raise SystemExit(main())
