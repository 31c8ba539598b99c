import json
import runpy

import pytest
import torch
from safetensors import safe_open

import detrex
from detrex.checkpoint import load_weights, read_checkpoint
from detrex.checkpoint.weights import write_safetensors
from detrex.config import config_yaml
from detrex.config.load import load_config
from detrex.utils.errors import InputError
from tests.models import ROOT, image, tiny
from tests.report.fake_runs import CLASSES, write_model


def run_tool():
    """tools/export.py with the arguments of sys.argv."""
    runpy.run_path(str(ROOT / "tools/export.py"), run_name="__main__")


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    write_model(folder, folder)
    return detrex.Predictor(folder / "config.yaml", folder / "model.pth", "cpu", threshold=0)


def test_safetensors_hold_weights_config_and_classes(tmp_path):
    path = tmp_path / "model.safetensors"
    model = tiny()
    write_safetensors(model, path, "a: 1\n", ["cat", "dog"], [3, 7], {"kind": "platt"})
    with safe_open(path, "pt") as file:
        about = {"config": "a: 1\n", "classes": '["cat", "dog"]', "category_ids": "[3, 7]"}
        about["calibration"] = '{"kind": "platt"}'
        assert file.metadata() == {"format": "pt", **about}
        written = set(file.keys())
    heads = {"class_embed.0.weight", "transformer.decoder.class_embed.0.weight"}
    assert len(heads & written) == 1  # one tensor of two names
    metadata = read_checkpoint(path)["metadata"]
    assert (metadata["classes"], metadata["category_ids"]) == (["cat", "dog"], [3, 7])
    assert metadata["calibration"] == {"kind": "platt"}


def test_safetensors_fill_a_model_completely(tmp_path):
    path = tmp_path / "model.safetensors"
    model, other = tiny(), tiny()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.fill_(0.5)
    write_safetensors(model, path, "", None)
    report, content = load_weights(other, str(path), strict=True)
    assert report and content["metadata"]["classes"] is None
    for (name, a), b in zip(model.state_dict().items(), other.state_dict().values(), strict=True):
        assert a.equal(b), name


def test_saved_folder_predicts_the_same(predictor, tmp_path):
    predictor.save_pretrained(tmp_path / "saved")
    assert {path.name for path in (tmp_path / "saved").iterdir()} == {
        "config.yaml",
        "model.safetensors",
    }
    again = detrex.Predictor.from_pretrained(tmp_path / "saved", device="cpu", threshold=0)
    assert again.classes == list(CLASSES)
    pixels = image(60, 80, 0)["image"]
    expected, instances = predictor(pixels), again(pixels)
    assert len(instances) and instances.scores.equal(expected.scores)
    assert instances.pred_boxes.tensor.equal(expected.pred_boxes.tensor)


def test_saved_folder_takes_the_averaged_weights_as_the_models(predictor, tmp_path):
    ema = predictor.config.train.model_ema
    ema.enabled = ema.use_ema_weights_for_eval_only = True
    predictor.save_pretrained(tmp_path)
    ema.enabled = ema.use_ema_weights_for_eval_only = False
    saved = load_config(tmp_path / "config.yaml").train.model_ema
    assert saved.enabled and not saved.use_ema_weights_for_eval_only


def test_name_that_is_no_folder_and_not_on_the_hub(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match="nobody/nothing: no such folder"):
        detrex.Predictor.from_pretrained("nobody/nothing")


def test_config_with_local_functions_is_not_saved(predictor, tmp_path, monkeypatch):
    config = predictor.config.copy()
    config._set_flag("allow_objects", True)
    config.train.output_dir = lambda: "x"
    monkeypatch.setattr(predictor, "config", config)
    with pytest.raises(InputError, match="lambdas"):
        predictor.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())


def test_command_writes_safetensors(predictor, tmp_path, monkeypatch, capsys):
    write_model(tmp_path, tmp_path)
    out = tmp_path / "out.safetensors"
    arguments = [str(tmp_path / "config.yaml"), str(tmp_path / "model.pth"), "-o", str(out)]
    monkeypatch.setattr("sys.argv", ["export.py", *arguments])
    run_tool()
    assert f"wrote {out}" in capsys.readouterr().out
    with safe_open(out, "pt") as file:
        about = file.metadata()
    assert json.loads(about["classes"]) == list(CLASSES)
    assert about["config"] == config_yaml(predictor_config(tmp_path))


def predictor_config(folder):
    return detrex.Predictor(folder / "config.yaml", folder / "model.pth", "cpu").config
