"""Compare this toolbox's fast paths with the plain formulation, on this machine.

python tools/benchmark.py attention --json output/attention.json

Every module of benchmarks/ is one benchmark: it prints rows with both sides and their ratio (fps:
images a second of one model, by batch and image size). It uses one thread, runs the sides in turns
and takes medians, so that ratios carry over to other machines.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # benchmarks/ is not installed

from benchmarks import NAMES, line, prepare
from detrex.utils.cli import run_command, whole
from detrex.utils.errors import InputError
from detrex.utils.files import atomic_write, check_writable

OPTIONS = ("repeats", "config_file", "batch_sizes", "sizes", "boxes")


def size(text: str) -> tuple[int, int]:
    """Height and width: "480x640"."""
    height, x, width = text.partition("x")
    if not x:
        raise argparse.ArgumentTypeError(f"{text!r}: write HxW, e.g. 480x640")
    return whole()(height), whole()(width)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=[*NAMES, "all"])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--repeats", type=int, help="measured runs of each side")
    parser.add_argument("--config-file", metavar="FILE", help="fps: whose model")
    parser.add_argument("--batch-sizes", nargs="+", type=int, metavar="B", help="fps")
    parser.add_argument("--sizes", nargs="+", type=size, metavar="HxW", help="fps: images")
    parser.add_argument("--boxes", type=whole(), metavar="N", help="large_data: of the made-up set")
    parser.add_argument("--json", help="file to write the rows, versions and hardware to")
    args = parser.parse_args()
    for option, values in {"repeats": [args.repeats], "batch-sizes": args.batch_sizes}.items():
        if any(value is not None and value < 1 for value in values or ()):
            text = " ".join(map(str, values))
            raise InputError(f"--{option} {text}: at least 1 is needed")
    if args.json:
        check_writable(args.json)
    return args


def main() -> None:
    args = parse()
    import torch  # takes seconds: not before --help

    from detrex.utils.collect_env import environment

    if args.device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: PyTorch sees no GPU; leave the option out")
    torch.set_num_threads(1)
    options = {"device": args.device} if args.device != "cpu" else {}
    options |= {key: getattr(args, key) for key in OPTIONS if getattr(args, key) is not None}
    results = {"date": datetime.date.today().isoformat(), "environment": environment(), "rows": []}
    results["command"] = " ".join(["python tools/benchmark.py", *sys.argv[1:]])
    names = NAMES if args.name == "all" else [args.name]
    for measure in [prepare(name, options) for name in names]:
        for row in measure():
            print(line(row), flush=True)
            results["rows"].append(row)
    if args.json:
        with atomic_write(args.json) as file:
            json.dump(results, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    run_command(main)
