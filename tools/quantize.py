"""Write an exported detector in float16 and int8, and measure what that costs.

    python tools/quantize.py CONFIG CHECKPOINT MODEL.onnx -o FOLDER

MODEL.onnx is what tools/export.py wrote of CONFIG and CHECKPOINT. Ranges for int8 are measured on
images of a split. PyTorch and every file are evaluated on the config's validation data: AP, how
well scores rank, how honest they are. FOLDER gets the models, their detections, and table.md.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))  # projects/ of a checkout, from any folder

from detrex.utils.cli import add_overrides, add_trust_config, run_command, whole
from detrex.utils.errors import InputError
from detrex.utils.files import atomic_write, check_writable

if TYPE_CHECKING:
    import numpy as np
    from omegaconf import DictConfig

    from detrex.predict import Predictor
    from detrex.predict.agreement import Agreement
    from detrex.predict.runtimes import Runtime

RUNTIMES, PRECISIONS = ("onnxruntime", "openvino"), ("fp16", "int8")
TABLE, COMPARED = "table.md", 16  # images on which scores and order are compared one by one
FIGURES = {  # head of the column -> task and name of an evaluation's figure
    **{name: ("bbox", name) for name in ("AP", "AP50", "AP75")},
    **{name: ("alignment", name) for name in ("rank_correlation", "br_recall_1N", "oLRP")},
    **{name: ("calibration", name) for name in ("D-ECE", "LaECE0")},
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("config", help="config file of the model")
    add("checkpoint")
    add("model", type=Path, metavar="MODEL.onnx", help="the same model, by tools/export.py")
    add("-o", "--output", required=True, type=Path, help="folder to write to")
    add("--runtimes", nargs="+", choices=RUNTIMES, default=RUNTIMES)
    add("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    text = "whose images the ranges are measured on (default: %(default)s)"
    add("--split", choices=("train", "val"), default="train", help=text)
    add("--images", type=whole(), default=64, help="how many of them (default: %(default)s)")
    text = "regular expression of the modules that do not stay float; default: see the docs"
    add("--modules", help=text)
    add_overrides(parser)
    add_trust_config(parser)
    return parser.parse_args()


def calibration_images(
    cfg: DictConfig, predictor: Predictor, split: str, count: int
) -> list[np.ndarray]:
    """Images (3, H, W) uint8, evenly spread over a split, as the network reads them."""
    from detectron2.data import DatasetCatalog

    from detrex.data.dataset_info import SPLITS

    names = cfg.dataloader[SPLITS[split]].dataset.names
    names = [names] if isinstance(names, str) else names
    records = [record for name in names for record in DatasetCatalog.get(name)]
    if not records:
        raise InputError(f"--split {split}: {', '.join(names)} has no images to calibrate on")
    chosen = records[:: max(1, len(records) // count)][:count]
    return [predictor.inputs(record["file_name"])["image"].numpy() for record in chosen]


def models(args: argparse.Namespace, samples: Sequence[dict]) -> dict[str, tuple[str, Path]]:
    """Write the files; name -> runtime and file, the float one first."""
    from detrex.predict.quantization import FEATURES, SUFFIXES, WRITERS

    files = {}
    for runtime in args.runtimes:
        files[f"{runtime} fp32"] = runtime, args.model
        for precision in args.precisions:
            path = args.output / f"{args.model.stem}_{precision}{SUFFIXES[runtime]}"
            WRITERS[runtime, precision](args.model, path, args.modules or FEATURES, samples)
            files[f"{runtime} {precision}"] = runtime, path
    return files


def seconds(runtime: Runtime, image: np.ndarray) -> float:
    """CPU time of this process."""
    start = time.process_time()
    runtime(image)
    return time.process_time() - start


def speeds(runtimes: dict[str, Runtime], images: Sequence[np.ndarray]) -> dict[str, float]:
    """How many times as fast as PyTorch: medians over the images, all run in turns."""
    rounds = [[seconds(runtime, image) for runtime in runtimes.values()] for image in images]
    medians = [statistics.median(times) for times in zip(*rounds, strict=True)]
    return {name: medians[0] / median for name, median in zip(runtimes, medians, strict=True)}


def scores(cfg: DictConfig, runtime: Runtime, nms_iou: float | None, name: str) -> list[str]:
    """The figures of an evaluation."""
    from detrex.predict.runtimes import Deployed
    from detrex.train.evaluate import evaluate

    results = evaluate(cfg, Deployed(runtime, nms_iou), name.replace(" ", "_"))
    if "alignment" not in results:
        raise InputError("nothing was measured: dataloader.test has no images with objects")
    digits = {"bbox": 2, "alignment": 3, "calibration": 4}
    return [f"{results[task][key]:.{digits[task]}f}" for task, key in FIGURES.values()]


def table(rows: dict[str, list[str]], agreements: dict[str, Agreement], fast: dict) -> str:
    from tabulate import tabulate

    head = ["", *FIGURES, "scores differ by", "Kendall's tau", "speed"]
    lines = [
        [name, *row, f"{agreements[name].score:.1e}", f"{agreements[name].tau:.3f}"]
        + [f"{fast[name]:.2f}x"]
        for name, row in rows.items()
    ]
    return tabulate(lines, head, "github", disable_numparse=True) + "\n"


def main() -> None:
    args = parse()
    check_writable(args.output / TABLE)
    from detrex.config.load import load_config  # takes seconds: not before --help
    from detrex.predict import Predictor
    from detrex.predict.agreement import over_images
    from detrex.predict.quantization import check_packages, read_onnx
    from detrex.predict.runtimes import RUNTIMES as OPEN
    from detrex.predict.runtimes import in_pytorch
    from detrex.train.data import prepare_data

    check_packages(args.runtimes, args.precisions)
    read_onnx(args.model)
    overrides = [*args.overrides, "dataloader.evaluator.diagnose=True"]
    overrides.append(f"dataloader.evaluator.output_dir={args.output}")
    cfg = load_config(args.config, overrides, args.trust_config)
    prepare_data(cfg, overrides, ["train", "test"] if args.split == "train" else ["test"])
    predictor = Predictor(
        args.config, args.checkpoint, "cpu", 0, args.trust_config, overrides=args.overrides
    )
    images = calibration_images(cfg, predictor, args.split, args.images)
    source = OPEN[args.runtimes[0]](args.model)
    runtimes = {"PyTorch": in_pytorch(predictor.model, source.size)}
    some = images[:COMPARED]
    if over_images(runtimes["PyTorch"], source, some[:2]).tau < 0.5:  # near ties may differ
        raise InputError(f"{args.model}: detects something else than {args.checkpoint}")
    inputs = [source.inputs(image) for image in images]
    files = models(args, inputs)
    runtimes |= {name: OPEN[runtime](path) for name, (runtime, path) in files.items()}
    agreements = {
        name: over_images(runtimes["PyTorch"], runtime, some) for name, runtime in runtimes.items()
    }
    nms_iou = predictor.model.nms_iou
    rows = {name: scores(cfg, runtime, nms_iou, name) for name, runtime in runtimes.items()}
    text = table(rows, agreements, speeds(runtimes, some))
    with atomic_write(args.output / TABLE) as stream:
        stream.write(text)
    print(text, end="")


if __name__ == "__main__":
    run_command(main)
