"""A report as text."""

from __future__ import annotations

import math

from tabulate import tabulate

from .report import WHY_RECALL_FALLS, AlignmentReport, GroupAlignment


def format_report(report: AlignmentReport) -> str:
    """Return tables by layer, by class and by size, in the units of :mod:`.report`."""
    what = "decoder layer" if report.kind == "queries" else "detections"
    lines = [f"{report.images} images, {report.objects} objects", f"\nBy {what}:", _layers(report)]
    if report.recall_falls:
        lines.append(WHY_RECALL_FALLS)
    for name, groups in (("class", report.classes), ("size", report.sizes)):
        lines += [f"\nBy {name} (last layer):", _groups(name, groups)]
    return "\n".join(lines)


def _layers(report: AlignmentReport) -> str:
    head = ["layer", "AP", "AP50", "AP75", "oLRP", "loc", "FP", "FN", "BR@N", "BR@2N"]
    head += ["Pearson", "Spearman", "rank corr.", "matched IoU", "unmatched IoU"]
    rows = [
        [
            str(layer.layer),
            *_numbers(1, *(layer.scores[name] for name in ("AP", "AP50", "AP75"))),
            *_numbers(1, *layer.olrp.values(), layer.br_recall["1"], layer.br_recall["2"]),
            *_numbers(3, layer.pearson, layer.spearman, layer.rank_correlation),
            *_numbers(3, layer.matched_iou, layer.unmatched_iou),
        ]
        for layer in report.layers
    ]
    return _table(rows, head)


def _groups(name: str, groups: list[GroupAlignment]) -> str:
    head = [name, "objects", "AP", "AP50", "AP75", "oLRP", "loc", "FP", "FN", "BR@N"]
    head += ["at score", "Pearson", "matched IoU", "confidence"]
    rows = [
        [
            g.name,
            str(g.objects),
            *_numbers(1, g.ap, g.ap50, g.ap75, g.olrp, g.olrp_localisation, g.olrp_fp, g.olrp_fn),
            *_numbers(1, g.br_recall),
            *_numbers(3, g.olrp_score, g.pearson, g.matched_iou, g.matched_confidence),
        ]
        for g in groups
    ]
    return _table(rows, head)


def _numbers(digits: int, *values: float) -> list[str]:
    return ["-" if math.isnan(value) else f"{value:.{digits}f}" for value in values]


def _table(rows: list[list[str]], head: list[str]) -> str:
    return tabulate(rows, head, stralign="right", disable_numparse=True)
