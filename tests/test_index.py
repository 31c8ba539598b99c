"""tests/README.md tells which files test which module, as they are now."""

from __future__ import annotations

from tests import index


def test_the_index_is_up_to_date() -> None:
    current = index.README.read_text() == index.page()  # their difference would take long to show
    assert current, "run: .venv/bin/python tests/index.py"


def test_the_index_finds_what_is_imported_handed_on_and_named() -> None:
    near = {name: files[0] for name, files in index.tests().items()}
    assert near["detrex.modeling.criterion.criterion"] == "modeling/test_criterion.py"  # a package
    assert near["projects.rt_detr.modeling.rt_detr"] == "projects/test_rt_detr.py"  # by its config
    assert near["tools.ablate"] == "ablation/test_ablate.py"  # by its path
    assert all((index.TESTS / file).is_file() for file in near.values())
