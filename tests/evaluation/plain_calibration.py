"""What scores are worth, in plain loops that start anew at every threshold, for comparison."""

from __future__ import annotations

import numpy as np

from tests.evaluation.plain_alignment import iou

NAN = float("nan")


def corners(box):
    x, y, w, h = box
    return [x, y, x + w, y + h]


def images_of(gt, results):
    """[(image id, detections, objects, crowds)], each entry {"label", "box", "score"}."""
    label = {c["id"]: i for i, c in enumerate(sorted(gt["categories"], key=lambda c: c["id"]))}

    def entries(records, image, **wanted):
        return [
            {"label": label[r["category_id"]], "box": corners(r["bbox"]), "score": r.get("score")}
            for r in records
            if r["image_id"] == image["id"] and all(r[k] == v for k, v in wanted.items())
        ]

    images = []
    for image in gt["images"]:
        detections = sorted(entries(results, image), key=lambda d: -d["score"])
        objects = entries(gt["annotations"], image, iscrowd=0)
        crowds = entries(gt["annotations"], image, iscrowd=1)
        images.append((image["id"], scored(detections, objects, crowds), objects, crowds))
    return images


def scored(detections, objects, crowds):
    """The detections that count: 100 a class, none in a crowd of its class without a match."""
    counted, seen = [], {}
    for d in detections:
        seen[d["label"]] = seen.get(d["label"], 0) + 1
        if seen[d["label"]] <= 100:
            counted.append(d)
    hits = match(counted, objects, 0.5)
    return [
        d
        for d, hit in zip(counted, hits, strict=True)
        if hit is not None or not in_crowd(d, crowds)
    ]


def in_crowd(detection, crowds):
    x0, y0, x1, y1 = detection["box"]
    for crowd in crowds:
        a0, b0, a1, b1 = crowd["box"]
        inside = max(min(x1, a1) - max(x0, a0), 0) * max(min(y1, b1) - max(y0, b0), 0)
        if crowd["label"] == detection["label"] and inside / ((x1 - x0) * (y1 - y0)) >= 0.5:
            return True
    return False


def match(detections, objects, least, any_class=False):
    """The object of each detection, None without: COCO's greedy matching."""
    free, hits = set(range(len(objects))), []
    for d in detections:
        fits = []
        for g in free:
            overlap = iou(d["box"], objects[g]["box"])
            same = d["label"] == objects[g]["label"]
            if overlap >= least and overlap > 0 and (same or any_class):
                fits.append((same, overlap, -g))
        hits.append(-max(fits)[2] if fits else None)
        free.discard(hits[-1])
    return hits


def records(images, label=None):
    """(image id, score, right at 0.5, IoU at any overlap) of every detection of a class or all."""
    rows = []
    for image_id, detections, objects, _ in images:
        hits = match(detections, objects, 0.5)
        touched = match(detections, objects, 0)
        for d, hit, touch in zip(detections, hits, touched, strict=True):
            overlap = 0 if touch is None else iou(d["box"], objects[touch]["box"])
            if label in (None, d["label"]):
                rows.append((image_id, d["score"], hit is not None, overlap))
    return rows


def errors(rows):
    """D-ECE, LaECE0 and LaACE0 of records."""
    if not rows:
        return {"D-ECE": NAN, "LaECE0": NAN, "LaACE0": NAN}
    bins = {}
    for row in rows:
        cell = next(c for c in range(99, -1, -1) if row[1] >= c / 100)
        bins.setdefault(cell // 4, []).append(row)
    gaps = {"D-ECE": 0, "LaECE0": 0}
    for members in bins.values():
        score = sum(r[1] for r in members) / len(members)
        for name, column in (("D-ECE", 2), ("LaECE0", 3)):
            mean = sum(r[column] for r in members) / len(members)
            gaps[name] += len(members) / len(rows) * abs(score - mean)
    return {**gaps, "LaACE0": sum(abs(r[1] - r[3]) for r in rows) / len(rows)}


def operating_point(images, label, threshold):
    """Precision, recall, F1, IoU, LRP and false positives per image of detections from a threshold
    on; label None: of all classes."""
    right, wrong, objects, overlaps = 0, 0, 0, []
    for _, detections, truth, _ in images:
        shown = [d for d in detections if d["score"] >= threshold]
        for d, hit in zip(shown, match(shown, truth, 0.5), strict=True):
            if label in (None, d["label"]):
                right, wrong = right + (hit is not None), wrong + (hit is None)
                overlaps += [] if hit is None else [iou(d["box"], truth[hit]["box"])]
        objects += sum(label in (None, t["label"]) for t in truth)
    error = sum((1 - x) / 0.5 for x in overlaps)
    return {
        "precision": right / (right + wrong) if right + wrong else NAN,
        "recall": right / objects,
        "F1": 2 * right / (right + wrong + objects),
        "iou": sum(overlaps) / right if right else NAN,
        "LRP": (error + wrong + objects - right) / (objects + wrong),
        "false_positives": wrong / len(images),
    }


def duplicates(images, label, threshold, level):
    """Share of detections on a better one, pairs per image, detections per object that has one."""
    pairs, doubled, count, copies, covered = 0, 0, 0, 0, 0
    for _, detections, objects, _ in images:
        shown = [d for d in detections if d["score"] >= threshold and label in (None, d["label"])]
        count += len(shown)
        for i, d in enumerate(shown):
            on = [
                e
                for e in shown[:i]
                if e["label"] == d["label"] and iou(d["box"], e["box"]) >= level
            ]
            pairs, doubled = pairs + len(on), doubled + bool(on)
        objects_hit = set()
        for d in shown:
            best = max(
                (
                    (iou(d["box"], o["box"]), -g)
                    for g, o in enumerate(objects)
                    if o["label"] == d["label"]
                ),
                default=(0, 0),
            )
            if best[0] >= 0.5:
                copies += 1
                objects_hit.add(best[1])
        covered += len(objects_hit)
    share = doubled / count if count else NAN
    return share, pairs / len(images), copies / covered if covered else NAN


def confusion(images, classes, threshold):
    """Objects and detections by (true class, predicted class); ``classes`` is background."""
    cells = {}
    for _, detections, objects, _ in images:
        shown = [d for d in detections if d["score"] >= threshold]
        hits = match(shown, objects, 0.5, any_class=True)
        pairs = [
            (classes if hit is None else objects[hit]["label"], d["label"])
            for d, hit in zip(shown, hits, strict=True)
        ]
        pairs += [(o["label"], classes) for g, o in enumerate(objects) if g not in hits]
        for pair in pairs:
            cells[pair] = cells.get(pair, 0) + 1
    return sorted([*pair, count] for pair, count in cells.items())


def error_table(images):
    """Every wrong detection and missed object, as TIDE names them.

    Returns (score, label, None or kind, None or the class for which mending makes it right) of
    each detection, and the labels of objects that were missed.
    """
    rows, missed = [], []
    for _, detections, objects, _ in images:
        hits = match(detections, objects, 0.5)
        taken = {hit for hit in hits if hit is not None}
        meant = {}
        for d, hit in zip(detections, hits, strict=True):
            overlap = [iou(d["box"], o["box"]) for o in objects]
            same = [o["label"] == d["label"] for o in objects]
            right = max((x for x, s in zip(overlap, same, strict=True) if s), default=0)
            wrong = max((x for x, s in zip(overlap, same, strict=True) if not s), default=0)
            target = None
            if hit is not None:
                kind = None
            elif 0.1 <= right < 0.5:
                kind, target = "localisation", overlap.index(right)
            elif wrong >= 0.5:
                kind, target = "classification", overlap.index(wrong)
            elif right >= 0.5:
                kind = "duplicate"
            else:
                kind = "background" if max(overlap, default=0) <= 0.1 else "both"
            mended = None
            if target is not None and target not in taken and target not in meant:
                meant[target] = d
                mended = objects[target]["label"]
            rows.append((d["score"], d["label"], kind, mended))
        missed += [o["label"] for g, o in enumerate(objects) if g not in taken and g not in meant]
    return rows, missed


def average_precision(rows, objects):
    """AP in percent of (score, right) rows; equal scores count at once."""
    if objects <= 0:
        return 0
    points = []
    for score in sorted({s for s, _ in rows}):
        shown = [right for s, right in rows if s >= score]
        points.append((sum(shown) / objects, sum(shown) / len(shown)))
    levels = np.linspace(0, 1, 101)  # 0.07 is not 7 / 100 there
    levels = [max((p for r, p in points if r >= level), default=0) for level in levels]
    return 100 * np.mean(levels)


def costs(images, label):
    """AP50 of a class, and what it gains without each kind of error."""
    rows, missed = error_table(images)
    objects = sum(o["label"] == label for _, _, truth, _ in images for o in truth)
    lost = missed.count(label)
    normal = [(s, kind is None) for s, c, kind, _ in rows if c == label]
    ap = average_precision(normal, objects)
    gains = {"AP50": ap}
    for name in ("classification", "localisation", "both", "duplicate", "background"):
        left = [(s, k is None) for s, c, k, _ in rows if c == label and k != name]
        left += [(s, True) for s, _, k, mended in rows if k == name and mended == label]
        gains[name] = average_precision(left, objects) - ap
    gains["missed"] = average_precision(normal, objects - lost) - ap
    right = [row for row in normal if row[1]]
    gains["false_positives"] = average_precision(right, objects) - ap
    gains["false_negatives"] = average_precision(normal, len(right)) - ap
    return gains
