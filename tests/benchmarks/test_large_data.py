from __future__ import annotations

from benchmarks import large_data
from detrex.data import load_coco
from detrex.data.coco import read_entries


def test_the_made_up_data_are_a_data_set(tmp_path):
    path = tmp_path / "data.json"
    large_data.write_json(path, 130)
    large_data.write_images(tmp_path, 130)
    entries = read_entries(path)
    assert [len(section) for section in entries] == [large_data.CLASSES, 9, 130]
    records = load_coco(str(path), str(tmp_path), training=True)
    assert sum(len(record["annotations"]) for record in records) == 130
    assert records[8]["file_name"].endswith("images/v2/patch0/objects365_v2_00000008.jpg")
