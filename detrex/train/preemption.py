"""Ending a run early at a signal, without losing a step."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time

import torch
import torch.distributed as dist
from detectron2.utils import comm

from detrex.utils.signals import STOP_SIGNALS, heeded_signals

logger = logging.getLogger(__name__)
PREEMPTED = 75  # sysexits.h: a temporary failure, try again
_COPIES = 3.0  # seconds: cluster and launcher may both deliver one request


class Preemption:
    """Listens for SIGTERM, SIGUSR1, SIGUSR2, SIGINT and SIGHUP while it is open as a context.

    A signal during a step sets ``stopping`` at the end of this step or the next, in all processes
    at the same step. While there is nothing to save (setting up, evaluating) a signal ends the
    process at once, and a second signal always does. The exit status is ``PREEMPTED``.
    """

    def __init__(self) -> None:
        self.stopping = False
        self._asked: float | None = None  # when
        self._on_disk = True
        self._group: dist.ProcessGroup | None = None
        self._question: tuple[torch.Tensor, dist.Work] | None = None

    def __enter__(self) -> Preemption:
        """Start listening; every process of the run must do so."""
        parallel = comm.get_world_size() > 1
        self._group = dist.new_group(backend="gloo") if parallel else None
        self._pipe, write = os.pipe()
        os.set_blocking(write, False)
        self._old_handlers = {s: signal.signal(s, lambda *_: None) for s in heeded_signals()}
        self._old_descriptor = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        self._write = write
        # In a thread: Python's handlers do not run while the main thread is in a collective.
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Restore the earlier handlers."""
        signal.set_wakeup_fd(self._old_descriptor)
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        os.close(self._write)  # ends the thread

    def begin_step(self) -> None:
        """Note that from now on there are results to save."""
        self._on_disk = False

    def end_step(self) -> None:
        """Set ``stopping`` if any process was signalled, one step late so that none waits."""
        if self._group is None:
            self.stopping = self._asked is not None
            return
        question, flag = self._question, torch.tensor([self._asked is not None], dtype=torch.uint8)
        work = dist.all_reduce(flag, dist.ReduceOp.MAX, group=self._group, async_op=True)
        self._question = flag, work
        if question is not None:
            question[1].wait()
            self.stopping = bool(question[0].numpy()[0])

    def saved(self) -> None:
        """Note that a checkpoint of the last step is on disk; leave if a signal has come since."""
        self._on_disk = True
        if self._asked is not None and not self.stopping:
            _leave()

    def leave(self, iteration: int) -> None:
        """End the run after this iteration, once all processes are here.

        Raises:
            SystemExit: always.
        """
        comm.synchronize()
        if comm.is_main_process():
            logger.warning("stopped by a signal after iteration %d; --resume continues", iteration)
        raise SystemExit(PREEMPTED)

    def _listen(self) -> None:
        while byte := os.read(self._pipe, 1):
            if byte[0] not in STOP_SIGNALS:
                continue
            now, first = time.monotonic(), self._asked
            self._asked = now if first is None else first
            if self._on_disk or (first is not None and now - first > _COPIES):
                _leave()
        os.close(self._pipe)


class Interruption(Preemption):
    """Listens for Ctrl-C, a notebook's stop button, alone, and never ends the interpreter.

    During a step it sets ``stopping`` at the step's end. While there is nothing to save, and the
    second time, it raises ``KeyboardInterrupt``. It is for a run of one process.
    """

    def __enter__(self) -> Interruption:
        """Start listening, in the main thread."""
        self._old_handler = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        """Restore the earlier handler."""
        signal.signal(signal.SIGINT, self._old_handler)

    def saved(self) -> None:
        """Note that a checkpoint of the last step is on disk; leave if Ctrl-C has come since."""
        self._on_disk = True
        if self._asked is not None and not self.stopping:
            raise KeyboardInterrupt

    def _interrupt(self, *_: object) -> None:
        if self._on_disk or self._asked is not None:
            raise KeyboardInterrupt
        self._asked = time.monotonic()


def _leave() -> None:
    logger.warning("ended by a signal; --resume continues from the last checkpoint")
    os._exit(PREEMPTED)  # not SystemExit: the main thread may be stuck


def end_at_signals() -> None:
    """Let stop signals end this process at once with status ``PREEMPTED`` while no ``Preemption``
    listens: before a run and after it."""
    for number in heeded_signals():
        signal.signal(number, lambda *_: os._exit(PREEMPTED))
