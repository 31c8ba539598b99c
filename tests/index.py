"""Which test files test which module: writes tests/README.md.

    python tests/index.py

A test file tests the modules that it imports (followed to the one that defines the name) or names,
the tools that it names, and the modules of the projects whose configs it names.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests"
README = TESTS / "README.md"
MOST = 6  # test files that a row names
HEAD = """# Tests

Which test files test which module, nearest first. A script writes this page. After a module or a
test was added, moved or renamed:

```bash
.venv/bin/python tests/index.py
```

A test file tests the modules that it imports or names, and the modules of the projects whose
configs it names; *through* tells what uses one that no test names. Besides them,
`test_configs.py` trains every config of every project for a step, `docs/` runs the commands of
every page, `parity/` compares with upstream's numbers, `fuzz/` damages files, and `nightly/` holds
what takes long and is run by hand.
"""


@cache
def modules() -> dict[str, Path]:
    """File of every module of detrex, projects and tools, by dotted name."""
    files = [path for top in ("detrex", "projects", "tools") for path in (ROOT / top).rglob("*.py")]
    return {dotted(path): path for path in sorted(files)}


def dotted(path: Path) -> str:
    """The name under which a file is imported."""
    names = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(names[:-1] if names[-1] == "__init__" else names)


@cache
def imports(path: Path) -> list[tuple[str, str | None, str]]:
    """(module, name in it or None, local name) of every import of a file."""
    package = dotted(path).split(".")[: None if path.name == "__init__.py" else -1]
    result = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            result += [(alias.name, None, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*above, *filter(None, [node.module])])
            result += [(source, alias.name, alias.asname or alias.name) for alias in node.names]
    return result


def definition(module: str, name: str | None) -> str:
    """The module that defines a name of a module: packages hand on what their modules define."""
    if name is None or module not in modules():
        return module
    if f"{module}.{name}" in modules():
        return f"{module}.{name}"
    for source, inner, local in imports(modules()[module]):
        if modules()[module].name == "__init__.py" and local == name:
            return definition(source, inner)
    return module


@cache
def named_in(text: str) -> set[str]:
    """The modules and tools that a text names, and what the configs that it names import."""
    names = {f"tools.{word}" for word in re.findall(r"(\w+)\.py\b", text)}
    for word in re.findall(r"(?:detrex|projects)(?:\.\w+)+", text):
        while word not in modules():
            word = word.rpartition(".")[0]
        names.add(word)
    for word in re.findall(r"projects/[\w/=.-]+\.py", text):
        if (ROOT / word).is_file():
            names |= modules_of_config(ROOT / word)
    return names


@cache
def modules_of_config(path: Path) -> set[str]:
    """The modules of projects that a config imports, itself or by another config."""
    names = {definition(source, name) for source, name, _ in imports(path)}
    configs = {name for name in names if ".configs." in name}
    nested = [modules_of_config(modules()[name]) for name in configs]
    return {name for name in names - configs if name.startswith("projects.")}.union(*nested)


@cache
def strings(path: Path, name: str = "") -> list[str]:
    """The strings in a file, or in what is assigned to a name there."""
    tree = ast.parse(path.read_text())
    if name:
        assigned = [node for node in tree.body if isinstance(node, ast.Assign)]
        tree = [node.value for node in assigned if ast.unparse(node.targets[0]) == name]
    nodes = [node for part in (tree if name else [tree]) for node in ast.walk(part)]
    values = [node.value for node in nodes if isinstance(node, ast.Constant)]
    return [value for value in values if isinstance(value, str)]


def tested_by(path: Path) -> set[str]:
    """The modules that a test file tests."""
    names = {definition(source, name) for source, name, _ in imports(path)}
    texts = [*strings(path)]
    for source, name, _ in imports(path):
        helper = ROOT / f"{source.replace('.', '/')}.py"
        if source.startswith("tests.") and name and name.isupper() and helper.is_file():
            texts += strings(helper, name)
    return names.union(*map(named_in, texts)) & modules().keys()


@cache
def tests() -> dict[str, list[str]]:
    """The test files of every module, nearest first."""
    files = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        for name in tested_by(path):
            files[name].append(path.relative_to(TESTS).as_posix())
    return {name: sorted(paths, key=lambda p: distance(name, p)) for name, paths in files.items()}


def distance(module: str, test: str) -> tuple[bool, bool, str]:
    """Small for a test that is named as the module, then for one in the folder of its package."""
    names = module.split(".")
    folders, file = test.split("/")[:-1], Path(test).stem
    near = names[:1] if names[0] == "projects" else names[1:-1]
    same_name = file in (f"test_{names[-1]}", f"test_{names[-1]}s")
    return not same_name, not set(near) & set(folders), test


def row(name: str) -> str:
    """A module's line in its table."""
    files = tests().get(name, [])
    cell = ", ".join(f"[{test}]({test})" for test in files[:MOST])
    if len(files) > MOST:
        cell += f" and {len(files) - MOST} more"
    if not files:
        users = [user for user, path in modules().items() if user != name and uses(path, name)]
        users.sort(key=lambda user: user not in tests())
        near = tests().get(users[0], [])[:1] if users else []
        near = "".join(f": [{test}]({test})" for test in near)
        cell = f"through {shown(users[0])}{near}" if users else "as a command of docs/"
    return f"| {shown(name)} | {cell} |"


def uses(path: Path, module: str) -> bool:
    imported = {definition(source, name) for source, name, _ in imports(path)}
    return module in imported or module in strings(path)


def shown(module: str) -> str:
    return f"`{modules()[module].relative_to(ROOT).as_posix()}`"


def page() -> str:
    """The text of tests/README.md."""
    tables = defaultdict(list)
    for name, path in modules().items():
        shell = path.name == "__init__.py" or re.search(r"\.configs\.|^projects.*train_net$", name)
        if not shell:
            names = name.split(".")
            tables["/".join(names[:2] if names[0] == "detrex" else names[:1])].append(row(name))
    lines = [HEAD]
    for top, rows in tables.items():
        lines += [f"## {top}", "", "| module | tests |", "|---|---|", *rows, ""]
    return "\n".join(lines)


if __name__ == "__main__":
    README.write_text(page())
