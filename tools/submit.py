"""Train on a Slurm cluster; a preempted or timed-out job saves, and continues when requeued.

python tools/submit.py --set timeout_min=1440 gpus_per_node=8 cpus_per_task=64 \
    slurm_partition=gpu -- projects/rank_detr/train_net.py --num-gpus 8 --config-file ...
"""

from __future__ import annotations

import argparse
from pathlib import Path

from detrex.train.slurm import parameters, submit
from detrex.utils.cli import run_command
from detrex.utils.errors import InputError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cluster", default="slurm", choices=["slurm", "local"])
    parser.add_argument("--folder", default="output/jobs", help="for logs and submitit's files")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="of submitit")
    parser.add_argument("command", nargs="+", help="after --: train_net.py and its arguments")
    args = parser.parse_args()
    if not Path(args.command[0]).is_file():
        raise InputError(f"{args.command[0]} not found: give the path of a train_net.py after --")
    options = parameters("--set", args.set)
    job = submit(args.command, Path(args.folder), args.cluster, options)
    print(f"job {job.job_id}; its log: {job.paths.stdout}")


if __name__ == "__main__":
    run_command(main)
