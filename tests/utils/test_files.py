"""Files that cannot be written end a command with one line."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from detrex.utils.cli import run_command
from detrex.utils.errors import InputError
from detrex.utils.files import atomic_write, check_writable


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("folder", "{} is a folder: name a file"),
        ("file/new/x.json", "{} cannot be written: {}/file is not a folder"),
        ("x" * 300, "{}: File name too long"),
    ],
)
def test_unusable_paths_are_one_line(tmp_path: Path, capsys, name: str, message: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("as it was")
    path = tmp_path / name

    def write() -> None:
        with atomic_write(path) as stream:
            stream.write("new")

    with pytest.raises(SystemExit, match="2"):
        run_command(write)
    assert capsys.readouterr().err == f"error: {message.format(path, tmp_path)}\n"
    assert (tmp_path / "file").read_text() == "as it was"
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "folder"]


def test_a_folder_without_permission_is_named(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)
    check_writable(tmp_path / ".." / "x.json")
    with pytest.raises(InputError, match=f"x.json cannot be written: .* in {tmp_path}"):
        check_writable(tmp_path / "new/x.json")
    assert not list(tmp_path.iterdir())


def test_errors_that_name_no_file_keep_their_traceback() -> None:
    def fail() -> None:
        raise OSError(errno.EPIPE, "Broken pipe")

    with pytest.raises(BrokenPipeError):
        run_command(fail)
