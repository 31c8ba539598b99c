"""The report in a real browser. Without Chromium and its driver these tests are skipped."""

import json

import pytest

from detrex.report import write_report
from detrex.report.runs import read_run
from tests.report.browser import needs_browser, open_browser
from tests.report.fake_runs import alignment, calibration, detection, write_data, write_run

pytestmark = needs_browser


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A browser with the report of twenty runs open, one of them with a long name."""
    folder = tmp_path_factory.mktemp("report")
    write_data(folder / "data")
    wrong = [detection(0, 3, [0, 0, 20, 20], 0.9)]
    for i in range(20):
        name = f"run_{i}" if i else "a_run_with_a_name_that_is_longer_than_a_phone_is_wide"
        run = write_run(folder / name, folder / "data", wrong, lr=0.01 * i)
        alignment().save(run)
        calibration().save(run)
    runs = [read_run(path.parent) for path in sorted(folder.glob("*run*/run.json"))]
    write_report(runs, folder / "report.html")
    with open_browser((folder / "report.html").as_uri()) as driver:
        yield driver


def click(page, selector):
    page.execute_script("document.querySelector(arguments[0]).click()", selector)


def test_no_error_and_no_request(page):
    assert page.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    sent = [e["params"]["request"]["url"] for e in events if e["method"].endswith("WillBeSent")]
    assert sent and all(url.startswith(("file:", "data:")) for url in sent)


def test_plots_are_drawn(page):
    count = (
        "return [...document.querySelectorAll('.plot')].map(p => p.querySelectorAll('path').length)"
    )
    drawn = page.execute_script(count)
    assert len(drawn) == 2 + (6 + 20) + (7 + 20) and all(drawn)
    lines = "return document.querySelectorAll('#plot-training .scatterlayer .trace').length"
    assert page.execute_script(lines) == 20


def test_tables_sort(page):
    column = (
        "return [...document.querySelectorAll('#scores tbody tr')].map(r => r.cells[2].innerText)"
    )
    given = page.execute_script(column)
    for ordered in (sorted(given, key=float, reverse=True), sorted(given, key=float)):
        click(page, "#scores th:nth-child(3)")
        assert page.execute_script(column) == ordered
    click(page, "#scores th:nth-child(1)")
    names = "return [...document.querySelectorAll('#scores tbody th')].map(c => c.innerText)"
    assert page.execute_script(names)[:4] == [
        "a_run_with_a_name_that_is_longer_than_a_phone_is_wide", "run_1", "run_2", "run_3",
    ]  # fmt: skip


def test_choosing_metric_and_axis_redraws(page):
    axis = "const s = document.querySelector(arguments[0]); s.value = arguments[1]; s.onchange();"
    page.execute_script(axis, "#axis", "epoch")
    data = "return document.getElementById('plot-training').data[0]"
    assert page.execute_script(data)["x"] == [1, 2]  # iterations 10 and 20, 10 to the epoch
    assert page.execute_script(data)["mode"] == "lines+markers"  # a lone point has no line
    page.execute_script(axis, "select[data-kind=training]", "loss_bbox")
    assert page.execute_script(data)["y"] == [1, 1]


def test_an_image_is_enlarged(page):
    click(page, "#images .zoom")
    size = "return document.querySelector('dialog[open] svg').getBoundingClientRect().width"
    small = "return document.querySelector('#images .zoom svg').getBoundingClientRect().width"
    assert page.execute_script(size) > 1.5 * page.execute_script(small)
    click(page, "#zoom > button")
    assert page.execute_script("return document.querySelector('dialog[open]')") is None


def test_arrows_step_through_the_images(page):
    click(page, "#images .zoom")
    text = "return document.querySelector('#zoom p').textContent"
    first = page.execute_script(text)
    press = (
        "document.getElementById('zoom').dispatchEvent(new KeyboardEvent('keydown', {key: '%s'}))"
    )
    page.execute_script(press % "ArrowRight")
    assert page.execute_script(text) != first
    page.execute_script(press % "ArrowLeft")
    assert page.execute_script(text) == first
    click(page, "#zoom > button")


def test_kinds_of_boxes_are_switched_off_and_on(page):
    shown = "return getComputedStyle(document.querySelector('#images g.wrong')).display"
    assert page.execute_script(shown) != "none"
    click(page, ".legend [data-kind=wrong]")
    assert page.execute_script(shown) == "none"
    click(page, ".legend [data-kind=wrong]")
    assert page.execute_script(shown) != "none"


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
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
