"""SIGKILL a run at random moments; every resumed one must equal the run that nobody disturbed.

python tests/nightly/kill_and_resume.py --points 20 --seed 0

Every third kill waits until a checkpoint is being written, the others for a random time. Each
run is killed twice, then finished. Exit status 1 if one of them differs.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.train import processes
from tests.train.runs import TinyRuns
from tests.train.tiny import write_data


def kill(process, folder: Path, rng: random.Random, kind: str, seconds: float) -> str:
    """Kill the run at a moment of this kind; return what was going on."""
    before = processes.iterations(folder)
    if not processes.wait_until(lambda: processes.iterations(folder) > before, process):
        return "had ended"
    time.sleep(rng.uniform(0, seconds / 2))
    if kind == "in a checkpoint":
        processes.wait_until(lambda: any(folder.glob(".model_*.pth.*")), process)
    process.kill()
    process.join()
    writing = ", writing " + "".join(p.name for p in folder.glob(".model_*.pth.*"))
    return f"iteration {processes.iterations(folder)}{writing.removesuffix(', writing ')}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    rng, lost = random.Random(args.seed), 0
    with tempfile.TemporaryDirectory() as root:
        runs = TinyRuns(Path(root), write_data(Path(root, "data")))
        for name in ("first", "whole"):  # the first one pays for imports
            began = time.monotonic()
            command = runs.args(name, *processes.OPTIONS)
            processes.finish(processes.start(command, runs.folder / "log"))
            seconds = time.monotonic() - began
        for point in range(0, args.points, 2):
            name = f"run{point}"
            command = runs.args(name, *processes.OPTIONS, "--resume")
            for number in (point, point + 1):
                kind = "in a checkpoint" if number % 3 == 0 else "anywhere"
                process = processes.start(command, runs.folder / "log")
                moment = kill(process, runs.folder / name, rng, kind, seconds)
                print(f"{number:3d}  {kind:16s}{moment}", flush=True)
            processes.finish(processes.start(command, runs.folder / "log"))
            try:
                processes.assert_same_run(runs.folder / name, runs.folder / "whole")
                print("     equal")
            except AssertionError as error:
                lost += 1
                print(f"     DIFFERS: {error}")
    print(f"{args.points} kills with seed {args.seed}; runs that differ: {lost}")
    return int(lost > 0)


if __name__ == "__main__":
    raise SystemExit(main())
