"""The report in a real browser. Without Chromium and its driver these tests are skipped."""

import json
import time

import pytest

from detrex.report import write_report
from detrex.report.runs import read_run
from tests.report.browser import needs_browser, open_browser
from tests.report.fake_runs import alignment, calibration, detection, write_data, write_run

pytestmark = needs_browser

LONG = "a_run_with_a_name_that_is_longer_than_a_phone_is_wide"
RESULTS = [
    detection(0, 3, [10, 10, 20, 20], 0.8),  # right
    detection(0, 3, [12, 10, 20, 20], 0.7),  # a duplicate
    detection(0, 7, [0, 0, 5, 5], 0.6),  # nothing there
    detection(1, 3, [0, 0, 30, 30], 0.9),  # another class
]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A browser with the report of twenty runs open, two of each config, one with a long name."""
    folder = tmp_path_factory.mktemp("report")
    write_data(folder / "data")
    for i in range(20):
        name = f"run_{i}" if i else LONG
        run = write_run(folder / name, folder / "data", RESULTS[i % 2 :], lr=0.01 * (i // 2))
        alignment().save(run)
        calibration().save(run)
    runs = [read_run(path.parent) for path in sorted(folder.glob("*run*/run.json"))]
    write_report(runs, folder / "report.html")
    with open_browser((folder / "report.html").as_uri()) as driver:
        down = {"behavior": "allow", "downloadPath": str(folder / "saved")}
        driver.execute_cdp_cmd("Browser.setDownloadBehavior", down)
        driver.saved = folder / "saved"
        yield driver


@pytest.fixture(autouse=True)
def start(page):
    """Every test begins with the first run alone, at 0.3, nothing hidden or enlarged."""
    page.execute_script(
        "zoom.close(); state.hidden.clear(); update({kind: 'mistakes', cell: null,"
        "left: judged[0], right: -1, threshold: 0.3})"
    )


def click(page, selector):
    page.execute_script("document.querySelector(arguments[0]).click()", selector)


def texts(page, selector):
    return page.execute_script(
        "return all(arguments[0]).map(e => e.innerText.replace(/\\s+/g, ' '))", selector
    )


def boxes(page, place="#gallery article:first-child"):
    """Classes of the boxes on an image, in the order in which they are drawn."""
    return page.execute_script(
        "return all(arguments[0] + ' rect').map(r => r.getAttribute('class'))", place
    )


def press(page, selector, key):
    page.execute_script(
        "document.querySelector(arguments[0]).dispatchEvent("
        "new KeyboardEvent('keydown', {key: arguments[1], bubbles: true}))", selector, key
    )  # fmt: skip


def test_no_error_and_no_request(page):
    assert page.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    sent = [e["params"]["request"]["url"] for e in events if e["method"].endswith("WillBeSent")]
    assert sent and all(url.startswith(("file:", "data:")) for url in sent)


def test_a_run_that_has_only_begun(page, tmp_path):
    write_data(tmp_path / "data")
    run = write_run(tmp_path / "run", tmp_path / "data", None)
    (run / "metrics.json").unlink()
    write_report([read_run(run)], tmp_path / "report.html")
    page.switch_to.new_window("tab")
    page.get((tmp_path / "report.html").as_uri())
    assert texts(page, "h1") == ["run"] and "no detections yet" in texts(page, ".notes")[0]
    assert texts(page, "h2")[1:] == ["Training", "Config", "Commands and versions"]
    assert page.get_log("browser") == []
    page.close()
    page.switch_to.window(page.window_handles[0])


def test_plots_are_drawn(page):
    count = (
        "return [...document.querySelectorAll('figure:not([hidden]) > .plot')]"
        ".map(p => p.querySelectorAll('path').length)"
    )
    drawn = page.execute_script(count)
    assert len(drawn) == 2 + 3 + 2 + 4 + (6 + 1) and all(drawn)
    lines = "return document.querySelectorAll('#plot-training .scatterlayer .trace').length"
    click(page, "#mean")
    assert page.execute_script(lines) == 20
    click(page, "#mean")
    assert page.execute_script(lines) == 30  # mean and range of ten configs
    click(page, "[data-group]")
    assert page.execute_script(lines) == 27
    click(page, "[data-group]")


def test_tables_sort(page):
    column = "return all('#each-run tbody tr').map(r => r.cells[2].textContent)"
    given = page.execute_script(column)
    for ordered in (sorted(given, key=float, reverse=True), sorted(given, key=float)):
        click(page, "#each-run th:nth-child(3)")
        assert page.execute_script(column) == ordered
    press(page, "#each-run th:nth-child(1)", "Enter")
    names = "return all('#each-run tbody th').map(c => c.textContent)"
    assert page.execute_script(names)[:4] == [LONG, "run_1", "run_2", "run_3"]


def test_choosing_metric_and_axis_redraws(page):
    axis = "const s = document.querySelector(arguments[0]); s.value = arguments[1]; s.onchange();"
    click(page, "#mean")
    page.execute_script(axis, "#axis", "epoch")
    data = "return document.getElementById('plot-training').data[0]"
    assert page.execute_script(data)["x"] == [1, 2]  # iterations 10 and 20, 10 to the epoch
    assert page.execute_script(data)["mode"] == "lines+markers"  # a lone point has no line
    page.execute_script(axis, "select[data-kind=training]", "loss_bbox")
    assert page.execute_script(data)["y"] == [1, 1]
    click(page, "#mean")


def test_errors_are_drawn_over_what_is_right(page):
    kinds = boxes(page, "#gallery article:nth-child(2)")
    assert sorted(kinds) == ["background", "duplicate", "right", "truth"]
    assert kinds[:2] == ["truth", "right"]


def test_every_kind_of_mistake_has_its_gallery(page):
    counts = {}
    for kind in ("classification", "localisation", "duplicate", "background", "missed"):
        click(page, f"[data-gallery={kind}]")
        counts[kind] = len(texts(page, "#gallery article"))
    expected = dict(classification=1, localisation=0, duplicate=1, background=1, missed=1)
    assert counts == expected
    assert texts(page, "#gallery h3") == ["1.jpg"]  # two objects are missed
    assert page.execute_script("return one('[data-gallery=missed]').ariaPressed") == "true"


def test_the_threshold_filters_images_curves_and_charts(page):
    chart = "return Object.fromEntries(one('#plot-errors').data.map(t => [t.name, t.x[0]]))"
    slide = (
        "const s = one('input.threshold'); s.value = arguments[0];"
        "s.dispatchEvent(new Event('input'));"
        "return new Promise(done => setTimeout(done, 100))"
    )
    first = page.execute_script(chart)
    assert first["duplicate"] == pytest.approx(1 / 3) and first["missed"] == pytest.approx(2 / 3)
    page.execute_script(slide, "0.75")
    assert texts(page, "#gallery figcaption") == ["1 wrong class, 2 missed"]
    assert texts(page, "#at-threshold tbody td")[:4] == ["50.0 %", "33.3 %", "40.0 %", "0.33"]
    line = page.execute_script("return one('#plot-f1').layout.shapes[0].x0")
    assert line == 0.75 and page.execute_script(chart)["duplicate"] == 0
    click(page, "#at-threshold button")  # the best F1's
    assert texts(page, ".slider output") == ["0.80"]


def test_kinds_of_boxes_are_switched_off_and_on(page):
    place = "#gallery article:nth-child(2)"
    assert "duplicate" in boxes(page, place)
    click(page, ".legend [data-kind=duplicate]")
    assert "duplicate" not in boxes(page, place)
    click(page, ".legend [data-kind=truth]")
    assert "truth" not in boxes(page, place)
    click(page, ".legend [data-kind=duplicate]")
    assert "duplicate" in boxes(page, place)


def test_two_runs_side_by_side(page):
    page.execute_script("update({right: judged[1]})")
    assert texts(page, "#gallery article:nth-child(2) figcaption") == [
        "1 duplicate, 1 nothing there", "1 nothing there"
    ]  # fmt: skip
    assert len(texts(page, ".matrices h3")) == 2 and len(texts(page, "#at-threshold tr")) == 3
    shown = "return all('figure:not([hidden]) b').map(b => b.textContent)"
    densities = [t for t in page.execute_script(shown) if t.startswith("Confidence and IoU")]
    assert len(densities) == 2


def test_an_image_is_enlarged_and_followed_by_the_next(page):
    click(page, "#gallery .zoom")
    size = "return document.querySelector('dialog[open] svg').getBoundingClientRect().width"
    small = "return document.querySelector('#gallery .zoom svg').getBoundingClientRect().width"
    assert page.execute_script(size) > 1.5 * page.execute_script(small)
    title = "#zoom .tools b"
    assert texts(page, title) == ["1 of 2: 1.jpg"]
    press(page, "#zoom", "ArrowRight")
    assert texts(page, title) == ["2 of 2: 0.jpg"]
    click(page, "#zoom [data-step='1']")
    assert texts(page, title) == ["1 of 2: 1.jpg"]
    click(page, "#zoom [data-step='-1']")
    labels = page.execute_script("return all('#zoom svg text').map(t => t.textContent)")
    assert "cat 0.70, duplicate" in labels
    click(page, "#zoom .close")
    assert page.execute_script("return document.querySelector('dialog[open]')") is None


def test_an_address_opens_its_image(page):
    page.execute_script("update({threshold: 0.5, kind: 'duplicate'})")
    click(page, "#gallery .zoom")
    address = page.execute_script("return location.hash")
    click(page, "#zoom .close")
    page.execute_script("update({threshold: 0.3, kind: 'missed', right: judged[1]})")
    page.execute_async_script(
        "location.hash = arguments[0]; setTimeout(arguments[1], 200)", address
    )
    assert texts(page, "#zoom .tools b") == ["1 of 1: 0.jpg"]
    assert page.execute_script("return [state.threshold, state.right]") == [0.5, -1]


def test_a_cell_of_the_confusion_matrix_opens_its_images(page):
    cells = page.execute_script("return all('.matrix button').map(b => b.title)")
    assert cells[0] == "cat detected as cat: 1, 50.0 %" and cells[1].startswith("cat missed: 1")
    focus = "return document.activeElement.title"
    page.execute_script("one('.matrix button').focus()")
    page.execute_script(
        "document.activeElement.dispatchEvent("
        "new KeyboardEvent('keydown', {key: 'ArrowRight', bubbles: true}))"
    )
    assert page.execute_script(focus) == cells[1]
    page.execute_script("document.activeElement.click()")
    assert texts(page, "#gallery h3") == ["1.jpg"]
    assert texts(page, "#gallery-note")[0].startswith("1 image with cat missed in")
    click(page, "#gallery-note button")
    assert len(texts(page, "#gallery article")) == 2


def test_figures_and_images_are_saved(page):
    click(page, "[data-plot='plot-f1'][data-format='svg']")
    click(page, "#gallery .zoom")
    for kind in ("svg", "png"):
        click(page, f"#zoom [data-format='{kind}']")
    names = {"F1_by_threshold.svg", "1_jpg.svg", "1_jpg.png"}
    end = time.monotonic() + 20
    while not names <= {path.name for path in page.saved.glob("*")}:
        assert time.monotonic() < end, list(page.saved.glob("*"))
        time.sleep(0.05)
    figure = (page.saved / "F1_by_threshold.svg").read_text()
    assert LONG in figure and "F1 by threshold" in figure  # it has a legend and a title
    assert "data:image/webp" in (page.saved / "1_jpg.svg").read_text()
    assert (page.saved / "1_jpg.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("system", ["light", "dark"])
def test_theme_follows_the_system_and_the_button(page, system):
    page.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": system}]},
    )
    light = "return getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0] > 128"
    assert page.execute_script(light) == (system == "light")
    click(page, "#theme")
    assert page.execute_script(light) == (system == "dark")


@pytest.mark.parametrize("width", [390, 1366])
def test_nothing_sticks_out(page, width):
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    page.execute_script("update({right: judged[1]})")
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    click(page, "#gallery .zoom")
    right = "return one('#zoom').getBoundingClientRect().right"
    assert page.execute_script(right) <= width
