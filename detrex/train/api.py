"""``detrex.train`` and ``detrex.evaluate``: runs from Python and notebooks.

They are the commands' runs, in this process. What is wrong with data, config or files is raised as
an ``InputError`` of one line, and nothing ends the interpreter: an interrupted training is saved at
the end of its step, and raises ``KeyboardInterrupt``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import math
import multiprocessing
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from detectron2.utils.logger import _cached_log_stream, setup_logger
from omegaconf import DictConfig

from detrex.checkpoint import existing_checkpoint
from detrex.config import load_config
from detrex.predict.predictor import config_beside
from detrex.utils.cli import LOGGERS
from detrex.utils.errors import InputError
from detrex.utils.signals import STOP_SIGNALS

from .cli import default_argument_parser, run_process
from .folder import FINAL, read_metrics
from .launch import Machines, launch
from .own_data import check, checked_before
from .preemption import PREEMPTED, Interruption
from .run import run


class Scores(dict[str, dict[str, float]]):
    """Task -> metric -> score, in percent; notebooks show it as tables."""

    def _repr_html_(self) -> str:
        tables = []
        for task, scores in self.items():
            classes = {name: score for name, score in scores.items() if "-" in name}
            main = {name: score for name, score in scores.items() if name not in classes}
            tables.append(_table([task, *main], [["", *main.values()]]))
            if classes:
                tables.append(_table(["class", "AP"], classes.items()))
        return "".join(tables)


@dataclass(frozen=True)
class Run:
    """A training run; notebooks show its evaluations as a table.

    Attributes:
        folder: of its files.
    """

    folder: Path

    @property
    def checkpoint(self) -> Path:
        """The weights at the end of the run."""
        return self.folder / f"{FINAL}.pth"

    @property
    def metrics(self) -> list[dict[str, float]]:
        """The lines of metrics.json: losses, or the scores of an evaluation, by iteration."""
        return read_metrics(self.folder)

    @property
    def scores(self) -> Scores:
        """The last evaluation; empty if there was none."""
        scores = Scores()
        for name, score in (self._evaluations() or [{}])[-1].items():
            task, slash, metric = name.partition("/")
            if slash:
                scores.setdefault(task, {})[metric] = score
        return scores

    def _evaluations(self) -> list[dict[str, float]]:
        return [line for line in self.metrics if "bbox/AP" in line]

    def _repr_html_(self) -> str:
        names = ("AP", "AP50", "AP75")
        rows = [
            [str(line["iteration"]), *(line.get(f"bbox/{name}", math.nan) for name in names)]
            for line in self._evaluations()
        ]
        return f"<p>{escape(str(self.folder))}</p>" + _table(["iteration", *names], rows)


def train(
    data: str | Path,
    model: str = "r50",
    epochs: float | None = None,
    *,
    output_dir: str | Path | None = None,
    init_checkpoint: str | Path | None = None,
    num_gpus: int = 1,
    resume: bool = False,
    reuse_output: bool = False,
    overrides: Sequence[str] = (),
) -> Run:
    """Train a model on a data set.

    The config is output/data/NAME/MODEL.py, which ``detrex.check`` writes, and which stays as it is
    once it is there: change it as you like.

    Args:
        data: a folder, JSON, YAML or CSV, as ``detrex.check`` takes it; or a config file (.py).
        model: a name of ``detrex.config.MODELS``, or a config file.
        epochs: of the data; None takes the config's length.
        output_dir: folder of the run; None takes the config's.
        init_checkpoint: weights to start from; None takes the config's.
        num_gpus: processes, one per GPU, on a CPU any number.
        resume: continue from the folder's last checkpoint.
        reuse_output: start a new run where another one was.
        overrides: further keys, as on the command line: "train.eval_period=1ep".

    Raises:
        InputError: whatever is wrong with data, config, weights, or output folder.
        KeyboardInterrupt: the run was stopped; ``resume`` continues it.
    """
    config = Path(data)
    if config.suffix != ".py":
        weights = init_checkpoint and str(init_checkpoint)
        known = checked_before(data, model)
        config = known or check(data, model, init_checkpoint=weights, show=print).config_file
    settings = {
        "train.max_iter": epochs and f"{epochs:g}ep",
        "train.output_dir": output_dir,
        "train.init_checkpoint": init_checkpoint,
    }
    opts = [f"{key}={value}" for key, value in settings.items() if value is not None]
    flags = dict(num_gpus=num_gpus, resume=resume, reuse_output=reuse_output)
    cfg, _ = _run(config, [*opts, *overrides], **flags)
    return Run(Path(cfg.train.output_dir))


def evaluate(
    checkpoint: str | Path, config: str | Path | None = None, overrides: Sequence[str] = ()
) -> Scores:
    """Score a checkpoint on the validation data of its config.

    Args:
        checkpoint: file of weights, or an address, such as "zoo://rank_detr_r50_12ep".
        config: the model's config file; None takes the ``config.yaml`` beside the checkpoint.
        overrides: keys as on the command line: "dataloader.evaluator.per_class=True".

    Raises:
        InputError: files are missing or do not belong together.
    """
    if "://" not in str(checkpoint):
        existing_checkpoint(checkpoint)
    opts = [f"train.init_checkpoint={checkpoint}", *overrides]
    _, scores = _run(config or config_beside(checkpoint), opts, eval_only=True)
    return Scores(scores)


def _run(
    config: str | Path, opts: Sequence[str], **flags: bool | int
) -> tuple[DictConfig, Mapping]:
    """Run what ``train_net.py`` would run; return its config, and what :func:`run` returns."""
    if threading.current_thread() is not threading.main_thread():
        raise InputError("a run listens for Ctrl-C: start it in the main thread")
    args = default_argument_parser().parse_args([])  # the defaults
    values = [f"{name}={value!r}" for name, value in flags.items()]
    # What repeats the run; the command line is that of a notebook's kernel.
    call = f"detrex.train({', '.join([repr(str(config)), *values, f'overrides={[*opts]!r}'])})"
    vars(args).update(config_file=str(config), opts=[*opts], call=call, **flags)
    cfg = load_config(args.config_file, args.opts)
    results: dict = {}
    with _as_before():
        if args.num_gpus > 1:
            _check_main_module()
            _in_processes(args, cfg.train.device)
        else:

            def work() -> None:
                results.update(run(args, cfg, Interruption))

            try:
                launch(work, (), Machines(args.num_gpus), cfg.train.device)
            except SystemExit:
                raise KeyboardInterrupt("stopped after a step, which is saved") from None
    return cfg, results


def _in_processes(args: argparse.Namespace, device: str) -> None:
    with contextlib.redirect_stderr(io.StringIO()) as errors:
        try:
            launch(run_process, (args, None), Machines(args.num_gpus), device)
        except SystemExit as end:
            if end.code == PREEMPTED:
                raise KeyboardInterrupt("stopped after a step, which is saved") from None
            text = errors.getvalue().strip().removeprefix("error: ")
            raise (InputError if end.code == 2 else RuntimeError)(text) from None


def _check_main_module() -> None:
    """Raise InputError where a process cannot be started: it imports the main module anew."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise InputError(
            "several processes: each imports this script, so call detrex.train under "
            'if __name__ == "__main__":'
        )
    file = getattr(sys.modules["__main__"], "__file__", None)
    if file and not Path(file).is_file():
        raise InputError(f"several processes cannot import {file}: write a script, or a notebook")


@contextlib.contextmanager
def _as_before() -> Iterator[None]:
    """Restore signal handlers and loggers after a run: the next one may have another log."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    handlers = [[*logger.handlers] for logger in loggers]
    obeyed = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    _forget_logs()
    try:
        yield
    finally:
        for logger, before in zip(loggers, handlers, strict=True):
            logger.handlers[:] = before
        for number, handler in obeyed.items():
            signal.signal(number, handler)
        _forget_logs()


def _forget_logs() -> None:
    """Let detectron2 open a run's log anew: it knows files by name, whatever became of them."""
    setup_logger.cache_clear()
    _cached_log_stream.cache_clear()


def _table(head: Sequence[str], rows: Sequence) -> str:
    """An HTML table; numbers have two digits after the point."""

    def cell(value: object) -> str:
        number = isinstance(value, float)
        return "-" if number and math.isnan(value) else f"{value:.2f}" if number else str(value)

    lines = [f"<th>{escape(name)}</th>" for name in head]
    body = ["".join(f"<td>{escape(cell(v))}</td>" for v in row) for row in rows]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in ["".join(lines), *body]) + "</table>"
