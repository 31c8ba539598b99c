import json

import numpy as np
import pytest
from PIL import Image, ImageColor

from detrex.utils.contact_sheet import PREDICTION, TRUTH, SheetItem, coco_items, contact_sheet
from detrex.utils.errors import InputError


def _sheet(path, items, **options):
    contact_sheet(items, path, **options)
    with Image.open(path) as sheet:
        assert sheet.format == "PNG"
        return np.asarray(sheet.convert("RGB"))


def test_boxes_stand_where_they_should(tmp_path):
    image = Image.new("RGB", (100, 50), "navy")
    item = SheetItem(image, [((10, 10, 40, 30), "cat")], [((60, 20, 90, 40), "dog", 0.5)])
    pixels = _sheet(tmp_path / "sheet.png", [item], tile=200)  # drawn at twice the size
    top, left = 30, 6
    for color, (x0, y0, x1, y1) in ((TRUTH, (20, 20, 80, 60)), (PREDICTION, (120, 40, 180, 80))):
        drawn = (pixels[top : top + 100, left : left + 200] == ImageColor.getrgb(color)).all(-1)
        assert drawn[y0, x0:x1].mean() > 0.9 and drawn[y1, x0:x1].mean() > 0.9
        assert drawn[y0:y1, x0].mean() > 0.9 and drawn[y0:y1, x1].mean() > 0.9
        assert not drawn[y0 + 8 : y1 - 8, x0 + 8 : x1 - 8].any()
    assert (pixels[top + 50, left + 100] == ImageColor.getrgb("navy")).all()


def test_grid_has_a_tile_for_every_item(tmp_path):
    colors = ["red", "blue", "yellow", "purple", "cyan"]
    items = [SheetItem(Image.new("RGB", (64, 64), color)) for color in colors]
    pixels = _sheet(tmp_path / "new" / "sheet.png", items, columns=2, tile=40)
    assert pixels.shape == (30 + 3 * (40 + 6 + 17), 2 * 46 + 6, 3)
    for i, color in enumerate(colors):
        y, x = 30 + i // 2 * 63 + 20, 6 + i % 2 * 46 + 20
        assert (pixels[y, x] == ImageColor.getrgb(color)).all()


def test_labels_stay_inside_the_tile(tmp_path):
    image = Image.new("RGB", (50, 50))
    corners = [((0, 0, 5, 5), "name", 1.0), ((45, 45, 50, 50), "name", 1.0)]
    item = SheetItem(image, [(box, label) for box, label, _ in corners], corners)
    pixels = _sheet(tmp_path / "sheet.png", [item], tile=120)
    assert (pixels[30 + 120 :, :] == 255).all() and (pixels[30:, 6 + 120 :] == 255).all()
    assert (pixels[30:150, 6:126] == ImageColor.getrgb(PREDICTION)).all(-1).sum() > 500


@pytest.fixture
def data(tmp_path):
    for i in range(6):
        Image.new("RGB", (20, 20), (i * 40, 0, 0)).save(tmp_path / f"{i}.png")
    coco = {
        "images": [{"id": i, "file_name": f"{i}.png"} for i in range(6)],
        "categories": [{"id": 3, "name": "cat"}],
        "annotations": [{"image_id": 2, "category_id": 3, "bbox": [1, 2, 3, 4]}],
    }
    results = [
        {"image_id": 2, "category_id": 3, "bbox": [5, 5, 5, 5], "score": score}
        for score in (0.2, 0.9)
    ]
    (tmp_path / "val.json").write_text(json.dumps(coco))
    (tmp_path / "results.json").write_text(json.dumps(results))
    return tmp_path


def test_coco_items_spread_over_the_data_and_keep_confident_boxes(data):
    items = coco_items(data / "val.json", data, data / "results.json", count=3, threshold=0.3)
    assert [item.title for item in items] == ["0.png", "2.png", "4.png"]
    assert items[1].image.getpixel((0, 0)) == (80, 0, 0)
    assert items[1].truth == [((1, 2, 4, 6), "cat")]
    assert items[1].predictions == [((5, 5, 10, 10), "cat", 0.9)]
    assert len(coco_items(data / "val.json", data, count=50)) == 6


def test_wrong_input_is_named(data):
    with pytest.raises(InputError, match="gone.json: cannot be read"):
        coco_items(data / "gone.json", data)
    with pytest.raises(InputError, match="0.png: cannot be read as an image"):
        coco_items(data / "val.json", data / "nowhere")
    (data / "results.json").write_text('[{"image_id": 2, "category_id": 8, "score": 1}]')
    with pytest.raises(InputError, match="results.json: not COCO data"):
        coco_items(data / "val.json", data, data / "results.json")
    with pytest.raises(InputError, match="no image"):
        contact_sheet([], data / "sheet.png")
    assert not (data / "sheet.png").exists()
