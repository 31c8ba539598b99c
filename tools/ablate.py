"""Compare variants of a config over several seeds: run what is missing, then print the table.

python tools/ablate.py --config-file projects/rank_detr/configs/rank_detr_r50_two_stage_12ep.py \
    --grid "model.rank_adaptive_classhead=[False,True]" --seeds 3 --num-gpus 8

The same command continues an interrupted ablation; equal configs are trained once. The first row is
the baseline. Runs are in DIR/runs/, tables in DIR/NAME_KEY.{md,csv,tex}; KEY stands for the rows.
"""

from __future__ import annotations

import argparse
import functools
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from detrex.ablation.plan import find_plan, preset_names
from detrex.train.slurm import parameters
from detrex.utils.cli import run_command
from detrex.utils.errors import InputError
from detrex.utils.files import atomic_write

if TYPE_CHECKING:
    from detrex.ablation.jobs import Job


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--config-file", default="", metavar="FILE", help="config of variants without their own")
    add("--preset", metavar="NAME", help=f"one of {', '.join(preset_names())}")
    add("--variants", metavar="FILE", type=Path, help="variants as YAML, like those of a preset")
    add("--grid", nargs="+", default=[], metavar="KEY=[A,B]", help="values to combine")
    add("--only", nargs="+", default=[], metavar="ROW", help="rows to compare: names or patterns")
    add("--set", nargs="+", default=[], metavar="KEY=VALUE", help="overrides of every variant")
    add("--seeds", type=int, default=1, metavar="N", help="runs of each variant, seeds from 0")
    add("--num-gpus", type=int, default=1, metavar="N", help="GPUs (or CPU processes) of a run")
    add("--jobs", type=int, metavar="N", help="runs at once; default: as the GPUs allow, else 1")
    add("--slurm", nargs="*", metavar="KEY=VALUE", help="run through submitit, with its options")
    add("--metrics", nargs="+", default=["AP", "AP50", "AP75"], metavar="NAME")
    add("--table-only", action="store_true", help="run nothing, print what is there")
    add("-o", "--output", type=Path, default="output/ablations", help="default: %(default)s")
    args = parser.parse_args()
    for option in ("seeds", "num_gpus", "jobs"):
        if getattr(args, option) is not None and getattr(args, option) < 1:
            raise InputError(f"--{option.replace('_', '-')}: give 1 or more")
    return args


def run(jobs: list[Job], args: argparse.Namespace) -> dict[Job, str]:
    """Run what has no final scores yet; return the jobs that failed with their errors."""
    from detrex.ablation import schedule

    todo = schedule.missing(jobs)
    print(f"{len(todo)} of {len({job.folder for job in jobs})} runs to do", flush=True)
    report = functools.partial(print, flush=True)
    if args.slurm is not None and todo:
        options = {"gpus_per_node": args.num_gpus, "timeout_min": 24 * 60}
        options |= parameters("--slurm", args.slurm)
        return schedule.run_on_slurm(todo, args.output / "slurm", options, report)
    groups = schedule.device_groups(args.num_gpus)
    return schedule.run_here(todo, args.jobs or max(1, len(groups)), groups, report)


def write(path: Path, texts: dict[str, str]) -> None:
    """Write a table in each format and print it."""
    for ending, text in texts.items():
        with atomic_write(f"{path}.{ending}") as stream:
            stream.write(text)
    print(f"\n{texts['md']}\nwritten to {path}.md")


def main() -> None:
    args = parse()
    from detrex.ablation import overhead  # take seconds: not before --help
    from detrex.ablation.jobs import make_jobs
    from detrex.ablation.schedule import CONSOLE
    from detrex.ablation.tables import as_texts

    plan = find_plan(args.preset, args.variants, args.config_file, bool(args.grid))
    plan = plan.resolve(args.set, args.grid).select(args.only)
    name = args.preset or Path(args.variants or args.config_file).stem
    table = args.output / f"{name}_{plan.key}"  # another plan's table stays
    if args.preset == overhead.PRESET:
        return write(table, {"md": overhead.overhead_table(plan)})
    jobs = make_jobs(plan, range(args.seeds), args.num_gpus, args.output / "runs")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        failed = {} if args.table_only else run(jobs, args)
    except KeyboardInterrupt:
        print("interrupted: the same command continues", file=sys.stderr)
        raise SystemExit(130) from None
    write(table, as_texts(jobs, plan, args.metrics))
    for job, error in failed.items():
        print(f"failed: {job.name}: {error} ({job.folder}/{CONSOLE})", file=sys.stderr)
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    run_command(main)
