"""The signals by which a cluster or a user asks a run to stop, and who listens to them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading

# SIGTERM: schedulers and torchrun; SIGUSR1: Slurm's --signal by custom; SIGUSR2: submitit;
# SIGINT: Ctrl-C, which a terminal sends to all processes of the run.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)


def heeded_signals() -> list[signal.Signals]:
    """Return the stop signals, without Ctrl-C where a shell has started this process to ignore it:
    in the background."""
    ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    return [number for number in STOP_SIGNALS if number != signal.SIGINT or not ignored]


def shield_worker(worker: int) -> None:
    """For a data loading worker (``worker_init_fn``): only its parent may stop it.

    Clusters signal all processes of a job, and a run whose workers die has no step to finish. A
    worker inherits its parent's wakeup descriptor too, and must not write to it.
    """
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    threading.Thread(target=_obey_parent, daemon=True).start()


def _obey_parent() -> None:
    while signal.sigwaitinfo(STOP_SIGNALS).si_pid != multiprocessing.parent_process().pid:
        pass
    os._exit(0)
