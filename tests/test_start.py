"""What starts without what: a command's --help without PyTorch, a predictor without training."""

import subprocess
import sys

import pytest

from tests.models import ROOT
from tests.report.fake_runs import write_data, write_model

TOOLS = sorted(path.stem for path in (ROOT / "tools").glob("*.py"))
HELP = """
import runpy, sys
path, sys.argv = sys.argv[1], [sys.argv[1], "--help"]
try:
    runpy.run_path(path, run_name="__main__")
except SystemExit as end:
    assert end.code == 0
print(sorted({"torch", "detectron2", "matplotlib"} & set(sys.modules)))
"""
PREDICT = """
import sys
import detrex
predictor = detrex.Predictor("config.yaml", "model.pth", threshold=0)
print(len(predictor("val/0.jpg")), len(predictor.layers("val/0.jpg")))
training = ("detrex.train.", "detectron2.engine")
print([name for name in sys.modules if name.startswith(training) and "predictor" not in name])
"""


def lines(code, *arguments, folder=ROOT):
    """What a Python program prints."""
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}){code}"]
    done = subprocess.run(
        [*command, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize("tool", TOOLS)
def test_help_imports_no_torch(tool):
    *text, modules = lines(HELP, f"tools/{tool}.py")
    assert text[0].startswith(f"usage: {tool}.py") and modules == "[]"


def test_a_predictor_imports_no_training(tmp_path):
    write_data(tmp_path)
    write_model(tmp_path, tmp_path)
    counts, modules = lines(PREDICT, folder=tmp_path)
    assert counts == "20 2" and modules == "[]"
