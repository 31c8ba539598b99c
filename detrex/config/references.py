"""References between the keys of a config that is read as data: ``${train.seed}``."""

from __future__ import annotations

import re

from detrex.utils.errors import InputError

_REFERENCE = re.compile(r"\$\{(\.*)([^${}:.][^${}:]*)\}")
_DEEPEST = 50  # references to references
_MOST = 300_000  # values and characters that they may become


def follow_references(content: dict) -> dict:
    """Return the nested config with its references replaced by the values that they refer to.

    Omegaconf's resolvers (``${oc.env:HOME}``) stay text, and so do references to a missing key or
    to themselves.

    Args:
        content: dicts, lists and values; it is not changed.

    Raises:
        InputError: written out it would have more than 300,000 values and characters.
    """
    return _Follower(content).value(content, ())


class _Follower:
    def __init__(self, root: dict) -> None:
        self.root, self.depth, self.spent = root, 0, 0

    def value(self, value: object, path: tuple) -> object:
        """A value at ``path`` and what is in it."""
        self.spend(1)
        if isinstance(value, dict):
            return {key: self.value(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self.value(item, (*path, i)) for i, item in enumerate(value)]
        return self.text(value, path) if isinstance(value, str) else value

    def text(self, text: str, path: tuple) -> object:
        whole = _REFERENCE.fullmatch(text)
        if whole:
            return self.target(whole, path)
        return _REFERENCE.sub(lambda part: self.inside(part, path), text)

    def inside(self, part: re.Match, path: tuple) -> str:
        """The text that replaces a reference inside a text."""
        target = self.target(part, path)
        text = part[0] if isinstance(target, dict | list) else str(target)
        self.spend(len(text))
        return text

    def target(self, reference: re.Match, path: tuple) -> object:
        if self.depth == _DEEPEST:
            return reference[0]
        self.depth += 1
        dots, names = len(reference[1]), re.split(r"[.\[\]]+", reference[2].rstrip("]"))
        keys = [*path[:-dots], *names] if dots else names
        try:
            return self.value(self.at(keys), tuple(keys))
        except (LookupError, ValueError, TypeError):  # nothing is there
            return reference[0]
        finally:
            self.depth -= 1

    def at(self, keys: list) -> object:
        """The value at a path, some of whose steps may be references."""
        node = self.root
        for i, key in enumerate(keys):
            node = node[int(key)] if isinstance(node, list) else node[key]
            if isinstance(node, str) and i + 1 < len(keys):
                node = self.text(node, tuple(keys[: i + 1]))
        return node

    def spend(self, cost: int) -> None:
        self.spent += cost
        if self.spent > _MOST:
            raise InputError(f"its references expand to more than {_MOST:,} values")
