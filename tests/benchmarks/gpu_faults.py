"""Checks that pass, fail, throw, die and hang."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from benchmarks.gpu.checks import Result, within


def good(device: str, figure: str = "fine") -> Result:
    return Result(figure, [{"what": figure}])


def wrong(device: str) -> Result:
    return within({"boxes": (2.0, 1.0)})


def throws(device: str) -> Result:
    raise RuntimeError("CUDA error: an illegal memory access\nand more about it")


def dies(device: str) -> Result:
    os._exit(7)


def hangs(device: str) -> Result:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
    time.sleep(100)
