"""Exported files in onnxruntime, OpenVINO and PyTorch."""

import numpy as np
import pytest
import torch

from detrex.predict.agreement import over_images
from detrex.predict.runtimes import RUNTIMES, Deployed, Runtime, in_pytorch, open_program
from detrex.utils.errors import InputError


@pytest.fixture(scope="module")
def images(predictor, folder):
    """Of other sizes, all of more than 64 pixels a side, which a .pt2 file needs."""
    small = [predictor.inputs(folder / f"{i}.jpg")["image"].numpy() for i in range(2)]
    return [image.repeat(2, axis=1).repeat(2, axis=2) for image in small]


@pytest.fixture(params=["onnxruntime", "openvino", "torch"])
def runtime(request):
    """The small Rank-DETR's file in a runtime."""
    if request.param == "torch":
        return open_program(request.getfixturevalue("program_file"))
    pytest.importorskip(request.param)
    return RUNTIMES[request.param](request.getfixturevalue("onnx_file"))


def test_runtimes_detect_what_pytorch_detects(rank_detr, runtime, images):
    assert runtime.size is None
    result = over_images(in_pytorch(rank_detr, None), runtime, images)
    assert result.detections > 10 and result.labels == 0
    assert result.score < 5e-3 and result.box < 1e-2  # untrained: a near tie may fall otherwise


def test_an_evaluation_sees_a_runtime_as_the_detector(rank_detr, predictor, folder):
    inputs = [predictor.inputs(folder / "0.jpg"), predictor.inputs(folder / "1.jpg")]
    deployed = Deployed(in_pytorch(rank_detr, None), rank_detr.nms_iou)
    with torch.no_grad():
        expected = [rank_detr([x])[0]["instances"] for x in inputs]
    for one, output in zip(expected, deployed(inputs), strict=True):
        other = output["instances"]
        assert one.image_size == other.image_size
        torch.testing.assert_close(one.scores, other.scores)
        torch.testing.assert_close(one.pred_boxes.tensor, other.pred_boxes.tensor)
        assert one.pred_classes.equal(other.pred_classes)


def test_a_fixed_size_is_padded_and_a_larger_image_named():
    runtime = Runtime(lambda *inputs: inputs, (8, 10))
    image = np.arange(8 * 7 * 3, dtype=np.uint8).reshape(3, 8, 7)
    pixels, sizes = runtime.inputs(image).values()
    assert pixels.shape == (1, 3, 8, 10) and not pixels[..., 7:].any()
    assert np.array_equal(pixels[0, :, :, :7], image) and sizes.tolist() == [[8, 7]]
    with pytest.raises(InputError, match="resized to 9 x 7 pixels, this model is for up to 8 x 10"):
        runtime.inputs(np.zeros((3, 9, 7), np.uint8))


@pytest.mark.parametrize("name", RUNTIMES)
def test_files_of_another_kind_are_named(tmp_path, name, monkeypatch):
    pytest.importorskip(name)
    opener = RUNTIMES[name]
    helper = pytest.importorskip("onnx").helper
    text = tmp_path / "text.onnx"
    text.write_text("no model")
    with pytest.raises(InputError, match=r"text\.onnx: .* cannot read it"):
        opener(text)
    info = [helper.make_tensor_value_info(x, 1, [1]) for x in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", info[:1], info[1:])
    opset = helper.make_opsetid("", 18)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=10)
    (tmp_path / "other.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="takes x and returns y: it is no detector"):
        opener(tmp_path / "other.onnx")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        InputError, match=rf"{name} is not installed: pip install 'detrex\[export\]'"
    ):
        opener(text)
