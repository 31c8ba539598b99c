"""Check this toolbox on a GPU: kernels, models, training, speed; one line for each check.

python tools/gpu_check.py

Results are in output/gpu_check: results.json, results.md, log.txt. A check that has a result is not
run again, so an interrupted command goes on where it stopped. benchmarks/METHOD.md says what is
measured how.
"""

from __future__ import annotations

import argparse
import fnmatch
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # benchmarks/ is not installed

from benchmarks.gpu import packages
from benchmarks.gpu.checks import Check, all_checks
from detrex.utils.cli import run_command, whole
from detrex.utils.errors import InputError


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu: tiny sizes")
    parser.add_argument("--output", default="output/gpu_check", help="folder of the results")
    parser.add_argument("--minutes", type=whole(), default=8, help="for all checks together")
    parser.add_argument("--only", nargs="+", metavar="NAME", help='checks, also "golden*"')
    parser.add_argument("--retry", action="store_true", help="run failed checks again")
    parser.add_argument("--wheels", metavar="FOLDER", help="wheels of packages that are missing")
    parser.add_argument("--list", action="store_true", help="print the checks and the packages")
    return parser.parse_args()


def chosen(patterns: list[str] | None) -> list[Check]:
    """The checks of these names.

    Raises:
        InputError: a pattern that fits none.
    """
    checks = all_checks()
    if patterns is None:
        return checks
    for pattern in patterns:
        if not fnmatch.filter([check.name for check in checks], pattern):
            raise InputError(f"--only {pattern!r}: no such check; --list names them")
    return [c for c in checks if any(fnmatch.fnmatch(c.name, pattern) for pattern in patterns)]


def main() -> None:
    args = parse()
    checks, folder = chosen(args.only), Path(args.output).absolute()
    if args.list:
        for check in checks:
            print(f"{check.name}{'' if check.cpu else ' (needs a GPU)'}")
        print(f"\n{packages.listing()}")
        return
    with tempfile.TemporaryDirectory(prefix="gpu_check_") as site:
        packages.provide(args.wheels, Path(site))
        run(checks, args, folder)


def run(checks: list[Check], args: argparse.Namespace, folder: Path) -> None:
    """
    Raises:
        SystemExit: a check has failed, or was not reached.
    """
    from benchmarks.gpu.runner import run_checks  # the libraries are there now

    results, missed = run_checks(checks, args.device, folder, 60 * args.minutes, args.retry)
    print(f"\n{results.text()}")
    if missed:
        print(f"{missed} checks were not reached: the same command goes on with them")
    failed = [c.name for c in checks if results.checks.get(c.name, {}).get("status") == "failed"]
    if failed:
        print(f"failed: {', '.join(failed)}")
    if missed or failed:
        raise SystemExit(1)


if __name__ == "__main__":
    run_command(main)
