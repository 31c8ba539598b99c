from dataclasses import dataclass
from typing import get_type_hints

import pytest

from detrex.utils import safe_yaml
from detrex.utils.safe_yaml import LONGEST_NUMBER, read_yaml
from detrex.utils.small_files import is_a, read_json_object
from tests.refusals import refused

NINE = 9 * "{0},"
LISTS = "".join(f"a{i}: &a{i} [{NINE.format(f'*a{i - 1}')}]\n" for i in range(1, 7))
MERGED = "".join(f"a{i}: &a{i} {{<<: [{NINE.format(f'*a{i - 1}')}]}}\n" for i in range(1, 7))
CHAIN = "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 200))


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
    ("content", "names"),
    [
        (b"\xff\xfe{", ["text"]),
        (b"{", ["JSON"]),
        (b"[" * 100_000, ["JSON"]),
        (b"9" * 5000, ["JSON"]),
        (b"[]", ["list"]),
        (b'{"seed": true}', ["seed", "True"]),
        (b'{"a": "' + b"x" * 2**24 + b'"}', ["16 MiB"]),
    ],
)
def test_a_damaged_record_is_named_with_its_key(tmp_path, content, names):
    path = tmp_path / "run.json"
    path.write_bytes(content)
    with refused("run.json: ", *names):
        read_json_object(path, {"seed": int})


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("a0: &a0 [x]\n" + LISTS, ["100,000 values"]),
        ("a0: &a0 {x: 1}\n" + MERGED, ["100,000 values"]),
        ("a: " + "[" * 5000, ["nested", "100"]),
        ("a0: &a0 [x]\n" + CHAIN, ["nested", "100"]),
        ("a: &a [*a]", ["alias"]),
        ("a: 1" + ":1" * LONGEST_NUMBER, ["long"]),
        ("a: !!timestamp x", ["tag"]),
        ("a: 2001-99-99", ["month"]),
        ("a: [", ["line 1"]),
        ("a: !!unknown x", ["unknown"]),
        ("[1]", ["list"]),
    ],
    ids=range(11),
)
def test_yaml_is_bounded_and_the_file_is_named(tmp_path, content, names):
    path = tmp_path / "config.yaml"
    path.write_text(content)
    with refused("config.yaml: ", *names):
        read_yaml(path)


def test_a_long_list_is_too_many_values(tmp_path, monkeypatch):
    monkeypatch.setattr(safe_yaml, "MOST", 1000)
    (tmp_path / "config.yaml").write_text("a: [" + "1," * 1001 + "]")
    with refused("config.yaml: ", "values"):
        read_yaml(tmp_path / "config.yaml")
