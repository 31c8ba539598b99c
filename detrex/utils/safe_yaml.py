"""YAML read as data: no code, no environment variables, and bounds on the size of the result."""

from __future__ import annotations

import os

import yaml

from detrex.utils.errors import InputError
from detrex.utils.small_files import read_text
from detrex.utils.text import first_line

DEEPEST = 100  # levels of nested lists and mappings
MOST = 100_000  # values and keys, each alias counted as often as it is used
LONGEST_NUMBER = 100  # characters; "1:1:1:..." takes time that grows with the square
_TOO_DEEP = f"nested more than {DEEPEST} levels deep"
_TOO_MANY = f"more than {MOST:,} values with its aliases written out"


def read_yaml(path: str | os.PathLike) -> dict:
    """Return the mapping in a YAML file; {} for an empty file.

    Python's tags run no code: ``!!python/name:a.b`` becomes the text "a.b", a tuple a list.
    Interpolations stay text.

    Raises:
        InputError: it cannot be read, is not YAML, is no mapping, or has more than ``MOST`` values,
            ``DEEPEST`` levels or 1 MiB.
    """
    try:
        content = yaml.load(read_text(path), _PlainLoader)
    except InputError:
        raise
    except Exception as error:  # values that contradict their tags raise many types
        raise InputError(f"{path}: not YAML that can be used ({yaml_fault(error)})") from None
    if content is not None and not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}, not keys and values")
    return content or {}


class _PlainLoader(yaml.SafeLoader):
    """PyYAML's safe loader, with bounds."""

    depth = count = 0

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node:
        self.depth, self.count = self.depth + 1, self.count + 1
        _check(self.depth <= DEEPEST, _TOO_DEEP)
        _check(self.count <= MOST, _TOO_MANY)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            _measure(node, {})
        return node


def _measure(node: yaml.Node, known: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
    """Return how many values a node has with its aliases written out, and how deep they nest."""
    if id(node) in known:
        _check(known[id(node)] is not None, "an alias stands for a value that contains it")
        return known[id(node)]
    known[id(node)], size, depth = None, 1, 0
    if isinstance(node, yaml.ScalarNode):
        is_text = node.tag == yaml.resolver.BaseResolver.DEFAULT_SCALAR_TAG
        _check(is_text or len(node.value) <= LONGEST_NUMBER, f"{node.value:.20}... is too long")
    else:
        for item in node.value:
            for child in item if isinstance(item, tuple) else (item,):  # (key, value) of a mapping
                count, below = _measure(child, known)
                size, depth = size + count, max(depth, below)
    _check(size <= MOST, _TOO_MANY)
    _check(depth < DEEPEST, _TOO_DEEP)
    known[id(node)] = size, depth + 1
    return known[id(node)]


def _check(holds: bool, message: str) -> None:
    if not holds:
        raise yaml.YAMLError(message)


def _as_plain(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> object:
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    return node.value or suffix.partition(":")[2]


_PlainLoader.add_multi_constructor("tag:yaml.org,2002:python/", _as_plain)


def yaml_fault(error: Exception) -> str:
    """Return a YAML parser's message in one line, with the line of the file."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f"line {error.problem_mark.line + 1}: {first_line(error.problem)}"
    if isinstance(error, yaml.YAMLError):
        return first_line(error)
    return f"a value is not what its tag says: {first_line(error)}"
