r"""Does the best box get the best score, and what is a score worth? Measure it, print tables, draw
pictures.

A model, with the queries of every decoder layer (options of train_net.py are understood):
    python tools/analyze_alignment.py --config-file projects/.../config.py \
        train.init_checkpoint=output/demo/model_final.pth -o output/demo/alignment

Detections of any detector in COCO's results format:
    python tools/analyze_alignment.py --results coco_instances_results.json \
        --annotations val.json -o output/alignment

Folders with a calibration.json, for example of runs with diagnose=True, side by side in a picture:
    python tools/analyze_alignment.py --reliability output/a output/b -o output/reliability

Writes alignment.json and calibration.json (schema: detrex.evaluation.alignment.report and
detrex.evaluation.calibration.report), PNG and SVG pictures.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))  # projects/ of a checkout, from any folder

from detrex.evaluation.alignment import Definitions, load_report
from detrex.evaluation.alignment.report import FILE_NAME
from detrex.utils.cli import run_command
from detrex.utils.errors import InputError
from detrex.utils.files import check_writable

if TYPE_CHECKING:
    from detrex.evaluation.alignment import Diagnosis


class _Help(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """The description as it is written, and the options' defaults."""


def parse() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        usage="%(prog)s (--config-file FILE key=value ... | --results FILE --annotations FILE"
        " | --reliability FOLDER ...) [options]",
        description=__doc__,
        allow_abbrev=False,
        formatter_class=_Help,
    )
    add = parser.add_argument
    add("-o", "--output", default="output/alignment", help="folder to write to")
    add("--results", help="detections in COCO's results format; no model is run")
    add("--annotations", help="COCO JSON of the data set of --results")
    add("--reliability", nargs="+", metavar="FOLDER", help="draw their reliability diagrams")
    default = Definitions()
    text = "objects whose best sample has a lower IoU are left out"
    add("--br-min-iou", dest="min_iou", type=float, default=default.min_iou, help=text)
    text = "least IoU of the samples whose ranks are correlated"
    add("--candidate-iou", type=float, default=default.candidate_iou, help=text)
    return parser.parse_known_args()


def of_model(arguments: list[str], output: str, definitions: Definitions) -> Diagnosis:
    """Evaluate as ``train_net.py --eval-only`` does, with the evaluator's diagnosis."""
    from detrex.config.instantiation import accepts  # takes seconds: not before --help
    from detrex.config.load import load_config
    from detrex.evaluation.alignment import Diagnosis
    from detrex.evaluation.calibration import load_calibration
    from detrex.evaluation.calibration.report import FILE_NAME as CALIBRATION
    from detrex.train.cli import default_argument_parser
    from detrex.train.cli import main as train_net

    args = default_argument_parser().parse_intermixed_args(arguments)
    cfg = load_config(args.config_file, args.opts, args.trust_config)
    evaluator = cfg.dataloader.get("evaluator")
    if evaluator is None or not accepts(evaluator, "diagnose"):
        raise InputError(
            f"{args.config_file}: without ground truth there is nothing to align with: set "
            "dataloader.evaluator to detrex.evaluation.COCOEvaluator"
        )
    if not args.resume and not any(o.startswith("train.init_checkpoint=") for o in args.opts):
        raise InputError("give train.init_checkpoint=FILE, the checkpoint to measure")
    values = json.dumps(vars(definitions)).replace('"', "")
    overrides = [f"dataloader.evaluator.diagnose={values}"]
    overrides += [f"dataloader.evaluator.output_dir={output}"]
    path = Path(output) / FILE_NAME
    before = path.stat().st_mtime_ns if path.exists() else None
    train_net([*arguments, "--eval-only", *overrides])
    if not path.exists() or path.stat().st_mtime_ns == before:
        raise InputError("nothing was measured: dataloader.test has no images")
    reports = load_report(path), load_calibration(path.with_name(CALIBRATION))
    source = {"config": args.config_file, "checkpoint": str(cfg.train.init_checkpoint)}
    return Diagnosis(*(replace(report, source=report.source | source) for report in reports))


def compare_reliability(folders: list[str], output: str) -> None:
    """Draw the reliability diagrams of folders side by side; titles are the folders' names, without
    the key that ablate.py adds, or whole paths where names are equal."""
    from detrex.evaluation.calibration import load_calibration
    from detrex.evaluation.calibration.plots import save_reliability
    from detrex.evaluation.calibration.report import FILE_NAME as CALIBRATION

    names = [re.sub(r"_[0-9a-f]{12}$", "", Path(x).resolve().name) for x in folders]
    titles = [x.replace("_", " ") for x in names] if len({*names}) == len(names) else folders
    pairs = zip(titles, folders, strict=True)
    reports = {title: load_calibration(Path(folder, CALIBRATION)) for title, folder in pairs}
    print(f"wrote {save_reliability(reports, output)}")


def main() -> None:
    args, rest = parse()
    from detrex.evaluation.alignment import diagnosis_of_results
    from detrex.evaluation.alignment.plots import save_plots
    from detrex.evaluation.alignment.tables import format_report
    from detrex.evaluation.calibration import format_calibration
    from detrex.evaluation.calibration.plots import save_reliability
    from detrex.evaluation.calibration.report import FILE_NAME as CALIBRATION

    definitions = Definitions(
        **{field.name: getattr(args, field.name) for field in fields(Definitions)}
    )
    check_writable(Path(args.output, FILE_NAME))
    if args.reliability:
        if rest or args.results:
            raise InputError("--reliability goes with --output alone")
        compare_reliability(args.reliability, args.output)
        return
    if args.results is None:
        diagnosis = of_model(rest, args.output, definitions)
    elif rest:
        raise InputError(f"{rest[0]}: goes with --config-file, not with --results")
    elif args.annotations is None:
        raise InputError("--results: name the data set's COCO JSON with --annotations")
    else:
        diagnosis = diagnosis_of_results(args.results, args.annotations, definitions)
    for report in diagnosis:
        report.save(args.output)
    print(format_report(diagnosis.alignment))
    print(format_calibration(diagnosis.calibration))
    paths = save_plots(diagnosis.alignment, args.output)
    reliability = save_reliability({"all classes": diagnosis.calibration}, args.output)
    files = f"{args.output}/{FILE_NAME}, {CALIBRATION}"
    print(f"wrote {files} and {len(paths) + 2} pictures, first {paths[-2]} and {reliability}")


if __name__ == "__main__":
    run_command(main)
