"""Write a trained detector as ONNX, as a torch.export program, or as safetensors.

    python tools/export.py CONFIG CHECKPOINT -o model.onnx
    python tools/export.py CONFIG CHECKPOINT -o model.pt2 --height 800 --width 1200
    python tools/export.py CONFIG CHECKPOINT -o model.safetensors
    python tools/export.py CONFIG CHECKPOINT -o model.onnx --check [IMAGES ...]

The first two take pixels (B, 3, H, W) uint8 and sizes (B, 2) int64, the height and width without
padding, and return scores, labels (B, D) and boxes (B, D, 4) as x0, y0, x1, y1 in pixels. Their
metadata say how to choose among these: NMS, --threshold and --calibrated, which run_onnx.py obeys.
--check runs the file where it will run (.onnx: onnxruntime and OpenVINO) and compares scores, order
and boxes with PyTorch's; exit status 1 if they differ by more than the tolerance that is printed.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from detrex.utils.cli import add_overrides, add_selection, add_trust_config, run_command
from detrex.utils.errors import InputError
from detrex.utils.files import check_writable
from detrex.utils.optional import need_package

if TYPE_CHECKING:
    import numpy as np

    from detrex.predict import Predictor


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", help="config file of the model")
    parser.add_argument("checkpoint")
    parser.add_argument("-o", "--output", required=True, type=Path, help=".onnx .pt2 .safetensors")
    parser.add_argument("--height", type=int, help="fixes the images' height; default: any")
    parser.add_argument("--width", type=int, help="fixes the images' width; default: any")
    text = "compare the file's detections with PyTorch's, on these images, those of folders, or"
    parser.add_argument("--check", nargs="*", metavar="IMAGE", help=f"{text} four of sample data")
    add_selection(parser)
    add_overrides(parser)
    add_trust_config(parser)
    args = parser.parse_args()
    if args.output.suffix not in (".onnx", ".pt2", ".safetensors"):
        raise InputError(f"{args.output}: name it .onnx, .pt2 or .safetensors")
    if (args.height is None) != (args.width is None):
        raise InputError("--height and --width go together")
    if args.height is not None and min(args.height, args.width) < 1:
        raise InputError(f"--height {args.height} --width {args.width}: must be positive")
    if args.output.suffix == ".safetensors" and (args.calibrated or args.threshold == "auto"):
        raise InputError(
            f"{args.output}: has the checkpoint's maps and thresholds: give --calibrated and "
            "--threshold auto where it is used"
        )
    if args.output.suffix == ".safetensors" and args.check is not None:
        raise InputError(f"{args.output}: --check is for what other programs run: .onnx and .pt2")
    check_writable(args.output)
    return args


def check_inputs(predictor: Predictor, args: argparse.Namespace) -> list[np.ndarray]:
    """Images to compare with, which can be read, as the network takes them; their runtimes are
    installed."""
    from detrex.inspect.pictures import image_files
    from detrex.predict.agreement import sample_images
    from detrex.predict.runtimes import OPENERS

    for name in OPENERS[args.output.suffix]:
        need_package(name, "detrex[export]")
    images = image_files(args.check)[0] or sample_images()
    return [predictor.inputs(image, "sample")["image"].numpy() for image in images]


def check(predictor: Predictor, args: argparse.Namespace, pixels: list[np.ndarray]) -> bool:
    """Print how the file agrees with PyTorch; return whether it does."""
    from detrex.predict.agreement import agreement_table, over_images
    from detrex.predict.runtimes import OPENERS, in_pytorch

    runtimes = {name: opener(args.output) for name, opener in OPENERS[args.output.suffix].items()}
    expected = in_pytorch(predictor.model, (args.height, args.width) if args.height else None)
    rows = {name: over_images(expected, x, pixels) for name, x in runtimes.items()}
    print(agreement_table(rows))
    return all(row.holds for row in rows.values())


def main() -> None:
    args = parse()
    from detrex import predict  # takes seconds: not before --help

    names = ("threshold", "calibrated", "overrides", "trust_config")
    options = {name: getattr(args, name) for name in names}
    predictor = predict.Predictor(args.config, args.checkpoint, "cpu", **options)
    pixels = check_inputs(predictor, args) if args.check is not None else []
    if args.output.suffix == ".safetensors":
        predictor.write_weights(args.output)
    else:
        program = predict.trace(predictor.model, (args.height, args.width) if args.height else None)
        write = predict.write_onnx if args.output.suffix == ".onnx" else predict.write_program
        write(program, args.output, predictor.about())
    print(f"wrote {args.output}: {args.output.stat().st_size / 1e6:.1f} MB")
    if pixels and not check(predictor, args, pixels):
        raise SystemExit(1)


if __name__ == "__main__":
    run_command(main)
