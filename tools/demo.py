"""A web page that shows what a checkpoint finds, by score and by decoder layer.

    pip install 'detrex[demo-web]'
    python tools/demo.py CONFIG CHECKPOINT

The model runs once for an image; the sliders only draw anew.
"""

from __future__ import annotations

import argparse
from types import ModuleType

import numpy as np
from PIL import Image

from detrex import Predictor
from detrex.utils.cli import add_trust_config, run_command
from detrex.utils.contact_sheet import SheetItem, draw_item
from detrex.utils.errors import InputError
from detrex.utils.optional import need_package

MIN_SIDE = 480  # pixels; smaller images are enlarged, so that labels do not hide them


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
    boxes = [one for one in layers[layer - 1] if one[2] >= threshold]
    return draw_item(SheetItem(image, predictions=boxes), max(MIN_SIDE, *image.size))


def page(gradio: ModuleType, predictor: Predictor) -> object:
    """The page, as ``gradio.Blocks``."""
    count = len(predictor.layers(np.zeros((64, 64, 3), np.uint8)))

    def detect(image: Image.Image | None) -> tuple | None:
        return image and (image, [predictor.labelled(found) for found in predictor.layers(image)])

    with gradio.Blocks(title="detrex", analytics_enabled=False) as blocks:
        found = gradio.State()
        with gradio.Row():
            image = gradio.Image(type="pil", label="image", sources=["upload", "clipboard"])
            shown = dict(interactive=False, format="png", buttons=["download", "fullscreen"])
            picture = gradio.Image(label="detections", elem_id="picture", **shown)
        threshold = gradio.Slider(0, 1, 0.3, step=0.01, label="least score", elem_id="threshold")
        layer = gradio.Slider(
            1, count, count, step=1, label="decoder layer", elem_id="layer", visible=count > 1
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

    predictor = Predictor(args.config, args.checkpoint, threshold=0, trust_config=args.trust_config)
    blocks = page(gradio, predictor)
    # Fonts of the system: the default ones would be fetched from the internet.
    theme = gradio.themes.Default(font="system-ui", font_mono="monospace")
    look = dict(theme=theme, footer_links=[], ssr_mode=False)
    try:
        blocks.launch(server_name=args.host, server_port=args.port, **look)
    except OSError as error:
        reason = str(error).split(". ")[0]  # then: how to set the port otherwise than by --port
        raise InputError(f"{args.host}:{args.port} cannot be listened on: {reason}") from error


if __name__ == "__main__":
    run_command(main)
