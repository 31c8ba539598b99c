"""Print what a bug report or a benchmark needs to know about this machine.

python -m detrex.utils.collect_env
"""

from __future__ import annotations

import platform
import re
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from detrex.utils.cli import run_command
from detrex.utils.compiler import library_or_reason
from detrex.utils.device import (
    accelerators,
    autocast_types,
    device_module,
    devices,
    resolve_device,
)

PACKAGES = (
    "detrex torch torchvision triton detectron2 sal-detectron2 timm numpy scipy hotcoco "
    "faster-coco-eval pycocotools"
).split()


def environment() -> dict[str, str]:
    """Versions, hardware, and of each type of device which path computes attention and in which
    types autocast computes; no names or folders.

    Raises:
        InputError: ``DETREX_ATTENTION`` asks for a path that cannot run here.
    """
    found = {"python": platform.python_version(), "system": platform.system()}
    found |= {**dict.fromkeys(PACKAGES, "not installed"), **package_versions()}
    found["cpu"] = f"{_cpu()}, {torch.get_num_threads()} threads"
    found |= {name: _accelerator(name) for name in devices() if name != "cpu"}
    found["train.device=auto"] = resolve_device("auto")
    return found | _attention() | _autocast() | _criterion()


def package_versions() -> dict[str, str]:
    """Those of ``PACKAGES`` that are installed."""
    found = {}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8") if info.exists() else ""
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return model[1] if model else platform.machine()


def _accelerator(name: str) -> str:
    kind, _, number = name.partition(":")
    describe = getattr(device_module(kind), "get_device_name", lambda index: platform.machine())
    toolkit = f", CUDA {torch.version.cuda}" if kind == "cuda" and torch.version.cuda else ""
    return f"{describe(int(number or 0))}{toolkit}"


def _autocast() -> dict[str, str]:
    kinds = [*accelerators(), "cpu"]
    return {f"train.amp on {kind}": ", ".join(autocast_types(kind)) or "no type" for kind in kinds}


def _attention() -> dict[str, str]:
    # Imported here: utils is below layers, and only this command looks up.
    from detrex.layers.ms_deform_attn import attention_path, native

    kinds = [*accelerators(), "cpu"]
    found = {f"attention on {kind}": attention_path(kind, torch.float32) for kind in kinds}
    why = native.why_unavailable(torch.float32)
    return found | ({"no C kernel": why} if why else {})


def _criterion() -> dict[str, str]:
    from detrex.modeling.matcher import solver

    library = library_or_reason(solver.SOURCE)
    return {"assignment": f"scipy ({library})" if isinstance(library, str) else "c"}


def main() -> None:
    for name, value in environment().items():
        print(f"{name:<21} {value}")


if __name__ == "__main__":
    run_command(main)
