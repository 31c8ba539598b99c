"""Print what a bug report or a benchmark has to say about this machine.

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
)

PACKAGES = (
    "detrex torch torchvision triton detectron2 sal-detectron2 timm numpy scipy hotcoco pycocotools"
).split()


def environment() -> dict[str, str]:
    """Return versions, hardware, and which code computes attention and assignment.

    It holds no names of users or folders.

    Raises:
        InputError: ``DETREX_ATTENTION`` names an implementation that cannot run here.
    """
    facts = {"python": platform.python_version(), "system": platform.system()}
    facts |= {**dict.fromkeys(PACKAGES, "not installed"), **package_versions()}
    facts["cpu"] = f"{_cpu()}, {torch.get_num_threads()} threads"
    for i in range(torch.cuda.device_count()):
        facts[f"gpu {i}"] = f"{torch.cuda.get_device_name(i)}, CUDA {torch.version.cuda}"
    return facts | _attention() | _criterion()


def package_versions() -> dict[str, str]:
    """Return the versions of those of ``PACKAGES`` that are installed."""
    versions = {}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


def hardware(device: str, processes: int) -> str:
    """Return what a run computes on, e.g. "2 × NVIDIA H200"."""
    kind = device.partition(":")[0]
    threads = torch.get_num_threads()
    cpu = f"{_cpu()}, {threads} thread{'s' * (threads > 1)}"
    chip = cpu if kind == "cpu" else _accelerator(device)
    return f"{processes} × {chip}" if processes > 1 else chip


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
    # Imported here: utils is below layers in the order of imports.
    from detrex.layers.ms_deform_attn import attention_path, native

    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    paths = {f"attention on {d}": attention_path(d, torch.float32) for d in devices}
    why = native.why_unavailable(torch.float32)
    return paths | ({"no C kernel": why} if why else {})


def _criterion() -> dict[str, str]:
    from detrex.modeling.matcher import solver

    library = library_or_reason(solver.SOURCE)
    return {"assignment": f"scipy ({library})" if isinstance(library, str) else "c"}


def main() -> None:
    for name, value in environment().items():
        print(f"{name:<21} {value}")


if __name__ == "__main__":
    run_command(main)
