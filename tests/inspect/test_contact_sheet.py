import numpy as np
import pytest
from PIL import Image, ImageColor

from detrex.inspect.contact_sheet import PREDICTION, TRUTH, SheetItem, contact_sheet
from detrex.utils.errors import InputError
from detrex.utils.images import open_image


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


def test_letters_of_other_languages_are_drawn(tmp_path):
    image = Image.new("RGB", (100, 50))
    titles = ["é", "ü", "ñ", "ß", "ø", "ж"]
    sheets = [_sheet(tmp_path / "x.png", [SheetItem(image, title=title)]) for title in titles]
    assert len({sheet.tobytes() for sheet in sheets}) == len(titles)  # not the same empty box


def test_other_boxes_have_their_own_colour(tmp_path):
    item = SheetItem(Image.new("RGB", (100, 100)), others=[((20, 40, 60, 80), "#1 cat", "#4dabf7")])
    pixels = _sheet(tmp_path / "sheet.png", [item], tile=100, legend=[("red", "a query")])
    drawn = (pixels[30:130, 6:106] == ImageColor.getrgb("#4dabf7")).all(-1)
    assert drawn[40:80, 20].all() and drawn[80, 20:60].all() and not drawn[45:75, 25:55].any()
    assert (pixels[:30] == (255, 0, 0)).all(-1).any()


def test_wrong_input_is_named(tmp_path):
    with pytest.raises(InputError, match="gone.png: not a readable image"):
        open_image(tmp_path / "gone.png")
    with pytest.raises(InputError, match="no image"):
        contact_sheet([], tmp_path / "sheet.png")
    assert not (tmp_path / "sheet.png").exists()


def test_names_of_several_lines_are_drawn_in_one(tmp_path):
    image, box = Image.new("RGB", (100, 50)), (10, 10, 40, 30)
    item = SheetItem(image, [(box, "a\nb")], [(box, "c\r\nd", 0.5)], "e\nf", [(box, "g\n", "red")])
    _sheet(tmp_path / "sheet.png", [item], title="h\ni")
