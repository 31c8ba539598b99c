"""Make scores mean what they say, and find each class's threshold, on held-out images.

    python tools/calibrate.py CONFIG CHECKPOINT -o calibrated.pth
    python tools/calibrate.py --results results.json --annotations val.json -o calibration_maps.json

The first form detects on the config's validation data and writes the checkpoint with the maps and
thresholds in its metadata, for `predict.py --calibrated` and `--threshold auto`. The second takes
the detections of any detector. What the map gains is measured by cross-validation over images. The
validation data must not be what the detector was trained on.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # projects/ of a checkout, from any folder

from detrex.evaluation.calibration.maps import KINDS, TARGETS
from detrex.utils.cli import add_overrides, add_trust_config, run_command
from detrex.utils.errors import InputError
from detrex.utils.files import atomic_write, check_writable
from detrex.utils.text import first_few, printable


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("config", nargs="?", help="config file of the model")
    add("checkpoint", nargs="?", help="its weights")
    add("--results", help="detections in COCO's results format; no model is run")
    add("--annotations", help="COCO JSON of the data set of --results")
    add("-o", "--output", required=True, help="file to write")
    add("--kind", choices=KINDS, default="isotonic", help="of the map (default: %(default)s)")
    text = "what a score shall mean: the share of right boxes at IoU 0.5, or the IoU"
    add("--target", choices=TARGETS, default="precision", help=f"{text} (default: %(default)s)")
    add("--per-class", action="store_true", help="fit a map for each class")
    add_overrides(parser)
    add_trust_config(parser)
    return parser.parse_args()


def detections_of(args: argparse.Namespace, folder: str) -> tuple[str, str]:
    """Evaluate as ``train_net.py --eval-only`` does; return the files of results and truth."""
    from detrex.config.load import load_config
    from detrex.data.annotation_files import annotation_files
    from detrex.evaluation.coco import RESULTS
    from detrex.train.cli import main as train_net

    overrides = [*args.overrides, f"train.init_checkpoint={args.checkpoint}"]
    overrides += [f"train.output_dir={folder}", f"dataloader.evaluator.output_dir={folder}"]
    trust = ["--trust-config"] if args.trust_config else []
    config = load_config(args.config, overrides, args.trust_config)
    train_net(["--config-file", args.config, "--eval-only", *trust, *overrides])
    return str(Path(folder, RESULTS)), annotation_files(config)[0]


def main() -> None:
    args = parse()
    if bool(args.results) == bool(args.config and args.checkpoint):
        raise InputError("give CONFIG and CHECKPOINT, or --results and --annotations")
    if args.results and not args.annotations:
        raise InputError("--results: name the data set's COCO JSON with --annotations")
    check_writable(args.output)
    from detrex.evaluation.calibration.of_results import calibrate, read_held_out

    with tempfile.TemporaryDirectory() as folder:
        files = (args.results, args.annotations) if args.results else detections_of(args, folder)
        held_out = read_held_out(*files)
    try:
        maps, without, errors = calibrate(held_out, args.kind, args.target, args.per_class)
    except InputError as error:
        raise InputError(f"{args.results or args.checkpoint}: {error}") from None
    print(f"{len(held_out.samples.scores)} detections; errors on images that were not fitted on:")
    for name, (before, after) in errors.items():
        print(f"  {name:7s} {before:.4f} -> {after:.4f}")
    if without:
        print(printable(f"not enough data for a map of their own: {first_few(without)}"))
    if held_out.without:
        names = first_few(held_out.without)
        print(printable(f"the threshold of all classes, for want of right boxes: {names}"))
    thresholds = zip(held_out.classes, *maps.thresholds.values(), strict=True)
    for name, lrp, f1 in thresholds:
        print(printable(f"  {name}: threshold {lrp:.3f} (LRP), {f1:.3f} (F1)"))
    write(args, maps.to_dict())
    print(f"wrote {args.output}")


def write(args: argparse.Namespace, maps: dict) -> None:
    if args.results:
        with atomic_write(args.output) as stream:
            json.dump(maps, stream)
        return
    from detrex.checkpoint.files import read_checkpoint, save_checkpoint

    content = read_checkpoint(args.checkpoint)
    content["metadata"] = {**(content.get("metadata") or {}), "calibration": maps}
    save_checkpoint(content, Path(args.output))


if __name__ == "__main__":
    run_command(main)
