"""The weights and data behind the detections in a folder: ``evaluation.json`` beside them."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from detrex.utils.files import atomic_write
from detrex.utils.small_files import read_json_object

from .coco import RESULTS

ORIGIN = "evaluation.json"
_KINDS = {
    "checkpoint": str | None,
    "averaged": bool,
    "iteration": int | None,
    "annotations": {"file": str, "hash": str},
    "results": str,
}


def write_origin(folder: str | os.PathLike, json_file: str, weights: dict) -> None:
    """Write ``evaluation.json`` beside the detections that were just written.

    Args:
        folder: of ``coco_instances_results.json``.
        json_file: the ground truth.
        weights: "checkpoint", the file that was scored, None in a training; "iteration", the number
            of iterations done; "averaged", whether they are the moving average.
    """
    annotations = {"file": os.path.abspath(json_file), "hash": file_hash(json_file)}
    origin = {**weights, "annotations": annotations, "results": file_hash(Path(folder, RESULTS))}
    with atomic_write(Path(folder, ORIGIN)) as stream:
        json.dump(origin, stream, indent=1)


def read_origin(folder: Path) -> dict:
    """Return the content of ``evaluation.json``; empty if there is none.

    Raises:
        InputError: it is damaged.
    """
    path = folder / ORIGIN
    return read_json_object(path, _KINDS) if path.exists() else {}


def foreign(folder: Path, json_file: str, iteration: int | None) -> str | None:
    """Return why the detections in a folder are not those of an evaluation of a run, or None.

    Args:
        folder: of the detections.
        json_file: the run's ground truth.
        iteration: of the evaluation.

    Raises:
        InputError: ``evaluation.json`` is damaged.
    """
    origin = read_origin(folder)
    if origin.get("checkpoint"):
        return f"its detections are of {origin['checkpoint']}, scored by itself"
    if origin.get("iteration", iteration) != iteration:
        return f"its detections are of iteration {origin['iteration']}, its scores of {iteration}"
    if "results" in origin and origin["results"] != file_hash(folder / RESULTS):
        return f"{RESULTS} is another one than {ORIGIN} speaks of"
    if "annotations" in origin and origin["annotations"]["hash"] != file_hash(json_file):
        return f"its detections are of other data than {json_file} holds"
    return None


def file_hash(path: str | os.PathLike) -> str:
    """Return a hash of a file's content, 16 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=8)
    with open(path, "rb") as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest()
