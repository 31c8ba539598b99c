"""What a command cannot do is one line that names the option or file; nothing is written."""

from __future__ import annotations

import importlib.util
import runpy
import shlex
from pathlib import Path

import pytest

from tests.models import ROOT
from tests.report.fake_runs import write_data, write_model

ABLATE = f"ablate.py --config-file {ROOT / 'tests/train/tiny_config.py'}"
EXPORT = "export.py config.yaml model.pth -o"
QUANTIZE = "quantize.py config.yaml model.pth"
MISSING = ("gradio", "openvino")  # packages that the commands do not find

REFUSED = {
    "ablate.py": ["--config-file", "--grid", "--preset", "--variants"],
    "ablate.py --preset smok": ["--preset smok", "smoke", "align-alpha"],
    "ablate.py --preset smoke --variants x": ["--preset", "--variants"],
    "ablate.py --config-file tiny_konfig.py": ["tiny_konfig.py"],
    f"{ABLATE} --seeds 0": ["--seeds"],
    f"{ABLATE} --grid model.width=[]": ["model.width=[]", "empty"],
    f"{ABLATE} --grid model.widht=[1]": ["model.widht", "model.width"],
    f"{ABLATE} --set model.width": ["model.width", "key=value"],
    f"{ABLATE} --slurm partition": ["--slurm partition"],
    f"{ABLATE} --set train.seed=3": ["train.seed=3", "--seeds"],
    f"{ABLATE} --grid train.seed=[3,4]": ["train.seed=3", "--seeds"],
    "benchmark.py attention --device cuda": ["--device cuda"],
    "benchmark.py attention --repeats 0": ["--repeats 0"],
    "benchmark.py coco --sizes 64x96": ["--sizes", "coco"],
    "benchmark.py fps --batch-sizes 1 0": ["--batch-sizes", "1"],
    "benchmark.py fps --json .": [". is a folder"],
    "benchmark.py fps --sizes 0x0": ["--sizes", "'0'"],
    "benchmark.py fps --sizes 480": ["--sizes", "'480'"],
    "check_dataset.py data --model smal": ["'smal'", "small"],
    "check_dataset.py data --model my.py": ["my.py"],
    "check_dataset.py data --init-checkpoint zoo://rank_detr": ["rank_detr_r50_12ep"],
    "check_dataset.py data --model swin_tiny": ["swin_tiny", "--init-checkpoint"],
    "demo.py config.yaml model.pth": ["pip install 'detrex[demo-web]'"],
    f"{EXPORT} model.engine": [".onnx", ".pt2", ".safetensors"],
    f"{EXPORT} model.onnx --height 640": ["--height", "--width"],
    f"{EXPORT} model.onnx --height 0 --width 1": ["--height", "--width", "positive"],
    f"{EXPORT} x.safetensors --check": ["x.safetensors", "--check"],
    f"{EXPORT} x.onnx --check": ["openvino is not installed: pip install 'detrex[export]'"],
    f"{EXPORT} x.pt2 --check none.jpg": ["none.jpg"],  # before the export, which takes a minute
    f"{EXPORT} x.pt2 --check .": [".: no image in this folder"],
    f"{EXPORT} x.safetensors --calibrated": ["x.safetensors", "--calibrated"],
    f"{EXPORT} x.onnx --threshold auto": ["model.pth: no calibration", "tools/calibrate.py"],
    f"{EXPORT} x.onnx --set model.nms=1": ["model.nms", "model.nms_iou"],
    f"{EXPORT} model.pth/x.onnx": ["model.pth is not a folder"],
    f"{QUANTIZE} model.pth -o q --runtimes onnxruntime": ["model.pth", "-o model.onnx"],
    f"{QUANTIZE} x.onnx -o q --runtimes onnxruntime": ["x.onnx", "No such file"],
    f"{QUANTIZE} x.onnx -o q": ["openvino is not installed: pip install 'detrex[export]'"],
    f"{QUANTIZE} x.onnx -o q --images 0": ["--images", "'0'"],
    f"{QUANTIZE} x.onnx -o model.pth": ["model.pth is not a folder"],
    "report.py . -o x.html": ["run.json"],
    "report.py run --images -1 -o x.html": ["--images", "'-1'"],
    "report.py run --threshold nan -o x.html": ["'nan'", "0 to 1"],
    "visualize_data.py --columns 0 -o x.png": ["--columns", "'0'"],
    "visualize_data.py --count -2 -o x.png": ["--count", "'-2'"],
    "visualize_data.py --json data/val.json -o x.png": ["--config-file", "--json", "--images"],
    "visualize_data.py --config-file config.yaml dataloader.dataset.train.json=x -o x.png": ["x: "],
    "visualize_data.py --json x --images y --augmented -o x.png": ["--augmented"],
    "visualize_data.py a.b=1 --json x --images y -o x.png": ["a.b=1", "--config-file"],
    "visualize_predictions.py a.pth --queries 0 -o x": ["--queries", "'0'"],
    "visualize_predictions.py a.pth --threshold 5 -o x": ["'5'", "0 to 1"],
    "visualize_predictions.py a.json --calibrated -o x": ["--calibrated", "JSON results"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A model with its config, and the data that the config names."""
    folder = tmp_path_factory.mktemp("refused")
    write_data(folder / "data")
    write_model(folder, folder / "data")
    return folder


@pytest.mark.parametrize("line", REFUSED)
def test_a_command_that_cannot_be_followed_is_one_line(line, folder, monkeypatch, capsys) -> None:
    installed = importlib.util.find_spec
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in MISSING else installed(name)
    )
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    words = shlex.split(line)
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(ROOT / "tools" / words[0]), run_name="__main__")
    message = capsys.readouterr().err
    missing = [name for name in REFUSED[line] if name not in message]
    assert not missing, message
    assert message.splitlines()[-1].count("error: ") == 1
    assert sorted(folder.rglob("*")) == before
