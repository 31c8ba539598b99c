"""What an ablation compares: variants of configs, from a file, a preset, or a grid."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from detrex.config.models import ROOT
from detrex.utils.errors import InputError

from .grid import grid_points, label

PRESETS = Path(__file__).parent / "presets"
_PLAN_KEYS = {"title", "source", "config", "set", "variants"}
_VARIANT_KEYS = {"name", "config", "set", "published"}


@dataclass(frozen=True)
class Variant:
    """One row of the table.

    Attributes:
        name: unique within its plan.
        config_file: a LazyConfig file.
        overrides: "key=value" strings, applied in this order.
        published: AP that a paper or README gives for it, as text; empty without one.
    """

    name: str
    config_file: str
    overrides: tuple[str, ...] = ()
    published: str = ""


@dataclass(frozen=True)
class Plan:
    """Variants to compare, the baseline first.

    Attributes:
        title: of the table.
        variants: the rows.
        common: overrides of all variants, which their own may replace.
        source: where the comparison and its published figures are from.
    """

    title: str
    variants: tuple[Variant, ...]
    common: tuple[str, ...] = ()
    source: str = ""

    @property
    def key(self) -> str:
        """Six hexadecimal digits that tell its rows from those of another plan."""
        return hashlib.sha256(repr(self.variants).encode()).hexdigest()[:6]

    def resolve(self, overrides: Sequence[str], grid: Sequence[str]) -> Plan:
        """Return the plan with every variant complete, at every point of a grid.

        Args:
            overrides: "key=value" strings for all variants; they replace ``common``.
            grid: "key=[a,b]" strings.

        Raises:
            InputError: see :func:`~detrex.ablation.grid.grid_points`.
        """
        common, points = (*self.common, *overrides), grid_points(grid)
        rows = [_at(variant, common, point) for variant in self.variants for point in points]
        return replace(self, variants=tuple(rows), common=())

    def select(self, patterns: Sequence[str]) -> Plan:
        """Return the plan with the rows whose names match one of the patterns; all without any.

        Raises:
            InputError: a pattern matches no row; lists the rows.
        """
        names = [variant.name for variant in self.variants]
        for pattern in patterns:
            if not fnmatch.filter(names, pattern):
                raise InputError(f"--only {pattern!r}: matches no row of {'; '.join(names)}")
        rows = (v for v in self.variants if any(fnmatch.fnmatch(v.name, p) for p in patterns))
        return replace(self, variants=tuple(rows)) if patterns else self


def find_plan(preset: str | None, variants: Path | None, config_file: str, several: bool) -> Plan:
    """The plan of a preset's name, of a file of variants, or of a config alone.

    ``several``: a grid will tell its variants apart, which then need no name of their own.

    Raises:
        InputError: none of the three, two of them, or see :func:`load_plan`.
    """
    if preset and variants:
        raise InputError("--preset and --variants: give one of them")
    if preset:
        return load_preset(preset, config_file)
    if variants:
        return load_plan(variants, config_file)
    if not config_file:
        raise InputError("give --config-file with --grid, --preset, or --variants")
    name = Path(config_file).stem
    return Plan(name, (Variant("" if several else name, config_file),))


def preset_names() -> list[str]:
    """Names of the shipped plans."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load_preset(name: str, config_file: str = "") -> Plan:
    """Read a shipped plan; ``config_file`` replaces its common config.

    Raises:
        InputError: there is no such preset; lists those there are.
    """
    if name not in preset_names():
        raise InputError(f"--preset {name}: there is none; choose from {', '.join(preset_names())}")
    return load_plan(PRESETS / f"{name}.yaml", config_file)


def load_plan(path: Path, config_file: str = "") -> Plan:
    """Read a plan from YAML; detrex/ablation/presets/ has examples.

    Args:
        path: keys ``title``, ``source``, ``config`` and ``set`` (config file and overrides of all
            variants) and ``variants``: a list of ``name``, ``config``, ``set``, ``published``.
        config_file: replaces the file's common ``config``.

    Raises:
        InputError: the file cannot be read, or a key or value is unknown, missing or repeated.
    """
    content = _read(path)
    config = config_file or content.get("config", "")
    variants = [_variant(path, entry, config) for entry in content["variants"]]
    names = [variant.name for variant in variants]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise InputError(f"{path}: two variants are called {min(repeated)!r}")
    common = _strings(path, content, "set")
    title, source = (str(content.get(key, "")) for key in ("title", "source"))
    return Plan(title or path.stem, tuple(variants), common, source)


def _read(path: Path) -> dict:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: cannot be read as a list of variants ({reason})") from None
    _check_keys(path, content, _PLAN_KEYS)
    if not isinstance(content.get("variants"), list) or not content["variants"]:
        raise InputError(f"{path}: give a list of variants under 'variants'")
    return content


def _variant(path: Path, entry: dict, config: str) -> Variant:
    _check_keys(path, entry, _VARIANT_KEYS)
    name, config = str(entry.get("name", "")), entry.get("config", config)
    if not name or not config:
        missing = "config" if name else "name"
        raise InputError(f"{path}: variant {name or entry} has no {missing!r}")
    published = str(entry.get("published", ""))
    return Variant(name, _config_path(config), _strings(path, entry, "set"), published)


def _config_path(config: str) -> str:
    """Shipped configs are found from any folder."""
    shipped = ROOT / config
    return str(shipped) if shipped.is_file() and not Path(config).is_file() else config


def _strings(path: Path, content: dict, key: str) -> tuple[str, ...]:
    texts = content.get(key) or []
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InputError(f"{path}: {key!r} is a list of key=value texts, got {texts!r}")
    return tuple(texts)


def _check_keys(path: Path, content: object, known: set[str]) -> None:
    if not isinstance(content, dict) or not content.keys() <= known:
        raise InputError(f"{path}: {content!r:.80} should have no other keys than {sorted(known)}")


def _at(variant: Variant, common: tuple[str, ...], point: tuple[str, ...]) -> Variant:
    names = [text for text in (variant.name, label(point)) if text]
    return replace(
        variant,
        name=": ".join(names),
        overrides=(*common, *variant.overrides, *point),
        published="" if point else variant.published,
    )
