"""The signals by which a cluster asks a run to stop, and who listens to them."""

from __future__ import annotations

import signal

# SIGTERM: schedulers and torchrun; SIGUSR1: Slurm's --signal by custom; SIGUSR2: submitit.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


def ignore_stop_signals(worker: int) -> None:
    """For a data loading worker (``worker_init_fn``): its run decides when it ends.

    Clusters signal all processes of a job, and a run whose workers die has no step to finish. A
    worker inherits its parent's wakeup descriptor too, and must not write to it.
    """
    signal.set_wakeup_fd(-1)
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
