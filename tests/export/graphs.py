"""Small detectors to export, and how their exports are compared with them."""

import torch

from detrex.export import DetectorGraph
from tests.models import tiny

SHAPES = [(2, 96, 128), (1, 131, 90)]  # batch, height, width


def detector(config: str) -> torch.nn.Module:
    """A small model of the config whose heads, which start at zero, tell boxes apart."""
    model = tiny(config).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


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
    """What runs an ONNX file on tensors."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path)

    def run(pixels, sizes):
        given = {"pixels": pixels.numpy(), "sizes": sizes.numpy()}
        return [torch.from_numpy(x) for x in session.run(None, given)]

    return run


@torch.no_grad()
def assert_agrees(run, model: torch.nn.Module, tolerance: float) -> None:
    """Scores, labels, and boxes in parts of the image, at all SHAPES."""
    for shape in SHAPES:
        pixels, sizes = inputs(*shape)
        expected = DetectorGraph(model)(pixels, sizes)
        scores, labels, boxes = run(pixels, sizes)
        torch.testing.assert_close(scores, expected[0], rtol=0, atol=tolerance)
        assert labels.equal(expected[1])
        scale = sizes.flip(1).repeat(1, 2)[:, None]
        torch.testing.assert_close(boxes / scale, expected[2] / scale, rtol=0, atol=tolerance)
