import os
from dataclasses import dataclass
from typing import get_type_hints

import pytest

from detrex.utils.errors import InputError
from detrex.utils.safe_yaml import LONGEST_NUMBER, read_yaml
from detrex.utils.small_files import is_a, read_json_object, read_text

NINE = 9 * "{0},"
LISTS = "".join(f"a{i}: &a{i} [{NINE.format(f'*a{i - 1}')}]\n" for i in range(1, 7))
MERGED = "".join(f"a{i}: &a{i} {{<<: [{NINE.format(f'*a{i - 1}')}]}}\n" for i in range(1, 7))
CHAIN = "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 200))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe{", "not a text file"),
        (b"{", "not a JSON file"),
        (b"[" * 100_000, "not a JSON file"),
        (b"9" * 5000, "not a JSON file"),
        (b"[]", "holds a list, not a record"),
        (b'{"seed": true}', "seed is damaged: True"),
        (b'{"a": "' + b"x" * 2**24 + b'"}', "larger than the 16 MiB"),
    ],
)
def test_damaged_records_are_one_line(tmp_path, content, message):
    path = tmp_path / "run.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"run.json: {message}") as error:
        read_json_object(path, {"seed": int})
    assert "\n" not in str(error.value)


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, message in (("pipe", "not a regular file"), (".", "not a"), ("none", "No such file")):
        with pytest.raises(InputError, match=message):
            read_text(tmp_path / name)


def test_kinds_of_values():
    git = {"commit": str, "files": list[str]}
    assert is_a(None, int | None) and is_a(1, float) and is_a({"a": [1.5]}, dict[str, list[float]])
    assert is_a({"commit": "1", "files": [], "more": 1}, git) and is_a([1, None], list[int | None])
    assert not any(is_a(value, float) for value in (True, "1", None, [1]))
    assert not is_a({"commit": "1"}, git) and not is_a({"a": 1}, dict[str, str])
    assert not is_a(True, int) and not is_a("x", git) and not is_a({}, list[int])
    assert is_a(None, (git, None)) and not is_a([], (git, None))


@dataclass
class _Entry:
    names: list[str]
    score: float


def test_kinds_may_be_a_dataclass_own():
    kinds = get_type_hints(_Entry)
    assert is_a({"names": ["a"], "score": 1}, kinds)
    assert not is_a({"names": [1], "score": 1}, kinds)


def test_yaml_is_plain_data(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "hunter2")
    path = tmp_path / "config.yaml"
    path.write_text(
        "a: &a {lr: 1.0e-05}\nb: {<<: *a}\nc: !!python/tuple [1, *a]\n"
        "d: !!python/name:package.Block ''\ne: !!python/object/apply:os.system ['touch ran']\n"
        "f: !!python/object:package.Block {x: 1}\ng: ${oc.env:SECRET}\n"
    )
    assert read_yaml(path) == {
        "a": {"lr": 1e-05},
        "b": {"lr": 1e-05},
        "c": [1, {"lr": 1e-05}],
        "d": "package.Block",
        "e": ["touch ran"],
        "f": {"x": 1},
        "g": "${oc.env:SECRET}",
    }
    path.write_text("# nothing\n")
    assert read_yaml(path) == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a0: &a0 [x]\n" + LISTS, "more than 100,000 values"),
        ("a0: &a0 {x: 1}\n" + MERGED, "more than 100,000 values"),
        ("a: [" + "1," * 100_001 + "]", "more than 100,000 values"),
        ("a: " + "[" * 5000, "nested more than 100"),
        ("a0: &a0 [x]\n" + CHAIN, "nested more than 100"),
        ("a: &a [*a]", "an alias stands for a value that contains it"),
        ("a: 1" + ":1" * LONGEST_NUMBER, "is too long"),
        ("a: !!timestamp x", "not what its tag says"),
        ("a: 2001-99-99", "month must be"),
        ("a: [", "line 1: expected the node content"),
        ("a: !!unknown x", "could not determine a constructor"),
        ("[1]", "holds a list"),
    ],
    ids=range(12),
)
def test_yaml_is_bounded_and_what_is_wrong_is_one_line(tmp_path, content, message):
    path = tmp_path / "config.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=rf"config.yaml: .*{message}") as error:
        read_yaml(path)
    assert "\n" not in str(error.value)
