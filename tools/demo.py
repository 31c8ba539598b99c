"""A web page that shows a checkpoint's detections, by score and by decoder layer.

    pip install 'detrex[demo-web]'
    python tools/demo.py CONFIG CHECKPOINT

The model runs once for an image; the sliders only draw anew. Unless --host says otherwise, only
this computer can open the page. It serves only images that were uploaded, for an hour.
"""

from __future__ import annotations

import argparse
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from detrex.utils.cli import add_overrides, add_selection, add_trust_config, run_command
from detrex.utils.errors import InputError
from detrex.utils.optional import need_package

if TYPE_CHECKING:
    from detrex import Predictor

MAX_UPLOAD = "20mb"
MAX_PIXELS = 40_000_000  # of an uploaded image; cameras have fewer
AGE = 3600  # seconds for which an image is kept


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="config file of the model")
    parser.add_argument("checkpoint", help="its weights")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other computers in")
    parser.add_argument("--port", type=int, default=7860)
    add_selection(parser)
    add_overrides(parser)
    add_trust_config(parser)
    return parser.parse_args()


def draw(detected: tuple | None, layer: int, threshold: float) -> Image.Image | None:
    """Draw the detections of a layer, counted from 1.

    ``detected``: the image, and each layer's detections (box, class, score).
    """
    if detected is None:
        return None
    from detrex.inspect.contact_sheet import draw_found

    image, layers = detected
    detections = layers[min(int(layer), len(layers)) - 1]
    return draw_found(image, [d for d in detections if d[2] >= threshold])


def page(gradio: ModuleType, predictor: Predictor, least: float = 0.3) -> object:
    """The page, as ``gradio.Blocks``; ``least`` is the score at which the slider begins."""
    from detrex.data.image import as_pixels

    count = len(predictor.layers(np.zeros((64, 64, 3), np.uint8)))

    def detect(image: Image.Image | None) -> tuple | None:
        if image is None:
            return None
        try:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(f"{image.width} x {image.height} pixels are too many")
            pixels = as_pixels(image)
        except InputError as error:
            raise gradio.Error(str(error), print_exception=False) from error
        layers = [predictor.labelled(instances) for instances in predictor.layers(pixels)]
        return Image.fromarray(pixels), layers

    private = dict(analytics_enabled=False, delete_cache=(AGE // 4, AGE))  # how often, older than
    with gradio.Blocks(title="detrex", **private) as blocks:
        detected = gradio.State(time_to_live=AGE)
        with gradio.Row():
            sources = ["upload", "clipboard"]
            image = gradio.Image(type="pil", image_mode=None, label="image", sources=sources)
            shown = dict(interactive=False, format="png", buttons=["download", "fullscreen"])
            picture = gradio.Image(label="detections", elem_id="picture", **shown)
        threshold = gradio.Slider(0, 1, least, step=0.01, label="least score", elem_id="threshold")
        limits = 1, max(2, count), count  # gradio refuses a slider of one position
        layer = gradio.Slider(
            *limits, step=1, label="decoder layer", elem_id="layer", visible=count > 1
        )
        drawing = draw, [detected, layer, threshold], picture
        image.change(detect, image, detected).then(*drawing)
        for slider in (threshold, layer):
            slider.change(*drawing, show_progress="hidden", trigger_mode="always_last")
    return blocks


def main() -> None:
    args = parse()
    need_package("gradio", "detrex[demo-web]")
    import gradio

    from detrex import Predictor  # takes seconds: not before --help
    from detrex.utils.images import forget_other_formats

    forget_other_formats()  # gradio opens what is uploaded before it comes here
    options = {name: getattr(args, name) for name in ("calibrated", "overrides", "trust_config")}
    predictor = Predictor(args.config, args.checkpoint, threshold=args.threshold, **options)
    least = 0.0
    if args.threshold != "auto":  # what "auto" leaves out is not on the page
        least, predictor.selection.threshold = args.threshold, 0.0
    blocks = page(gradio, predictor, least)
    # Fonts of the system: the default ones would be fetched from the internet.
    theme = gradio.themes.Default(font="system-ui", font_mono="monospace")
    look = dict(theme=theme, footer_links=[], ssr_mode=False, max_file_size=MAX_UPLOAD)
    try:
        blocks.launch(server_name=args.host, server_port=args.port, **look)
    except OSError as error:
        reason = str(error).split(". ")[0]  # then: how to set the port otherwise than by --port
        raise InputError(f"{args.host}:{args.port} cannot be listened on: {reason}") from error


if __name__ == "__main__":
    run_command(main)
