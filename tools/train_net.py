#!/usr/bin/env python
"""Train or evaluate any config: python tools/train_net.py --config-file FILE [key=value ...].

projects/<name>/train_net.py runs this file.
"""

import os
import signal
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def fail(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


def end_at_signals() -> None:
    """While the libraries are imported a stop signal ends this with 75, as it does later on."""
    for name in ("SIGTERM", "SIGUSR1", "SIGUSR2", "SIGINT", "SIGHUP"):
        number = signal.Signals[name]
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda *_: os._exit(75))


def check_environment() -> None:
    """Make sure that this checkout's code runs, and that it can."""
    import detrex

    if Path(detrex.__file__).resolve().parents[1] != ROOT:
        fail(f"{detrex.__file__} shadows {ROOT / 'detrex'}: uninstall it, or fix PYTHONPATH")
    if find_spec("detectron2") is None:
        fail("detectron2 is missing: run `make install`, or bash tools/install_detectron2.sh")


if __name__ == "__main__":
    # First: site-packages may hold other packages named detrex, projects or tools.
    sys.path[:] = [str(ROOT), *(path for path in sys.path if path != str(Path(__file__).parent))]
    end_at_signals()
    check_environment()
    from detrex.train import main

    main()
