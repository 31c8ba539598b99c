"""The pages of the documentation, their code blocks and commands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

from tests.models import ROOT

PATTERNS = ("*.md", "docs/*.md", "projects/*/README.md", "detrex/**/README.md")
PAGES = sorted(str(path.relative_to(ROOT)) for p in PATTERNS for path in ROOT.glob(p))
_FENCE = re.compile(r'^```(\w*)(?: title="([^"\n]*)")?\n(.*?)^```$', re.M | re.S)
_INLINE = re.compile(r"`((?:python|pip|bash|make|torchrun|pre-commit) [^`\n]+)`")


class Block(NamedTuple):
    language: str
    title: str  # the file that it is, or ""
    text: str


def text(page: str) -> str:
    return Path(ROOT, page).read_text()


def outside_blocks(page: str) -> str:
    return _FENCE.sub("", text(page))


def blocks(page: str, language: str = "") -> list[Block]:
    """The fenced code blocks of a page, of one language or all."""
    found = [Block(*match) for match in _FENCE.findall(text(page))]
    return [block for block in found if language in ("", block.language)]


def commands(page: str) -> list[list[str]]:
    """The words of every shell command of a page: those of its blocks, then those in the text."""
    lines = [
        line
        for block in blocks(page, "bash")
        for line in block.text.replace("\\\n", " ").splitlines()
    ]
    lines += _INLINE.findall(outside_blocks(page))
    return [words for line in lines if (words := shlex.split(line, comments=True))]
