"""The runs of an ablation: one per variant and seed, each in a folder named after its config."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from detrex.config import CONFIG_FILE, json_config, load_config, schema
from detrex.report.runs import read_run
from detrex.train.folder import FINAL
from detrex.utils.errors import InputError
from detrex.utils.small_files import is_a

from .plan import Plan, Variant


@dataclass(frozen=True)
class Job:
    """One training run.

    Attributes:
        variant: its row.
        seed: ``train.seed``.
        folder: its output folder, which runs of equal configs share.
        command: starts the run, or continues it where it was interrupted.
    """

    variant: Variant
    seed: int
    folder: Path
    command: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.variant.name}, seed {self.seed}"

    def scores(self) -> dict[str, float]:
        """Final scores by metric name; empty while the run has not finished.

        Raises:
            InputError: a file of the run is damaged.
        """
        if not (self.folder / f"{FINAL}.pth").is_file():
            return {}
        run = read_run(self.folder)
        train = run.config.get("train")
        if not is_a(train, {"max_iter": int}):
            raise InputError(f"{self.folder / CONFIG_FILE}: train.max_iter is missing or damaged")
        ended_early = schema.parent(run.config, "train.early_stopping.patience").get("patience")
        last = run.last if ended_early else train["max_iter"]
        return run.evaluations.get(last, {})


def make_jobs(plan: Plan, seeds: Sequence[int], num_gpus: int, root: Path) -> list[Job]:
    """Resolve every config and name every run's folder, ``root/<variant>_seed<n>_<hash>``.

    Args:
        plan: what to compare.
        seeds: one run of each variant per seed.
        num_gpus: processes of a run.
        root: holds the runs.

    Raises:
        InputError: a config that cannot be loaded, or an override that it does not take.
    """
    folders: dict[str, Path] = {}
    jobs = []
    for variant in plan.variants:
        cfg = load_variant(variant)
        for seed in seeds:
            key = config_key(cfg, seed)
            folder = root / f"{_readable(variant.name)}_seed{seed}_{key}"
            folder = folders.setdefault(key, next(root.glob(f"*_{key}"), folder))
            jobs.append(Job(variant, seed, folder, _command(variant, seed, num_gpus, folder)))
    return jobs


def load_variant(variant: Variant) -> DictConfig:
    """Return a variant's resolved config.

    Raises:
        InputError: it cannot be loaded, or an override does not fit; names the variant.
    """
    for text in variant.overrides:
        if text.partition("=")[0] == "train.seed":
            raise InputError(f"variant {variant.name!r}: override {text}: use --seeds")
    try:
        return load_config(variant.config_file, variant.overrides)
    except InputError as error:
        raise InputError(f"variant {variant.name!r}: {error}") from None


def config_key(cfg: DictConfig, seed: int) -> str:
    """Twelve hexadecimal digits of a run's config and seed.

    Output folders and the device do not change them, nor does a key at its default, which other
    versions may not have.
    """
    content = json_config(cfg)
    content["train"]["seed"] = seed
    for name, key in schema.KEYS.items():
        group, last = schema.parent(content, name), name.rpartition(".")[2]
        at_default = last in group and group[last] == key.default
        if at_default or key.is_output or name == "train.device":
            group.pop(last, None)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def _readable(name: str) -> str:
    return re.sub(r"[^\w.=+-]+", "_", name.replace(" = ", "="))[:60].strip("_")


def _command(variant: Variant, seed: int, num_gpus: int, folder: Path) -> tuple[str, ...]:
    """By the ``train_net.py`` of the config's project, else by the general one."""
    general = Path(__file__).resolve().parents[2] / "tools"
    folders = [*Path(variant.config_file).resolve().parents, general]
    script = next(f / "train_net.py" for f in folders if (f / "train_net.py").is_file())
    command = (sys.executable, str(script), "--resume", "--config-file", variant.config_file)
    command += ("--num-gpus", str(num_gpus), *variant.overrides)
    return (*command, f"train.seed={seed}", f"train.output_dir={folder}")
