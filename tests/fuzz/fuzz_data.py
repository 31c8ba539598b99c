"""Spoil data sets and checkpoints in every way known; each must train on, or be refused with one
clear line.

python tests/fuzz/fuzz_data.py --cases 1000 --processes 30 --seed 0

Prints a table by mutation and every case that went wrong. Exit status 1 if there is one. The first
cases try each mutation once; of the later ones a third mixes two.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import traceback
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.fuzz import checkpoints, image_mutations, json_mutations
from tests.fuzz.case import Case, Original
from tests.fuzz.pipeline import BACKENDS, check
from tests.train import processes
from tests.train.runs import TinyRuns

MUTATIONS = {**json_mutations.MUTATIONS, **image_mutations.MUTATIONS}
OUTCOMES = ("survived", "refused", "wrong")


def spoiled(original: Original, root: Path, seed: int, number: int) -> tuple[Case, Random]:
    """Case ``number`` of a seed, in the new folder ``root``; always the same one."""
    random, names = Random(f"{seed}/{number}"), list(MUTATIONS)
    case = original.case(root)
    chosen = [names[number % len(names)]]
    if number >= len(names) and random.random() < 1 / 3:
        chosen.append(random.choice(list(image_mutations.MUTATIONS)))
    # Files first: mutations of the JSON may leave no way to find them.
    for name in sorted(chosen, key=list(image_mutations.MUTATIONS).__contains__, reverse=True):
        MUTATIONS[name](case, random)
        case.done.append(name)
    return case, random


def try_case(original: Original, root: Path, seed: int, number: int) -> tuple[Case, str, str]:
    """Return the case, its outcome, and what went wrong."""
    case, random = spoiled(original, root, seed, number)
    try:
        return case, check(case, skip_broken=random.random() < 0.5), ""
    except Exception:
        return case, "wrong", traceback.format_exc(limit=-4)


def try_processes(original: Original, root: Path, seed: int, count: int) -> Iterator:
    """As ``try_case``, of real runs with loading processes: they end well, or with one line."""
    names = list(MUTATIONS)
    for number in range(count):
        place = number * len(names) // count
        case, random = spoiled(original, root / f"p{number}", seed, place)
        case.save()
        data = [
            f"dataloader.dataset.{split}.{key}={path}"
            for split in ("train", "val")
            for key, path in (("json", case.json), ("images", case.images))
        ]
        options = [
            *("train.max_iter=4", "train.eval_period=4", "model.num_classes=10"),
            *("dataloader.train.total_batch_size=2", f"train.seed={number}"),
            *("dataloader.train.num_workers=1", "dataloader.test.num_workers=1"),
            f"dataloader.train.mapper.image_backend={random.choice(BACKENDS)}",
        ]
        log = case.root / "log"
        command = TinyRuns(case.root, data).args("run", *options)
        status = processes.finish(processes.start(command, log))
        said = log.read_text(errors="replace")
        errors = [line for line in said.splitlines() if line.startswith("error: ")]
        good = {0: not errors, 2: len(errors) == 1 and case.done != ["untouched"]}.get(
            status, False
        )
        if "Traceback" in said or not good:
            yield case, "wrong", f"exit status {status}\n{said[-2000:]}"
        else:
            yield case, "survived" if status == 0 else "refused", ""


def print_table(title: str, results: list[tuple[Case, str, str]]) -> int:
    """Print outcomes by mutation, and what went wrong; return how often something did."""
    table, total = defaultdict(Counter), Counter()
    for case, outcome, _ in results:
        table[" + ".join(case.done) if len(case.done) == 1 else "two of them"][outcome] += 1
        total[outcome] += 1
    print(f"\n{title:32s}" + "".join(f"{outcome:>10s}" for outcome in OUTCOMES))
    for name, counts in [*table.items(), ("all", total)]:
        print(f"{name:32s}" + "".join(f"{counts[outcome]:10d}" for outcome in OUTCOMES))
    for case, outcome, detail in results:
        if outcome == "wrong":
            print(f"\n{case.root.name}: {' + '.join(case.done)}\n{detail}")
    return total["wrong"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=1000, help="within this process")
    parser.add_argument("--processes", type=int, default=0, help="real runs")
    parser.add_argument("--checkpoints", type=int, default=1000, help="within this process")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    logging.getLogger("detrex").propagate = False
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        original = Original(Path(folder))
        numbers = range(args.first, args.first + args.cases)
        results = [try_case(original, Path(folder, f"case{n}"), args.seed, n) for n in numbers]
        wrong = print_table(f"{args.cases} cases, seed {args.seed}", results)
        for n in range(args.checkpoints):  # what goes wrong is raised, behind its number
            print(f"checkpoint {n}", end="\r")
            checkpoints.check(Path(folder), args.seed, n)
        runs = list(try_processes(original, Path(folder), args.seed, args.processes))
        wrong += print_table(f"{args.processes} processes, seed {args.seed}", runs)
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
