"""A web page that shows a checkpoint's detections, by score and by decoder layer.

    pip install 'detrex[demo-web]'
    python tools/demo.py CONFIG CHECKPOINT

The model runs once for an image; the sliders only draw anew. Unless --host says otherwise, only
this computer can open the page. It serves images that were uploaded, for an hour, and as examples
the first of the config's validation data, if they are on this machine.
"""

from __future__ import annotations

import argparse
import html
import itertools
import os
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
EXAMPLES = 6  # images of the validation data that are offered
NAMED = 30  # classes in the title


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

    ``detected``: the image, and each layer's detections (box, class, score, number of the class).
    """
    if detected is None:
        return None
    from detrex.inspect.contact_sheet import MIN_SIDE, SheetItem, draw_item
    from detrex.report.figures import COLORS

    image, layers = detected
    detections = sorted(layers[min(int(layer), len(layers)) - 1], key=lambda d: d[2])
    boxes = [
        (box, f"{name} {score:.2f}", COLORS[label % len(COLORS)])
        for box, name, score, label in detections
        if score >= threshold
    ]
    return draw_item(SheetItem(image, others=boxes), max(MIN_SIDE, *image.size))


def title(predictor: Predictor, checkpoint: str) -> str:
    """What the page shows, as HTML: model, checkpoint and classes."""
    model = str(predictor.config.model.get("_target_", "detector")).rpartition(".")[2]
    names = predictor.classes or []
    text = f"{len(names)} classes: {', '.join(names[:NAMED])}" if names else "classes without names"
    text += ", …" if len(names) > NAMED else ""
    heading = f"{model}, {os.path.basename(checkpoint)}"
    return f"<h1>{html.escape(heading)}</h1><p>{html.escape(text)}</p>"


def examples(predictor: Predictor) -> list[str]:
    """The first images of the config's validation data that are here."""
    from detrex.data.annotation_files import annotation_files
    from detrex.utils.images import is_image

    try:
        _, folder = annotation_files(predictor.config)
        paths = (os.path.join(folder, name) for name in sorted(os.listdir(folder)))
    except (InputError, OSError):
        return []
    return [*itertools.islice(filter(is_image, filter(os.path.isfile, paths)), EXAMPLES)]


def read(path: str) -> np.ndarray:
    """Return an image's pixels.

    Raises:
        InputError: it is no image or a very large one; says what it is instead.
    """
    from detrex.data.image import as_pixels
    from detrex.utils.images import image_fault, image_size

    name = os.path.basename(path)
    width, height = image_size(path) or (0, 0)
    if width * height > MAX_PIXELS:
        raise InputError(f"{name}: {width} x {height} pixels are too many")
    if fault := image_fault(path):
        raise InputError(f"{name}: {fault}")
    return as_pixels(path)


def detected_in(predictor: Predictor, path: str | None) -> tuple | None:
    """An image, and of each decoder layer its detections as (box, class name, score, label).

    Raises:
        InputError: it cannot be read.
    """
    if path is None:
        return None
    pixels, layers = read(path), []
    for instances in predictor.layers(pixels):
        rows = predictor.labelled(instances), instances.pred_classes.tolist()
        layers.append([(*row, label) for row, label in zip(*rows, strict=True)])
    return Image.fromarray(pixels), layers


def page(gradio: ModuleType, predictor: Predictor, checkpoint: str, least: float = 0.3) -> object:
    """The page, as ``gradio.Blocks``; ``least`` is the score at which the slider begins."""
    count = len(predictor.layers(np.zeros((64, 64, 3), np.uint8)))

    def detect(path: str | None) -> tuple | None:
        try:
            return detected_in(predictor, path)
        except InputError as error:
            raise gradio.Error(str(error), print_exception=False) from error

    private = dict(analytics_enabled=False, delete_cache=(AGE // 4, AGE))  # how often, older than
    # `read` opens what is uploaded; gradio's errors do not say what is wrong with a file.
    gradio.Image.preprocess = lambda self, payload: payload and payload.path
    with gradio.Blocks(title="detrex", **private) as blocks:
        gradio.HTML(title(predictor, checkpoint))
        detected = gradio.State(time_to_live=AGE)
        with gradio.Row():
            sources = ["upload", "clipboard"]
            image = gradio.Image(label="image", sources=sources)
            shown = dict(interactive=False, format="png", buttons=["download", "fullscreen"])
            picture = gradio.Image(label="detections", elem_id="picture", **shown)
        threshold = gradio.Slider(0, 1, least, step=0.01, label="least score", elem_id="threshold")
        limits = 1, max(2, count), count  # gradio refuses a slider of one position
        layer = gradio.Slider(
            *limits, step=1, label="decoder layer", elem_id="layer", visible=count > 1
        )
        if paths := examples(predictor):
            gradio.Examples(paths, image, label="images of the validation data")
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
    blocks = page(gradio, predictor, args.checkpoint, least)
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
