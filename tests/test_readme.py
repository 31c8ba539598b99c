"""What README and docs name exists. That their commands run: tests/docs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from detrex.config.load import _has, load_config
from tests import models
from tests.docs import pages

TEXT = "\n".join(pages.text(page) for page in pages.PAGES)
README = pages.text("README.md")


def test_every_config_that_is_named_exists() -> None:
    named = set(re.findall(r"[\w/=-]+/configs/[\w/=-]+\.py", TEXT))
    files = {block.title for page in pages.PAGES for block in pages.blocks(page)}
    assert len(named) > 30
    missing = [
        n
        for n in named - files
        if not any((models.ROOT / r / n).is_file() for r in ("", "projects"))
    ]
    assert not missing


@pytest.mark.parametrize("path", models.training_configs(), ids=lambda p: p.stem)
def test_every_shipped_config_is_in_a_table(path: Path) -> None:
    project = path.relative_to(models.ROOT / "projects").parts[0]
    tables = README + (models.ROOT / "projects" / project / "README.md").read_text()
    assert re.search(rf"\b{re.escape(path.stem)}\b", tables)


@pytest.mark.parametrize("page", pages.PAGES)
def test_every_switch_that_is_named_is_a_key(page: str) -> None:
    """Of Rank-DETR's config, or of one of the project's whose page it is."""
    name = r"`((?:model|train|dataloader|optimizer)\.[\w.]*\w)(?![\w(])"
    keys = re.findall(name, pages.text(page))
    own = (models.ROOT / page).parent.glob("configs/**/*.py")
    configs = sorted(path for path in own if path in models.training_configs())
    unknown = set(keys)
    for config in configs or [models.ROOT / models.RANK_DETR]:
        if unknown:
            cfg = load_config(str(config))
            unknown = {key for key in unknown if not _has(cfg, key)}
    assert not unknown


def test_the_readme_is_short() -> None:
    """Two screens before the table of models."""
    assert README[: README.index("\n## Models")].count("\n") <= 100


@pytest.mark.parametrize("page", pages.PAGES)
def test_commands_stand_where_they_are_run(page: str) -> None:
    """In fenced blocks: tests/docs reads no others."""
    assert not re.search(r"^ +(python|make|pip|torchrun) .*\\?$", pages.outside_blocks(page), re.M)


def test_the_version_is_the_same_everywhere() -> None:
    files = {name: (models.ROOT / name).read_text() for name in ("setup.py", "CITATION.cff")}
    found = [re.search(r"^ *version[=:] ?\"?([\w.]+)", text, re.M)[1] for text in files.values()]
    assert found[0] == found[1]
    assert f"\n## {found[0].partition('.dev')[0]}, " in pages.text("CHANGELOG.md")
