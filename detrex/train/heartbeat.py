"""Noticing that a process of the run is stopped, or its machine gone."""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import torch.distributed as dist

from .failures import SilentProcess

logger = logging.getLogger(__name__)
_PERIOD = 5.0  # seconds
_WARNING, _LIMIT = 60.0, 600.0  # seconds of silence
_STOPPED = -(10**12)  # a count that stays negative


class Heartbeat:
    """Signals that this process runs, and watches the others; all but process 0 watch only it.

    A collective operation would wait for a stopped process without naming it. Silence is counted
    in periods of this process, which counts none while it is stopped itself.

    Args:
        store: of the run; the heartbeat opens another connection, because this one may be waiting.
        rank: of this process.
        world: number of processes.
        fail: called in a thread with a ``SilentProcess`` after ten minutes of silence.
    """

    def __init__(
        self, store: dist.Store, rank: int, world: int, fail: Callable[[Exception], None]
    ) -> None:
        if isinstance(store, dist.TCPStore):
            store = dist.TCPStore(store.host, store.port, wait_for_workers=False)
        self._store = dist.PrefixStore("detrex/heartbeat", store)
        self._rank, self._fail = rank, fail
        self._names: dict[int, str] = {}
        self._silence = dict.fromkeys(range(1, world) if rank == 0 else [0], 0.0)
        self._stopped = threading.Event()
        self._store.set(f"name/{rank}", f"process {os.getpid()} on {socket.gethostname()}")
        # Two threads, because a stopped store does not answer.
        for target in (self._beat, self._listen):
            threading.Thread(target=target, daemon=True).start()

    def stop(self) -> None:
        """Tell the others that this process ends, and need not be watched."""
        self._stopped.set()
        with suppress(RuntimeError):  # process 0 and its store may have gone before
            self._store.add(str(self._rank), _STOPPED)

    def _beat(self) -> None:
        last = dict.fromkeys(self._silence, 0)
        with suppress(RuntimeError):  # process 0 and its store are gone: others report why
            self._names |= {rank: self._store.get(f"name/{rank}").decode() for rank in last}
            while not self._stopped.is_set():
                self._store.add(str(self._rank), 1)
                for rank in last:
                    count = self._store.add(str(rank), 0)
                    if count != last[rank] or count < 0:
                        self._silence[rank] = 0.0
                    last[rank] = count
                time.sleep(_PERIOD)
        self._stopped.set()

    def _listen(self) -> None:
        while not self._stopped.wait(_PERIOD):
            for rank, before in list(self._silence.items()):
                self._silence[rank] = silence = before + _PERIOD
                text = (
                    f"rank {rank} of the run ({self._names.get(rank, 'unknown')}) has given no "
                    f"sign of life for {silence:.0f} seconds: it is stopped, or its machine is gone"
                )
                if before < _WARNING <= silence:
                    warning = f"{text}; the run ends after {_LIMIT / 60:.0f} min"
                    logger.warning(warning)
                    if self._rank == 1:  # process 0 is silent, and only it logs to the console
                        print(f"warning: {warning}", file=sys.stderr, flush=True)
                if silence >= _LIMIT:
                    self._fail(SilentProcess(text))
