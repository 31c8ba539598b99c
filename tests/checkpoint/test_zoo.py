"""Published checkpoints: the table, and downloads from a server that breaks off, lies and moves."""

from __future__ import annotations

import hashlib
import multiprocessing
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import torch

from detrex.checkpoint import read_checkpoint, zoo
from detrex.checkpoint.zoo import ZooEntry, zoo_entry
from detrex.utils.download import fetch
from tests.refusals import refused

CONTENT = bytes(range(256)) * 64
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves ``server.content`` in whole or from an offset; logs what was asked for.

    ``server.breaks`` numbers are after how many bytes the next answers break off.
    """

    def do_GET(self) -> None:
        server = self.server
        asked = self.headers.get("Range", "")
        server.log.append((self.path, asked))
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/file.pth")
            self.end_headers()
            return
        if self.path == "/gone":
            self.send_error(410)
            return
        start = 0
        if asked and self.headers.get("If-Range") == server.tag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start and start >= len(server.content):
            self.send_error(416)
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        if server.tag:
            self.send_header("ETag", server.tag)
        self.end_headers()
        self.wfile.write(body[: server.breaks.pop(0)] if server.breaks else body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.content, server.tag, server.breaks, server.log = CONTENT, '"one"', [], []
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_every_name_has_a_config_and_an_address_of_its_own() -> None:
    entries = zoo.zoo()
    assert all(entry.config_file.is_file() for entry in entries.values())
    assert len({entry.address for entry in entries.values()}) == len(entries)
    assert all(urlsplit(entry.address).scheme == "https" for entry in entries.values())
    entry = zoo_entry("zoo://rank_detr_r50_12ep")
    assert entry.config == "projects/rank_detr/configs/rank_detr_r50_two_stage_12ep.py"


def test_a_broken_download_goes_on_where_it_broke(server, tmp_path: Path) -> None:
    server.breaks = [1000, 500]
    target = tmp_path / "a" / "file.pth"
    for least in (1000, 1500):
        with pytest.raises(OSError, match=f"after {least} of {len(CONTENT)} bytes"):
            fetch(f"{server.url}/file.pth", target)
        assert not target.exists()
    fetch(f"{server.url}/file.pth", target, len(CONTENT), SHA256)
    assert target.read_bytes() == CONTENT
    assert [asked for _, asked in server.log] == ["", "bytes=1000-", "bytes=1500-"]
    fetch(f"{server.url}/file.pth", target)  # it is here
    assert len(server.log) == 3
    assert sorted(path.name for path in target.parent.iterdir()) == ["file.pth", "file.pth.lock"]


def test_a_file_that_changed_meanwhile_starts_anew(server, tmp_path: Path) -> None:
    server.breaks = [1000]
    with pytest.raises(OSError, match="1000 of"):
        fetch(f"{server.url}/file.pth", tmp_path / "file.pth")
    server.content, server.tag = CONTENT[::-1], '"two"'
    assert fetch(f"{server.url}/file.pth", tmp_path / "file.pth").read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("tag", ["", 'W/"one"'])
def test_without_a_version_nothing_is_continued(server, tmp_path: Path, tag: str) -> None:
    server.tag, server.breaks = tag, [1000]
    with pytest.raises(OSError, match="1000 of"):
        fetch(f"{server.url}/file.pth", tmp_path / "file.pth")
    assert fetch(f"{server.url}/file.pth", tmp_path / "file.pth").read_bytes() == CONTENT
    assert [asked for _, asked in server.log] == ["", ""]


def test_a_whole_part_that_was_not_renamed(server, tmp_path: Path) -> None:
    (tmp_path / "f.part").write_bytes(CONTENT)
    (tmp_path / "f.part.version").write_text('"one"')
    assert fetch(f"{server.url}/file.pth", tmp_path / "f").read_bytes() == CONTENT


def test_moved_and_wrong_files(server, tmp_path: Path) -> None:
    assert fetch(f"{server.url}/moved", tmp_path / "moved").read_bytes() == CONTENT
    address, target = f"{server.url}/file.pth", tmp_path / "wrong"
    with refused(f"{server.url}/gone"):
        fetch(f"{server.url}/gone", target)
    with refused(address, f"{len(CONTENT)} bytes", "77"):
        fetch(address, target, 77)
    with refused(address, SHA256, "ab" * 32):
        fetch(address, target, len(CONTENT), "ab" * 32)
    server.content = b""
    with refused(address, "empty"):
        fetch(address, target)
    assert not [path.name for path in tmp_path.glob("wrong*") if path.suffix != ".lock"]


def test_processes_download_once(server, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    arguments = (f"{server.url}/file.pth", tmp_path / "file.pth")
    processes = [context.Process(target=fetch, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0] and len(server.log) == 1


def test_a_name_is_read_like_a_file(
    server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"model": {"w": torch.ones(3)}}, tmp_path / "made.pth")
    server.content = (tmp_path / "made.pth").read_bytes()
    entry = ZooEntry("projects/x.py", f"{server.url}/f/?dl=1", len(server.content))
    monkeypatch.setattr(zoo, "zoo", lambda: {"small": entry})
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    assert read_checkpoint("zoo://small")["model"]["w"].tolist() == [1.0, 1.0, 1.0]
    with refused("zoo://smal", "small"):
        read_checkpoint("zoo://smal")
    server.tag, server.breaks = "", [10]
    with refused("zoo://broken", "after 10 of"):
        entry = ZooEntry("projects/x.py", f"{server.url}/g/?dl=1")
        monkeypatch.setattr(zoo, "zoo", lambda: {"broken": entry})
        read_checkpoint("zoo://broken")
