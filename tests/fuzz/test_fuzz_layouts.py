"""Folders of data sets, spoiled: all is read, or what is not is named."""

from __future__ import annotations

from random import Random

import pytest

from detrex.data.formats import read_layout
from detrex.utils.errors import InputError
from detrex.utils.images import ENDINGS
from tests.data import layouts
from tests.data.test_layout_variants import VARIANTS, check_content
from tests.fuzz.layout_mutations import HARMFUL, HARMLESS, files

WRITERS = {
    **{name: layouts.WRITERS[name] for name in ("YOLO", "COCO", "LabelMe", "CSV")},
    **{write.__name__: write for write in VARIANTS},
}


@pytest.mark.parametrize("mutate", HARMLESS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("writer", WRITERS)
def test_nothing_is_lost_by_names_endings_and_encodings(tmp_path, writer, mutate):
    WRITERS[writer](tmp_path)
    mutate(tmp_path, Random(f"{writer} {mutate.__name__}"))
    check_content(read_layout(tmp_path)[1])


@pytest.mark.parametrize("mutate", HARMFUL, ids=lambda f: f.__name__)
@pytest.mark.parametrize("writer", WRITERS)
def test_what_is_lost_is_named(tmp_path, writer, mutate):
    for seed in range(3):
        root = tmp_path / str(seed)
        WRITERS[writer](root)
        mutate(root, Random(f"{writer} {mutate.__name__} {seed}"))
        try:
            splits = read_layout(root)[1]
        except InputError as error:
            assert "\n" not in str(error) and str(root) in str(error)
            continue
        places = " ".join(str(p) for s in splits.values() for g in s.problems.values() for p in g)
        used = {
            (split.images / image["file_name"]).resolve()
            for split in splits.values()
            for image in split.content()["images"]
        }
        for path in files(root, *ENDINGS, ".heic"):
            assert path.resolve() in used or path.stem in places, path
