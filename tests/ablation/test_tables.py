"""Tables of an ablation: values against plain formulas, rows that are not complete, formats."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from detrex.ablation.jobs import Job
from detrex.ablation.plan import Variant
from detrex.ablation.schedule import missing
from detrex.ablation.tables import as_csv, as_latex, as_markdown, summarize
from detrex.utils.errors import InputError

BASE, BETTER = Variant("base", "a.py", (), "48.7"), Variant("b_1|x", "a.py", ("k=1",))


def job(root: Path, variant: Variant, seed: int, ap: float | None, at: int = 8) -> Job:
    """A job whose run has the given AP at iteration ``at`` of 8; None has not begun."""
    folder = root / f"{variant.name[-1]}{seed}"
    if ap is not None:
        folder.mkdir()
        (folder / "run.json").write_text("{}")
        (folder / "config.yaml").write_text("train: {max_iter: 8}")
        lines = [{"iteration": 3, "bbox/AP": 1.0}, {"iteration": at, "bbox/AP": ap, "bbox/AP50": 9}]
        (folder / "metrics.json").write_text("\n".join(map(json.dumps, lines)))
        (folder / "model_final.pth").touch()
    return Job(variant, seed, folder, ())


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    base = [job(tmp_path, BASE, seed, ap) for seed, ap in enumerate((10.0, 13.0, 11.5))]
    return [*base, *(job(tmp_path, BETTER, seed, ap) for seed, ap in enumerate((20.5, 22.0, None)))]


def test_values_equal_plain_formulas(jobs: list[Job]) -> None:
    base, better = summarize(jobs, ["AP", "AP50"])
    assert (base.cells["AP"].mean, base.cells["AP"].difference) == (11.5, None)
    assert base.cells["AP"].spread == pytest.approx(((1.5**2 + 1.5**2 + 0) / 2) ** 0.5)
    assert (better.cells["AP"].mean, better.cells["AP"].difference) == (21.25, 9.75)
    assert better.cells["AP"].spread == pytest.approx((2 * 0.75**2) ** 0.5)
    assert (base.n, better.n) == ("3", "2 of 3")
    assert str(base.cells["AP"]) == "11.50 ± 1.50"
    assert str(better.cells["AP"]) == "21.25 ± 1.06 (+9.75)"
    assert str(better.cells["AP50"]) == "9.00 ± 0.00 (+0.00)"


def test_one_run_has_no_spread_and_no_run_no_value(tmp_path: Path) -> None:
    rows = summarize([job(tmp_path, BASE, 0, None), job(tmp_path, BETTER, 0, 7.0)], ["AP"])
    assert [str(row.cells["AP"]) for row in rows] == ["-", "7.00"]
    assert summarize([job(tmp_path, BASE, 1, None)], ["AP"])[0].n == "0 of 1"


def test_metrics_from_0_to_1_have_three_digits(tmp_path: Path) -> None:
    rows = summarize(
        [job(tmp_path, BASE, 0, 0.1), job(tmp_path, BETTER, 0, 0.0984)], ["AP", "AP50"]
    )
    assert [str(row.cells["AP"]) for row in rows] == ["0.100", "0.098 (-0.002)"]
    assert str(rows[0].cells["AP50"]) == "9.00"


def test_only_scores_at_the_end_count(tmp_path: Path) -> None:
    half, begun = job(tmp_path, BASE, 0, 5.0, at=7), job(tmp_path, BASE, 1, 5.0)
    (begun.folder / "model_final.pth").unlink()
    done, none = job(tmp_path, BASE, 2, 5.0), job(tmp_path, BASE, 3, None)
    assert missing([half, begun, done, none, done]) == [half, begun, none]
    assert done.scores()["AP"] == 5.0


def test_formats(jobs: list[Job]) -> None:
    rows = summarize(jobs, ["AP"])
    markdown = as_markdown(rows).splitlines()
    assert [cell.strip() for cell in markdown[2].strip("|").split("|")] == [
        "base",
        "3",
        "11.50 ± 1.50",
        "48.7",
    ]
    assert "| b_1\\|x " in markdown[3] and "- b_1\\|x: `a.py k=1`" in markdown
    latex = as_latex(rows)
    assert (
        r"b\_1|x" in latex and r"21.25 $\pm$ 1.06 (+9.75)" in latex and "% b_1|x: a.py k=1" in latex
    )
    first, second = csv.DictReader(io.StringIO(as_csv(rows)))
    assert (first["AP_mean"], first["AP_difference"], first["published_AP"]) == ("11.5", "", "48.7")
    assert (second["variant"], second["n"], second["AP_difference"]) == ("b_1|x", "2", "9.75")


def test_unknown_metric_lists_those_there_are(jobs: list[Job]) -> None:
    with pytest.raises(InputError, match="--metrics AP5O: the runs have AP, AP50"):
        summarize(jobs, ["AP5O"])
