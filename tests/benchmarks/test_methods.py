"""The cost of a step of every method: ratios to DINO's, and the page that shows them."""

from __future__ import annotations

import json
import re

import pytest

from benchmarks import methods
from detrex.ablation.plan import load_preset
from tests.docs import pages
from tests.models import ROOT
from tests.refusals import refused

PAGE = "docs/which_method.md"
FIRST, LATER = (  # two runs: the second measured some methods, and DINO again
    json.loads((ROOT / f"benchmarks/results/methods_cpu{run}.json").read_text())["rows"]
    for run in ("", "_later")
)
ROWS = FIRST + LATER[1:]


def table() -> dict[str, list[str]]:
    """Cells of the page's rows by the name of the method."""
    rows = re.findall(r"^\| \[(.+?)\]\(.*?\) \| (.*) \|$", pages.text(PAGE), re.M)
    return {name: cells.split(" | ") for name, cells in rows}


def test_ratios_are_to_dino(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = iter([(2.0, 100.0), (3.0, 50.0)])
    names = ("step_s", "memory_mib")
    monkeypatch.setattr(
        methods,
        "measured_alone",
        lambda config, repeats: dict(zip(names, next(taken), strict=True)),
    )
    dino, mine = methods.run(config_file="my/config.py")
    assert (dino["what"], dino["time"], dino["memory"]) == ("DINO", 1.0, 1.0)
    assert (mine["what"], mine["time"], mine["memory"]) == ("config", 1.5, 0.5)
    with refused("--device cuda"):
        next(methods.run(device="cuda"))


def test_the_page_has_the_measured_costs() -> None:
    assert sorted(row["what"] for row in ROWS) == sorted(methods.METHODS)
    assert FIRST[0]["what"] == LATER[0]["what"] == "DINO"
    assert all((ROOT / "projects" / config).is_file() for config in methods.METHODS.values())
    cells = table()
    for row in ROWS:
        assert cells[row["what"]][2:4] == [f"{row[key]:.2f}" for key in ("time", "memory")], row


def test_the_page_has_every_row_of_the_preset_and_every_project() -> None:
    names = {variant.name for variant in load_preset("methods").variants}
    assert names <= set(table())
    linked = set(re.findall(r"\.\./projects/(\w+)/README\.md", pages.text(PAGE)))
    assert linked >= {p.parent.name for p in ROOT.glob("projects/*/README.md")}
