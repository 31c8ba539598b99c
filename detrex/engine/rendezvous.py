"""Where the processes that torchrun has started find each other."""

from __future__ import annotations

import os
import time
from datetime import timedelta

import torch.distributed as dist

_ADDRESS = "detrex/address"
_PATIENCE = timedelta(seconds=3)


def rendezvous(rank: int, world: int, timeout: timedelta) -> dist.Store:
    """Return a store that nobody has used before; every process calls this.

    torchrun keeps one store over all restarts, in which a new process would find, and wait for,
    the address of one that is dead. So process 0 opens another, and tells in torchrun's where.

    Raises:
        dist.DistError: process 0 does not come within ``timeout``.
    """
    given, *_ = next(dist.rendezvous("env://", rank, world, timeout=timeout))
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return given
    host = os.environ["MASTER_ADDR"]
    if rank == 0:
        store = dist.TCPStore(host, 0, world, True, timeout, wait_for_workers=False)
        given.set(_ADDRESS, str(store.port))
        return store
    deadline = time.monotonic() + timeout.total_seconds()
    while True:  # an address of an earlier start answers nobody, until it is replaced
        port = int(given.get(_ADDRESS))
        try:
            store = dist.TCPStore(host, port, world, False, _PATIENCE, wait_for_workers=False)
        except (dist.DistNetworkError, dist.DistStoreError):
            if time.monotonic() > deadline:
                raise
            continue
        store.set_timeout(timeout)
        return store
