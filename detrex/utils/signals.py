"""The signals by which a cluster or a user stops a run, and which process obeys them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable

# SIGTERM: schedulers and torchrun; SIGUSR1: Slurm's --signal by custom; SIGUSR2: submitit;
# SIGINT: Ctrl-C, which a terminal sends to all processes of the run; SIGHUP: the terminal is gone.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGHUP)
_OFTEN_IGNORED = (signal.SIGINT, signal.SIGHUP)  # in the background, under nohup
_PERIOD = 1.0  # seconds between two checks of the parent


def heeded_signals() -> list[signal.Signals]:
    """Return the stop signals, without Ctrl-C and SIGHUP if this process was started to ignore them
    (in the background, under nohup)."""
    ignored = {n for n in _OFTEN_IGNORED if signal.getsignal(n) == signal.SIG_IGN}
    return [number for number in STOP_SIGNALS if number not in ignored]


def watch_parent(orphaned: Callable[[], None]) -> None:
    """Call ``orphaned`` in a thread, within seconds after the parent process has ended.

    Not by the kernel's parent-death signal, which follows the thread that started the process, and
    which a process may ignore.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PERIOD)
        orphaned()

    threading.Thread(target=watch, daemon=True).start()


def shield_worker() -> None:
    """Make a data loading worker stop only at its parent's signals, or when its parent ends.

    Clusters signal all processes of a job, but a run needs its workers to finish its step. A worker
    also inherits its parent's wakeup descriptor, to which it must not write.
    """
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    threading.Thread(target=_obey_parent, daemon=True).start()
    watch_parent(lambda: os._exit(1))


def _obey_parent() -> None:
    while signal.sigwaitinfo(STOP_SIGNALS).si_pid != multiprocessing.parent_process().pid:
        pass
    os._exit(0)
