"""Rewrite a checkpoint of a method's official repository under this toolbox's names.

python tools/convert_checkpoint.py checkpoint0011_4scale.pth output/dino_r50.pth \
    --config-file projects/dino/configs/dino-resnet/dino_r50_4scale_12ep.py

Layouts: DETR, Conditional, Deformable, DAB-, DN-, DAB-Deformable-, DN-Deformable-DETR, DINO,
H-Deformable-DETR, DAC-DETR, RT-DETR (v1 and v2), D-FINE, LW-DETR and RF-DETR (of their own
repositories, DEIM's and the transformers library), and ImageNet ResNets of torchvision and timm,
ResNet-vd and HGNetv2 among them. detrex's, Rank-DETR's, AlignDETR's and Mr. DETR's
checkpoints need no conversion. Rows of COCO's 91 ids become those of its 80 classes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))  # projects/ of a checkout, from any folder

from detrex.checkpoint.layouts import BACKBONES, LAYOUTS, NAMES
from detrex.utils.cli import add_trust_config, run_command
from detrex.utils.errors import InputError
from detrex.utils.files import check_writable

if TYPE_CHECKING:
    from torch import nn


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("source", metavar="IN", help="the official file")
    add("target", metavar="OUT", type=Path, help="file to write: .pth or .safetensors")
    add("--from", dest="layout", choices=NAMES, help="its layout; default: told by its names")
    add(
        "--config-file",
        metavar="FILE",
        help="config that it must fit; DC5 models need it",
    )
    add("opts", nargs="*", metavar="key=value", help="config overrides")
    add_trust_config(parser)
    args = parser.parse_intermixed_args()
    if args.target.suffix not in (".pth", ".safetensors"):
        raise InputError(f"{args.target}: name it .pth or .safetensors")
    if args.target.resolve() == Path(args.source).resolve():
        raise InputError(f"{args.target}: is the file to read; name another")
    if args.opts and args.config_file is None:
        raise InputError(f"{args.opts[0]}: goes with --config-file")
    check_writable(args.target)
    return args


def build(args: argparse.Namespace) -> nn.Module | None:
    if args.config_file is None:
        return None
    from detectron2.config import instantiate

    from detrex.config.load import load_config

    return instantiate(load_config(args.config_file, args.opts, args.trust_config).model)


def main() -> None:
    args = parse()
    from detrex.checkpoint import compare, read_checkpoint, save_checkpoint  # not before --help
    from detrex.checkpoint.convert import convert, detect_layout
    from detrex.checkpoint.weights import write_tensors

    weights = read_checkpoint(args.source)["model"]
    model = build(args)
    names = [] if model is None else model.state_dict()
    of_torchvision = any(name.startswith("backbone.body.") for name in names)
    try:
        layout = args.layout or detect_layout(weights)
        converted = convert(weights, layout, of_torchvision)
    except InputError as error:
        raise InputError(f"{args.source}: {error}") from None
    if model is not None:
        report = compare(model, converted)
        if report.unexpected or report.misshaped or (report.missing and layout not in BACKBONES):
            raise InputError(
                f"{args.source} does not fit {args.config_file}: {report.differences()}"
            )
    if args.target.suffix == ".safetensors":
        tensors = {name: value.contiguous().clone() for name, value in converted.items()}
        write_tensors(tensors, args.target)
    else:
        save_checkpoint({"model": converted}, args.target)
    print(f"{layout}: {len(weights)} tensors read, {len(converted)} written to {args.target}")
    if layout in LAYOUTS and LAYOUTS[layout].note:
        print(f"published with {LAYOUTS[layout].note}")


if __name__ == "__main__":
    run_command(main)
