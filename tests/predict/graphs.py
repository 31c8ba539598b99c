"""Detectors to export, and how their exports are compared with them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import torch
from detectron2.config import LazyConfig, instantiate
from torch import Tensor
from torch.overrides import TorchFunctionMode

from detrex.layers import folded_norm
from detrex.layers.ms_deform_attn.function import VARIABLE
from detrex.predict import DetectorGraph
from tests.models import ROOT, tiny

SHAPES = [(2, 96, 128), (1, 131, 90)]  # batch, height, width


def detector(config: str, small: bool = True) -> torch.nn.Module:
    """A model of the config, shrunk or not, in which nothing is zero that training would change."""
    torch.manual_seed(0)
    model = tiny(config) if small else instantiate(LazyConfig.load(str(ROOT / config)).model)
    fill_zeros(model)
    return model.eval()


def fill_zeros(model: torch.nn.Module) -> None:
    """Random values for parameters that training would move from zero."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)


def inputs(batch: int, height: int, width: int, padded: bool = True):
    """Random pixels and sizes; a padded batch's last image is smaller."""
    generator = torch.Generator().manual_seed(0)
    shape = (batch, 3, height, width)
    pixels = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    sizes = torch.tensor([[height, width]] * batch)
    if padded:
        sizes[-1] = torch.tensor([height * 3 // 4, width * 2 // 3])
    return pixels, sizes


def onnx_runner(path):
    """What runs an ONNX file on tensors; behind its outputs come the choices of its TopK nodes."""
    import onnx
    import onnxruntime

    model = onnx.load(path)
    chosen = [node.output[1] for node in model.graph.node if node.op_type == "TopK"]
    integers = onnx.TensorProto.INT64
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, integers, None) for name in chosen
    )
    session = onnxruntime.InferenceSession(model.SerializeToString())

    def run(pixels, sizes):
        inputs = {"pixels": pixels.numpy(), "sizes": sizes.numpy()}
        return [torch.from_numpy(x) for x in session.run(None, inputs)]

    return run


class SameChoices(TorchFunctionMode):
    """Lets topk and argsort choose what another runtime has chosen: the same but for near ties.

    A rounding error decides between these, and much hangs on it: two neighbours in a ranking swap
    the embeddings of their ranks, and with them what they are.
    """

    def __init__(self, chosen: list[Tensor]) -> None:
        super().__init__()
        self.chosen = list(chosen)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if not self.chosen or func not in (Tensor.topk, Tensor.argsort):
            return result
        scores, index = args[0], self.chosen.pop(0)
        best = scores.gather(-1, result if func is Tensor.argsort else result.indices)
        values = scores.gather(-1, index)
        torch.testing.assert_close(values, best, rtol=2e-5, atol=0)
        return index if func is Tensor.argsort else torch.return_types.topk((values, index))


@contextmanager
def same_sums() -> Iterator[None]:
    """Attention and convolutions as they are in a graph: other paths round otherwise."""
    attention = mock.patch.dict(os.environ, {VARIABLE: "pytorch"})
    convolutions = mock.patch.object(folded_norm, "_at_inference", lambda: False)
    with attention, convolutions:
        yield


@torch.no_grad()
def assert_agrees(run, model: torch.nn.Module, tolerance: float, shapes=SHAPES) -> None:
    """Scores, labels, and boxes in parts of the image."""
    for shape in shapes:
        pixels, sizes = inputs(*shape)
        scores, labels, boxes, *chosen = run(pixels, sizes)
        with same_sums(), SameChoices(chosen) as choices:
            expected = DetectorGraph(model)(pixels, sizes)
        assert not choices.chosen
        torch.testing.assert_close(scores, expected[0], rtol=0, atol=tolerance)
        assert labels.equal(expected[1])
        scale = sizes.flip(1).repeat(1, 2)[:, None]
        torch.testing.assert_close(boxes / scale, expected[2] / scale, rtol=0, atol=tolerance)
