"""A web page that shows what a checkpoint finds, by score and by decoder layer.

    pip install 'detrex[demo-web]'
    python tools/demo.py CONFIG CHECKPOINT

The model runs once for an image; the sliders only draw anew. The page is for this computer alone
unless --host says otherwise, and serves nothing but what is uploaded to it, for an hour.
"""

from __future__ import annotations

import argparse
from types import ModuleType

import numpy as np
from PIL import Image

from detrex import Predictor
from detrex.data.image import as_pixels
from detrex.utils.cli import add_trust_config, run_command
from detrex.utils.contact_sheet import draw_found
from detrex.utils.errors import InputError
from detrex.utils.images import forget_other_formats
from detrex.utils.optional import need_package

MAX_UPLOAD = "20mb"
MAX_PIXELS = 40_000_000  # of an uploaded image; cameras have fewer
AGE = 3600  # seconds that an image is remembered


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="config file of the model")
    parser.add_argument("checkpoint", help="its weights")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other computers in")
    parser.add_argument("--port", type=int, default=7860)
    add_trust_config(parser)
    return parser.parse_args()


def draw(found: tuple | None, layer: int, threshold: float) -> Image.Image | None:
    """Detections (box, class, score) of a layer, counted from 1; ``found``: image and layers."""
    if found is None:
        return None
    image, layers = found
    shown = layers[min(int(layer), len(layers)) - 1]
    return draw_found(image, [one for one in shown if one[2] >= threshold])


def page(gradio: ModuleType, predictor: Predictor) -> object:
    """The page, as ``gradio.Blocks``."""
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
        layers = [predictor.labelled(found) for found in predictor.layers(pixels)]
        return Image.fromarray(pixels), layers

    private = dict(analytics_enabled=False, delete_cache=(AGE // 4, AGE))  # how often, older than
    with gradio.Blocks(title="detrex", **private) as blocks:
        found = gradio.State(time_to_live=AGE)
        with gradio.Row():
            sources = ["upload", "clipboard"]
            image = gradio.Image(type="pil", image_mode=None, label="image", sources=sources)
            shown = dict(interactive=False, format="png", buttons=["download", "fullscreen"])
            picture = gradio.Image(label="detections", elem_id="picture", **shown)
        threshold = gradio.Slider(0, 1, 0.3, step=0.01, label="least score", elem_id="threshold")
        limits = 1, max(2, count), count  # a slider of one place is an error
        layer = gradio.Slider(
            *limits, step=1, label="decoder layer", elem_id="layer", visible=count > 1
        )
        drawing = draw, [found, layer, threshold], picture
        image.change(detect, image, found).then(*drawing)
        for slider in (threshold, layer):
            slider.change(*drawing, show_progress="hidden", trigger_mode="always_last")
    return blocks


def main() -> None:
    args = parse()
    need_package("gradio", "detrex[demo-web]")
    import gradio

    forget_other_formats()  # gradio opens what is uploaded before it comes here
    predictor = Predictor(args.config, args.checkpoint, threshold=0, trust_config=args.trust_config)
    blocks = page(gradio, predictor)
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
