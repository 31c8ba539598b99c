import json

import pytest
import torch
from torch import nn

from detrex.predict import DetectorGraph, trace, write_onnx, write_program
from detrex.predict.graph import padding
from detrex.utils.errors import InputError
from tests.models import tiny
from tests.predict.graphs import assert_agrees, inputs, onnx_runner

ABOUT = {"classes": ["cat", "dog", "emu", "fox", "gnu"], "image_format": "RGB"}


@torch.no_grad()
def test_graph_finds_what_the_detector_finds(rank_detr):
    pixels, sizes = inputs(2, 75, 101, padded=False)
    scores, labels, boxes = DetectorGraph(rank_detr)(pixels, sizes)
    expected = rank_detr([{"image": image} for image in pixels])
    for i, instances in enumerate(x["instances"] for x in expected):
        torch.testing.assert_close(scores[i], instances.scores)
        assert labels[i].equal(instances.pred_classes)
        torch.testing.assert_close(boxes[i], instances.pred_boxes.tensor)


@torch.no_grad()
def test_what_stands_in_the_padding_does_not_matter(rank_detr):
    graph = DetectorGraph(rank_detr)
    pixels, sizes = inputs(2, 96, 128)
    height, width = sizes[-1].tolist()
    changed = pixels.clone()
    changed[-1, :, height:] = 255
    changed[-1, :, :, width:] = 7
    for a, b in zip(graph(pixels, sizes), graph(changed, sizes), strict=True):
        assert a.equal(b)


@pytest.mark.parametrize("image", [(131, 90), (480, 640)])
def test_padding_of_a_level_is_that_of_nearest_interpolation(image):
    height, width = image
    sizes = torch.tensor([image, (height * 3 // 4, width * 2 // 3), (1, 1), (height - 1, 33)])
    full = padding(sizes, image, image)
    for stride in (8, 16, 32, 64):
        level = [-(-side // stride) for side in image]
        expected = nn.functional.interpolate(full[None].float(), size=level)[0].bool()
        assert padding(sizes, image, level).equal(expected)


def test_program_equals_eager_at_any_size(rank_detr, program):
    assert_agrees(program.module(), rank_detr, 1e-5)


@torch.no_grad()
def test_program_file_holds_the_program_and_what_it_is_told(tmp_path):
    model, x = nn.Linear(3, 2), torch.rand(4, 3)
    write_program(torch.export.export(model, (x,)), tmp_path / "model.pt2", ABOUT)
    extra = {"detrex.json": ""}
    loaded = torch.export.load(tmp_path / "model.pt2", extra_files=extra)
    assert json.loads(extra["detrex.json"]) == ABOUT
    assert loaded.module()(x).equal(model(x))


def test_onnx_agrees_with_pytorch_at_any_size(rank_detr, predictor, onnx_file):
    onnx = pytest.importorskip("onnx")
    model, about = onnx.load(onnx_file), predictor.about()
    assert {p.key: json.loads(p.value) for p in model.metadata_props if p.key in about} == about
    assert {node.domain for node in model.graph.node} == {""}  # standard operators
    assert_agrees(onnx_runner(onnx_file), rank_detr, 1e-4)


def test_program_uses_standard_operators_only(program):
    namespaces = {
        node.target.namespace for node in program.graph.nodes if hasattr(node.target, "namespace")
    }
    assert "aten" in namespaces and "detrex" not in namespaces


def test_only_detectors_are_traced():
    with pytest.raises(InputError, match="a Linear cannot be exported"):
        trace(nn.Linear(1, 1))
    vit = tiny("projects/dino/configs/dino-vit/dino_dinov3_small_4scale_12ep.py")
    with pytest.raises(InputError, match="--height and --width"):
        trace(vit)


def test_onnx_without_onnxscript_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install"):
        write_onnx(None, tmp_path / "model.onnx", ABOUT)
    assert not (tmp_path / "model.onnx").exists()
