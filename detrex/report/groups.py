"""Runs that belong together: those of one config that differ in their seeds at most."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from detrex.config import schema

from .runs import Run

_SEED = re.compile(r"[ _-]*seed[ _=-]*\d+")
_ABLATION = re.compile(r"(.+)_seed\d+_[0-9a-f]{12}")  # a folder of tools/ablate.py


@dataclass(frozen=True)
class Group:
    """Runs of one config that differ in their seeds at most: their name and their numbers."""

    name: str
    runs: tuple[int, ...]


def group_by_config(runs: Sequence[Run]) -> list[Group]:
    """Runs whose configs and data differ in nothing but seed and output, in order of the first."""
    by_config: dict[str, list[int]] = {}
    for i, run in enumerate(runs):
        config = dict(leaves(run.config))
        for key in ("train.seed", "train.device", *schema.names("is_output")):
            config.pop(key, None)
        alike = json.dumps([config, run.record.get("data")], sort_keys=True)
        by_config.setdefault(alike, []).append(i)
    paths = unique_names(runs)
    names = [_variant(runs[members[0]], paths[members[0]]) for members in by_config.values()]
    if len(set(names)) < len(names):
        names = [paths[members[0]] for members in by_config.values()]
    return [Group(*row) for row in zip(names, map(tuple, by_config.values()), strict=True)]


def _variant(run: Run, path: str) -> str:
    """The name of a run without its seed; an ablation's folder is its row's name and a hash."""
    if match := _ABLATION.fullmatch(run.name):
        return match[1].replace("_", " ")
    return _SEED.sub("", path).strip("/") or path


def run_names(runs: Sequence[Run], groups: Sequence[Group]) -> list[str]:
    """The name of each run: its group's, with the seed if the group has several."""
    names, paths = {}, unique_names(runs)
    for group in groups:
        seeds = [runs[i].record.get("seed") for i in group.runs]
        told_apart = len(set(seeds)) == len(seeds)
        for i, seed in zip(group.runs, seeds, strict=True):
            names[i] = f"{group.name}, seed {seed}" if told_apart else paths[i]
            if len(seeds) == 1:
                names[i] = group.name if _ABLATION.fullmatch(runs[i].name) else paths[i]
    return [names[i] for i in range(len(runs))]


def unique_names(runs: Sequence[Run]) -> list[str]:
    """The ends of the runs' paths, as long as it takes to tell them apart."""
    paths = [run.folder.resolve().parts for run in runs]
    for depth in range(1, max(map(len, paths)) + 1):
        names = ["/".join(path[-depth:]) for path in paths]
        if len(set(names)) == len(set(paths)):
            break
    return names


def leaves(node: Mapping, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield (dotted key, value as JSON) of a config."""
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value, default=str, ensure_ascii=False)
