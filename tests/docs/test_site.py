"""The documentation site builds without complaint, and shows itself without a network."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from detrex.config import schema
from tests.models import ROOT
from tests.report.browser import needs_browser, open_browser

if importlib.util.find_spec("mkdocs") is None:
    pytest.skip("needs detrex[docs]", allow_module_level=True)

FETCHED = re.compile(r"<(?:script|img|iframe|link)\b[^>]*?\b(?:src|href)=[\"']?(https?:)?//")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built with strict: true, so that broken links and unclear docstrings are errors."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_pages_fetch_nothing_from_elsewhere(site: Path) -> None:
    pages = {str(path.relative_to(site)): path.read_text() for path in site.rglob("*.html")}
    assert {"index.html", "models.html", "projects/rank_detr.html", "api/modeling.html"} <= {*pages}
    assert not {name for name, text in pages.items() if FETCHED.search(text)}
    assert not [path for path in site.rglob("*.css") if "url(http" in path.read_text()]


def test_the_readme_is_two_pages(site: Path) -> None:
    """Its table of models is a page of its own, to which links find their way."""
    index, models = ((site / f"{name}.html").read_text() for name in ("index", "models"))
    config = "rank_detr/configs/rank_detr_r50_two_stage_12ep.py</code></td>"
    assert config in models and config not in index
    assert 'href="../models.html"' in (site / "projects/h_deformable_detr.html").read_text()
    assert 'href="checkpoints.html"' in models and 'href="projects/dino.html"' in models


def test_docstrings_are_the_reference(site: Path) -> None:
    text = (site / "api/modeling.queries.html").read_text()
    assert 'id="detrex.modeling.queries.QueryGroup"' in text
    assert "query group {self.name!r}" not in text and ":class:<code>" not in text


@pytest.mark.parametrize(
    ("words", "page"),
    [
        ("wandb", "training.html"),
        ("TensorBoard", "training.html"),
        ("MLflow ClearML", "training.html"),
        ("early stopping", "training.html"),
        ("dry run", "training.html"),
        ("tiles large images small objects", "predict.html"),
        ("cameras streams", "predict.html"),
        ("some classes", "own_data.html"),
        ("test-time augmentation", "training.html"),
        ("TTA", "training.html"),
        ("FSDP sharding", "training.html"),
        ("crowded queries detections", "own_data.html"),
        ("masks", "own_data.html"),
        ("notebooks", "python.html"),
        ("keys", "keys.html"),
        ("learning rate batch", "own_data.html"),
    ],
)
def test_the_search_has_a_heading_for(site: Path, words: str, page: str) -> None:
    """Headings count most in its ranking."""
    entries = json.loads((site / "search/search_index.json").read_text())["docs"]
    titles = [e["title"].lower() for e in entries if e["location"].partition("#")[0] == page]
    assert any(all(word in title for word in words.lower().split()) for title in titles)


def test_the_search_works_in_files_and_puts_guides_first(site: Path) -> None:
    entries = json.loads((site / "search/search_index.json").read_text())["docs"]
    for entry in entries:
        assert ("boost" in entry) == entry["location"].startswith("api/"), entry["location"]
    assert (site / "search/search_index.js").is_file() and (site / "iframe-worker.js").is_file()
    assert 'src="../iframe-worker.js"' in (site / "api/modeling.queries.html").read_text()


def test_every_key_is_on_its_page(site: Path) -> None:
    text = (site / "keys.html").read_text()
    assert all(key.meaning for key in schema.KEYS.values())
    assert not [name for name in schema.KEYS if f"<td><code>{name}</code></td>" not in text]
    assert 'href="keys.html"' in (site / "training.html").read_text()


@needs_browser
def test_a_browser_asks_for_files_only(site: Path) -> None:
    with open_browser((site / "index.html").as_uri()) as browser:
        for page in ("projects/rank_detr.html", "api/modeling.html", "architecture.html"):
            browser.get((site / page).as_uri())
        logged = [json.loads(e["message"])["message"] for e in browser.get_log("performance")]
        sent = [e["params"]["request"]["url"] for e in logged if e["method"].endswith("WillBeSent")]
        width = browser.execute_script(
            "return document.querySelector('img[src$=\"architecture.svg\"]').naturalWidth"
        )
    assert len(sent) > 10 and width > 0
    assert all(url.startswith(("file:", "data:", "blob:")) for url in sent)
