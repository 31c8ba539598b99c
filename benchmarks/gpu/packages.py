"""What the checks import, where nothing can be installed: which of it is there, and a folder of
wheels for the rest.

It imports nothing but PyTorch, for nothing else may be there yet.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import zipfile
from pathlib import Path

from detrex.utils.errors import InputError

# Modules that are imported, by the requirement that brings them.
NEEDED = {
    "torch": ("torch",),
    "torchvision": ("torchvision",),
    "numpy": ("numpy",),
    "scipy": ("scipy",),
    "pillow": ("PIL",),
    "timm>=1.0": ("timm",),
    "sal-detectron2==0.7.2": ("detectron2",),
    "fvcore": ("fvcore",),
    "iopath": ("iopath",),
    "portalocker": ("portalocker",),
    "yacs": ("yacs",),
    "pyyaml": ("yaml",),
    "omegaconf>=2.1,<2.4": ("omegaconf",),
    "antlr4-python3-runtime==4.9.3": ("antlr4",),
    "hydra-core": ("hydra",),
    "cloudpickle": ("cloudpickle",),
    "pycocotools": ("pycocotools",),
    "hotcoco": ("hotcoco",),
    "termcolor": ("termcolor",),
    "tabulate": ("tabulate",),
    "tensorboard": ("tensorboard",),
    "matplotlib": ("matplotlib",),
    "packaging": ("packaging",),
    "scikit-image": ("skimage",),
    "scikit-learn": ("sklearn",),
}
OPTIONAL = {"triton": "the kernels of attention", "transformers": "benchmark rt_detr"}


def missing() -> list[str]:
    """Requirements of which a module is not there."""
    return [
        requirement
        for requirement, modules in NEEDED.items()
        if any(importlib.util.find_spec(module) is None for module in modules)
    ]


def listing() -> str:
    """Every requirement and whether it is there."""
    absent = set(missing())
    lines = [f"{'missing' if name in absent else 'there':<8} {name}" for name in NEEDED]
    for name, purpose in OPTIONAL.items():
        there = importlib.util.find_spec(name) is not None
        lines.append(f"{'there' if there else 'missing':<8} {name} (optional: {purpose})")
    return "\n".join(lines)


def provide(wheels: str | None, folder: Path) -> None:
    """Make everything importable, here and in processes that are started.

    Args:
        wheels: folder of wheels, which are unpacked into ``folder`` and come before what is
            installed; None: what is installed has to do.
        folder: for what is unpacked.

    Raises:
        InputError: something is missing, or a wheel is none.
    """
    if wheels:
        unpack(Path(wheels), folder)
        sys.path.insert(1, str(folder))  # behind this checkout: wheels hold odd top folders
        paths = [str(folder), os.environ.get("PYTHONPATH", "")]
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        importlib.invalidate_caches()
    if absent := missing():
        raise InputError(
            f"missing: {' '.join(absent)}; install them, or give wheels of them with --wheels "
            "FOLDER (benchmarks/METHOD.md says how to get them)"
        )


def unpack(wheels: Path, folder: Path) -> None:
    """Unpack every wheel of a folder, whatever Python it is tagged for.

    Raises:
        InputError: no wheels, or a file that is none.
    """
    files = sorted(wheels.glob("*.whl"))
    if not files:
        raise InputError(f"--wheels {wheels}: no *.whl files there")
    for file in files:
        try:
            with zipfile.ZipFile(file) as archive:
                archive.extractall(folder)
        except zipfile.BadZipFile as error:
            raise InputError(f"{file} is no wheel: {error}") from error
    for data in folder.glob("*.data"):
        for part in ("purelib", "platlib"):
            for path in (data / part).glob("*"):
                if not (folder / path.name).exists():
                    path.rename(folder / path.name)
