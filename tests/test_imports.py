"""The direction of imports in ``detrex``: downward, without a circle (ARCHITECTURE.md)."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

from tests.models import ROOT

# Packages of one layer may import each other, as long as their modules form no circle.
LAYERS = (
    {"utils", "config"},
    {"layers"},
    {"modeling", "compat"},
    {"data", "evaluation", "checkpoint"},
    {"predict", "inspect"},
    {"train"},
    {"ablation", "report"},
)
# It reports on all of them.
REPORTS = "detrex.utils.collect_env"
LEVEL = {package: level for level, packages in enumerate(LAYERS) for package in packages}


def modules():
    """Name and file of every module."""
    for file in (ROOT / "detrex").rglob("*.py"):
        parts = file.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), file


def imported(name, file):
    """The modules, or names in them, that a module imports when it runs, absolutely named."""
    package = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*above, *filter(None, [node.module])])
            yield from (f"{source}.{alias.name}" for alias in node.names)


def graph():
    """Module -> the modules of detrex that it imports."""
    known = dict(modules())
    found = {}
    for name, file in known.items():
        targets = (t if t in known else t.rpartition(".")[0] for t in imported(name, file))
        found[name] = {target for target in targets if target in known} - {name}
    return found


def test_imports_run_downward_without_a_circle():
    imports = graph()
    assert len(imports) > 100
    known = {"detrex.modeling.queries", "detrex.layers.folded_norm"}
    assert imports["detrex.modeling.detector"] >= known
    upward = [
        (name, target)
        for name, targets in imports.items()
        if name != REPORTS
        for target in targets
        if LEVEL.get(target.split(".")[1], -1) > LEVEL.get((name + ".").split(".")[1], 99)
    ]
    assert not upward
    list(TopologicalSorter(imports).static_order())  # raises CycleError


def test_the_library_imports_neither_projects_nor_tools():
    outside = {"projects", "tools", "tests", "benchmarks", "aligndetr"}
    for name, file in modules():
        assert not outside & {target.split(".")[0] for target in imported(name, file)}, name


def test_every_package_has_a_layer():
    packages = {path.parent.name for path in Path(ROOT / "detrex").glob("*/__init__.py")}
    assert packages == set(LEVEL)
