"""Names are nouns of the field: no variable has a word that says nothing of what it holds."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.models import ROOT

VAGUE = {"found", "own", "theirs", "given", "kept", "wanted", "parts", "places", "dearest"}


def bound_names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """The names that a file assigns, defines or takes as an argument, with their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield (node.id if isinstance(node, ast.Name) else node.attr), node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name, node.lineno


def vague_names(path: Path) -> list[str]:
    names = bound_names(ast.parse(path.read_text()))
    return [f"{path}:{line} {name}" for name, line in names if name.strip("_") in VAGUE]


def test_what_counts_as_bound(tmp_path: Path) -> None:
    source = "def found(own, *, kept): self.parts = _given = [wanted for places in own]\nparts()"
    (tmp_path / "a.py").write_text(source)
    words = [line.split()[1] for line in vague_names(tmp_path / "a.py")]
    assert sorted(words) == ["_given", "found", "kept", "own", "parts", "places"]


def test_there_are_no_vague_names() -> None:
    folders = ("detrex", "projects", "tools", "configs", "benchmarks")
    files = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    lines = [line for path in files for line in vague_names(path)]
    assert len(files) > 300 and not lines, "\n".join(lines)
