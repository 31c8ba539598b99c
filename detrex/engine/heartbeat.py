"""Noticing a process of the run that no longer runs: stopped, or on a machine that is gone."""

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

logger = logging.getLogger(__name__)
_PERIOD = 5.0  # seconds
_WARNING, _LIMIT = 60.0, 600.0  # seconds of silence
_STOPPED = -(10**12)  # a count that stays negative


class SilentProcess(ConnectionError):
    """Another process of the run gives no sign of life. The message is one line."""


class Heartbeat:
    """Tells the others that this process runs, and listens to them: process 0 to all, all to it.

    A collective operation of a run would wait for a stopped process without naming it. Silence is
    counted in periods of this process, which does not count while it is stopped itself.

    Args:
        store: of the run; used through a connection of its own, as one may wait for long in it.
        rank: of this process.
        world: number of processes.
        fail: called, in a thread, with a ``SilentProcess`` after ten minutes.
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
        # Two threads, because a question to a store that is stopped is not answered.
        for target in (self._beat, self._listen):
            threading.Thread(target=target, daemon=True).start()

    def stop(self) -> None:
        """Say goodbye: from here on silence is no fault."""
        self._stopped.set()
        with suppress(RuntimeError):  # process 0 and its store may have gone before
            self._store.add(str(self._rank), _STOPPED)

    def _beat(self) -> None:
        last = dict.fromkeys(self._silence, 0)
        with suppress(RuntimeError):  # the store is gone, and so is process 0: others say why
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
                if before < _WARNING <= silence:
                    self._say(
                        f"{self._text(rank, silence)}; the run ends after {_LIMIT / 60:.0f} min"
                    )
                if silence >= _LIMIT:
                    self._fail(SilentProcess(self._text(rank, silence)))

    def _text(self, rank: int, silence: float) -> str:
        name = self._names.get(rank, "unknown")
        return (
            f"rank {rank} of the run ({name}) has given no sign of life for {silence:.0f} seconds: "
            "it is stopped, or its machine is gone"
        )

    def _say(self, text: str) -> None:
        logger.warning(text)
        if self._rank == 1:  # only process 0 logs to the console, and that is the silent one
            print(f"warning: {text}", file=sys.stderr, flush=True)
