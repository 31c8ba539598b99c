"""Packages import their names at first use: what needs no torch starts without it."""

import importlib
import subprocess
import sys

import pytest

LIGHT = "detrex.checkpoint detrex.data.formats detrex.data.coco_rules detrex.data.sample.files"
LIGHT += " detrex.utils.cli detrex.utils.files detrex.utils.images detrex.utils.safe_yaml"


def test_light_modules_import_neither_torch_nor_detectron2():
    code = f"import sys, {', '.join(LIGHT.split())}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "detrex.data.formats.yolo" in loaded and not loaded & {"torch", "detectron2"}


@pytest.mark.parametrize("name", ["detrex", "detrex.checkpoint", "detrex.data", "detrex.utils"])
def test_every_exported_name_is_there(name):
    package = importlib.import_module(name)
    assert package.__all__
    for exported in package.__all__:
        assert callable(getattr(package, exported)), exported


def test_a_name_that_a_package_lacks_is_refused():
    import detrex.data

    with pytest.raises(ImportError, match="detrex.data.Missing is not offered"):
        _ = detrex.data.Missing
