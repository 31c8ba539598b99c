"""MkDocs hooks: pages that live elsewhere in the repository, and links that work in both places.

READMEs and the like stay where readers of the repository look for them; the site shows the same
files. Links are written as files of the repository have them.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from detrex.config import schema

ROOT = Path(__file__).parents[1]
KEYS_HEAD = """# Keys of a config

Every key of `train`, and the others that are checked, from `detrex/config/schema.py`.
Set them in a config file, or on the command line as `key=value`. *Length*: a number of iterations,
epochs (`12ep`), or a fraction of the run. What else a config has (in `model`, `dataloader`,
`optimizer`, `lr_multiplier`) are arguments of the classes that it names.

| key | default | meaning |
|---|---|---|
"""
# Guides come first in the search.
API = """---
search:
  boost: 0.05
---
::: {}
"""
ZOO = re.compile(r"\n## Models\n.*?(?=\n## |\Z)", re.S)
LINK = re.compile(r"\[([^\]\n]*)\]\(([^)\s]+)\)")
ROLE = re.compile(r":(?:class|func|meth|mod):<code>[~!]?")
PAGES = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "detrex/modeling/losses/README.md": "losses.md",
    "detrex/config/schema.py": "keys.md",
    **{
        str(path.relative_to(ROOT)): f"projects/{path.parent.name}.md"
        for path in sorted(ROOT.glob("projects/*/README.md"))
    },
}
SOURCES = {page: source for source, page in PAGES.items()} | {"models.md": "README.md"}
logger = logging.getLogger("mkdocs.hooks")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files of PAGES, the README's table of models, the keys, and the API reference."""
    texts = {page: (ROOT / source).read_text(encoding="utf-8") for source, page in PAGES.items()}
    texts["models.md"] = ZOO.search(texts["index.md"])[0].replace("## Models", "# Model zoo")
    texts["index.md"] = ZOO.sub("", texts["index.md"])
    texts["keys.md"] = KEYS_HEAD + "".join(key_rows())
    for names in api_pages().values():
        texts |= {page: API.format(name) for name, page in names.items()}
    for page, text in texts.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_config(config: MkDocsConfig) -> None:
    """Put the API reference into the navigation."""
    (entry,) = [entry for entry in config.nav if "API" in entry]
    entry["API"] = [
        {package: [{name.removeprefix(f"{package}."): page} for name, page in names.items()]}
        for package, names in api_pages().items()
    ]


def api_pages() -> dict[str, dict[str, str]]:
    """Return for each package of detrex the page of each of its public modules."""
    pages = {}
    for package in sorted(ROOT.glob("detrex/*/__init__.py")):
        files = [package, *sorted(package.parent.rglob("*.py"))]
        names = dict.fromkeys(
            ".".join(f.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            for f in files
        )
        public = [name for name in names if "._" not in name]
        pages[public[0]] = {name: f"api/{name.removeprefix('detrex.')}.md" for name in public}
    return pages


def key_rows() -> Iterator[str]:
    """The rows of the table of keys."""
    for name, key in schema.KEYS.items():
        default = "" if key.default is None else f"`{key.default!r}`"
        limits = [f"from {key.least}"] * (key.least is not None)
        limits += [f"to {key.most}"] * (key.most is not None)
        notes = [*["length"] * key.is_length, *["may be None"] * key.optional, *limits]
        note = f" ({', '.join(notes)})" if notes else ""
        yield f"| `{name}` | {default} | {key.meaning}{note} |\n"


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links between files of the repository into links between pages."""
    here = page.file.src_uri
    source = SOURCES.get(here, f"docs/{here}")
    return LINK.sub(lambda match: site_link(match, source, here), markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Docstrings name things with Sphinx's roles, as editors understand them: show the name."""
    return ROLE.sub("<code>", html)


def site_link(match: re.Match, source: str, here: str) -> str:
    """One link of the file ``source``, on the page ``here``; what has no page becomes its path."""
    text, target = match.groups()
    path, _, anchor = target.partition("#")
    if not path or ":" in path:
        return match[0]
    file = os.path.normpath(PurePosixPath(source).parent / path)
    if not (ROOT / file).exists():
        logger.warning("%s links to %s, which does not exist", source, file)
    page = PAGES.get(file) or PAGES.get(f"{file}/README.md")
    if page == "index.md" and anchor == "models":
        page, anchor = "models.md", ""
    if page is None and file.startswith("docs/"):
        page = file.removeprefix("docs/")
    if page is None:
        return f"`{file}`" if file.endswith(text.strip("`/")) else f"{text} (`{file}`)"
    relative = os.path.relpath(page, PurePosixPath(here).parent)
    return f"[{text}]({relative}{'#' if anchor else ''}{anchor})"
