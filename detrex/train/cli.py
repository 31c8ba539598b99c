"""The command line of training and evaluation."""

from __future__ import annotations

import argparse
import atexit
import logging
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from detrex.utils.cli import add_trust_config
from detrex.utils.signals import STOP_SIGNALS
from detrex.utils.streams import outlive_readers

if TYPE_CHECKING:
    from omegaconf import DictConfig


def default_argument_parser() -> argparse.ArgumentParser:
    """Return the parser of ``train_net.py``: upstream's flags and six more."""
    parser = argparse.ArgumentParser(
        description="Train or evaluate a detection transformer.",
        epilog="Overrides may stand anywhere: train.max_iter=12ep dataloader.train.num_workers=4",
    )
    add = parser.add_argument
    add("--config-file", default="", metavar="FILE", help="a config file")
    add("--num-gpus", type=int, default=1, metavar="N", help="processes on this machine")
    add("--num-machines", type=int, default=1, metavar="N", help="machines of the run")
    add("--machine-rank", type=int, default=0, metavar="R", help="number of this machine, from 0")
    add("--dist-url", default="auto", metavar="URL", help="tcp://HOST:PORT of machine 0")
    add("--resume", action="store_true", help="continue from the output folder's last checkpoint")
    text = "run a few batches, print memory and time; write nothing"
    add("--dry-run", action="store_true", help=text)
    add("--eval-only", action="store_true", help="score train.init_checkpoint; no training")
    add("--allow-partial", action="store_true", help="score a model that is loaded only partly")
    add("--trust-checkpoint", action="store_true", help="run code that init_checkpoint holds")
    add_trust_config(parser)
    add("--reuse-output", action="store_true", help="start a new run where another one was")
    add("opts", nargs="*", metavar="key=value", help="config overrides")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line; what the user can fix is printed as one ``error:`` line.

    Exit status: 0, 2 for bad input, 75 if a signal stopped the run, 1 for anything else.
    """
    outlive_readers()
    # The interpreter removes the handlers before it ends; a signal then would change the status.
    atexit.register(signal.pthread_sigmask, signal.SIG_BLOCK, STOP_SIGNALS)
    args = default_argument_parser().parse_intermixed_args(argv)
    from detrex.config.load import load_config  # PyTorch takes seconds: not before --help

    from .failures import describe_failure
    from .launch import Machines, launch

    try:
        cfg = load_config(args.config_file, args.opts, args.trust_config)
        machines = Machines(args.num_gpus, args.num_machines, args.machine_rank, args.dist_url)
        # A started process loads the config itself: functions in it may not be picklable.
        alone = machines.processes * machines.count == 1
        launch(run_process, (args, cfg if alone else None), machines, cfg.train.device)
    except Exception as error:
        code, text = describe_failure(error)
        print(text, file=sys.stderr)
        raise SystemExit(code) from None


def run_process(args: argparse.Namespace, cfg: DictConfig | None) -> None:
    """Run as one process of the command line's."""
    from .preemption import end_at_signals
    from .run import run

    end_at_signals()
    logging.raiseExceptions = False  # on a full disk no traceback for every line of log.txt
    run(args, cfg)
