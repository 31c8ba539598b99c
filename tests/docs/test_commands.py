"""Every command and every piece of code in the documentation runs.

How long ones are shortened is in tests/docs/shell.py.
"""

from __future__ import annotations

import io
import shlex
import shutil
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detrex.config.load import load_config
from tests import models
from tests.docs import pages
from tests.docs.shell import Shell
from tests.docs.workspace import make_workspace

CHECK, OWN_DATA = pages.commands("docs/own_data.md")[:2]  # what pages say of birds is of this run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with the runs that pages name: two of birds, demo, a, b, and one of NaN."""
    folder = tmp_path_factory.mktemp("docs")
    make_workspace(folder)
    write_files_of_pages(folder)
    with pytest.MonkeyPatch.context() as patch:
        shell = Shell(patch, folder)
        with redirect_stdout(io.StringIO()) as printed:
            shell.run(CHECK)
        command = shlex.split(printed.getvalue().partition("train on it:")[2])
        assert Path(command[1]).samefile(OWN_DATA[1]) and command[2:] == OWN_DATA[2:]
        shell.run(OWN_DATA)
        shell.run([*OWN_DATA, "train.output_dir=output/birds"])
        demo = "projects/rank_detr/configs/rank_detr_efficientnet_lite0_sample_data.py"
        shell.run(["python", "projects/rank_detr/train_net.py", "--config-file", demo])
        nan = ["model.criterion.weight_dict.loss_bbox=nan", "train.output_dir=output/run"]
        with pytest.raises(AssertionError, match="exit status 1"):
            shell.run([*OWN_DATA, *nan])
    for copy in ("a", "b"):
        shutil.copytree(folder / "output/demo", folder / "output" / copy)
    return folder


def write_files_of_pages(folder: Path) -> None:
    """Blocks with a title are files."""
    for page in pages.PAGES:
        for block in pages.blocks(page):
            if block.title:
                path = folder / block.title
                if (models.ROOT / "tests") in path.resolve().parents:
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text)


@pytest.mark.parametrize("page", [page for page in pages.PAGES if pages.commands(page)])
def test_commands(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shell = Shell(monkeypatch, folder)
    for words in pages.commands(page):
        shell.run(words)


@pytest.mark.parametrize("page", [page for page in pages.PAGES if pages.blocks(page, "python")])
def test_python(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Shell(monkeypatch, folder)
    monkeypatch.setattr(models, "ROOT", folder)
    pixels = np.zeros((48, 64, 3), np.uint8)
    names = {
        "__name__": "page",
        "array": pixels,
        "tensor": torch.zeros(3, 48, 64, dtype=torch.uint8),
        "pil_image": Image.fromarray(pixels),
        "encoded_bytes": Path("street.jpg").read_bytes(),
        **load_config(models.RANK_DETR),
    }
    pytest.importorskip("supervision" if page == "docs/predict.md" else "numpy")
    # Blocks of the package are files, which the page's commands run.
    for block in pages.blocks(page, "python"):
        if not block.title.startswith("projects/"):
            exec(compile(block.text, page, "exec"), names)
    for name, value in names.items():
        if name.startswith("test_"):
            value()


def test_the_new_method_acts_between_layers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Shell(monkeypatch, folder)
    monkeypatch.setattr(models, "ROOT", folder)
    detector = models.tiny("projects/mean_detr/configs/mean_detr_r50_12ep.py").train()
    method = type(detector.transformer.decoder)
    assert method.__name__ == "MeanDecoder"
    batch = [models.image(64, 64, 2)]
    losses = detector(batch)
    monkeypatch.setattr(method, "after_layer", method.__base__.after_layer)
    plain = detector(batch)
    assert torch.equal(losses["loss_class_0"], plain["loss_class_0"])
    assert not torch.equal(losses["loss_class"], plain["loss_class"])
