"""A small part of what ``fuzz_data.py`` tries."""

import logging

import pytest

from tests.fuzz import checkpoints
from tests.fuzz.case import Original
from tests.fuzz.fuzz_data import MUTATIONS, try_case

SEED = 0
# Every third mutation, and two at once.
NUMBERS = [*range(0, len(MUTATIONS), 3), *range(len(MUTATIONS), len(MUTATIONS) + 12)]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return Original(tmp_path_factory.mktemp("original"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("part", range(4))
def test_spoiled_data_is_trained_on_or_refused_with_one_line(original, tmp_path, part, monkeypatch):
    monkeypatch.setattr(logging.getLogger("detrex"), "propagate", False)
    results = [try_case(original, tmp_path / str(n), SEED, n) for n in NUMBERS[part::4]]
    assert [(r[0].done, r[2]) for r in results if r[1] == "wrong"] == []
    assert {"survived", "refused"} == {r[1] for r in results}


def test_spoiled_checkpoints_are_used_or_refused_with_one_line(tmp_path, caplog):
    outcomes = {checkpoints.check(tmp_path, SEED, number) for number in range(300)}
    assert outcomes == {"survived", "refused"}
