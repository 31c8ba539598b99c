"""A description of the data that a run reads, compared between its processes and its starts."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import TypeVar

from detectron2.config import instantiate
from detectron2.utils import comm
from omegaconf import DictConfig, OmegaConf

from detrex.data import DatasetInfo
from detrex.data.dataset_info import SPLITS
from detrex.data.fingerprint import fingerprint
from detrex.data.records import JoinedRecords, Records
from detrex.utils.errors import InputError
from detrex.utils.small_files import is_a
from detrex.utils.text import first_few

logger = logging.getLogger(__name__)
T = TypeVar("T")
_CLASSES = {"classes": "class", "category_ids": "category id of class"}
_SPLIT = {"images": int, "boxes": int, "hash": str}
KINDS = {  # types of what describe_data returns, in a file
    "classes": (list[str], None),
    "category_ids": (list[object], None),
    "train": (_SPLIT, None),
    "val": (_SPLIT, None),
}


def on_all_processes(function: Callable[[], T]) -> T:
    """Return a function's result, or raise an error in all processes if it fails in one.

    The function must not wait for other processes. Every process must call this.

    Raises:
        InputError: this process's, else another's with the name of its machine.
    """
    result = error = None
    try:
        result = function()
    except InputError as raised:
        error = raised
    failures = comm.all_gather(error and f"on {socket.gethostname()}: {error}")
    if error:
        raise error
    for failure in failures:
        if failure:
            raise InputError(failure)
    return result


def describe_data(
    cfg: DictConfig, info: DatasetInfo | None, records: Sequence[dict] | None, evaluated: bool
) -> dict:
    """Return the classes, category ids and fingerprints of the data that this process reads.

    Args:
        cfg: its ``dataloader.test.dataset`` is the validation data.
        info: the classes; None if they are not known.
        records: of the training set; None if they are not read here.
        evaluated: whether there is validation data; it is read here.

    Returns:
        Plain values by the keys of ``KINDS``; None for what is not known.
    """
    test = OmegaConf.select(cfg, f"dataloader.{SPLITS['val']}.dataset") if evaluated else None
    return {
        "classes": info.classes if info else None,
        "category_ids": info.category_ids if info else None,
        "train": _fingerprint(records),
        "val": _fingerprint(instantiate(test)),
    }


def _fingerprint(records: object) -> dict | None:
    is_known = isinstance(records, list | Records | JoinedRecords)
    return fingerprint(records) if is_known and records and isinstance(records[0], dict) else None


def check_processes_agree(data: dict) -> None:
    """Compare the data that the processes have read; every process must call this.

    Raises:
        InputError: in all processes; names the ranks and machines that differ, and in what.
    """
    groups: dict[str, list[tuple[int, str]]] = {}
    gathered = comm.all_gather((socket.gethostname(), data))
    for rank, (host, other) in enumerate(gathered):
        groups.setdefault(json.dumps(other), []).append((rank, host))
    if len(groups) > 1:
        first, second, *_ = groups.values()
        differing = [gathered[group[0][0]][1] for group in (second, first)]
        raise InputError(
            f"{_named(second)} has read other data than {_named(first)}: "
            f"{'; '.join(data_differences(*differing))}: give every machine the same files"
        )


def _named(processes: Sequence[tuple[int, str]]) -> str:
    ranks = first_few([str(rank) for rank, _ in processes], 8)
    hosts = first_few(list(dict.fromkeys(host for _, host in processes)))
    return f"rank {ranks} ({hosts})"


def data_differences(data: Mapping, other: Mapping) -> Iterator[str]:
    """Yield a text for every difference between two descriptions of ``describe_data``.

    A value that one of them does not know is no difference.
    """
    for key, name in _CLASSES.items():
        if None not in (here := data.get(key), there := other.get(key)) and here != there:
            if len(here) != len(there):
                yield f"{len(here)} classes, not {len(there)}"
            pairs = enumerate(zip_longest(here, there, fillvalue="nothing"))
            i, (one, two) = next((i, pair) for i, pair in pairs if pair[0] != pair[1])
            yield f"{name} {i} is {one!r}, not {two!r}"
    for key in SPLITS:
        if None not in (here := data.get(key), there := other.get(key)) and here != there:
            size, other_size = (
                f"{x['images']} images with {x['boxes']} boxes" for x in (here, there)
            )
            contents = " (other contents)" if size == other_size else ""
            yield f"{key} data of {size}, not {other_size}{contents}"


def check_resumed(data: dict, metadata: object, checkpoint: object) -> dict:
    """Compare a resumed run's data with what its checkpoint was trained on.

    Changed data is only reported, because an image that ended the run may have been repaired or
    removed. With other classes the weights would mean something else.

    Args:
        data: of this start, from ``describe_data``.
        metadata: of the checkpoint.
        checkpoint: its file, for messages.

    Returns:
        ``data``; if the data of earlier starts differs, with a list of it as "earlier".

    Raises:
        InputError: other classes or category ids.
    """
    saved = metadata if is_a(metadata, dict) else {}
    before = {key: saved.get(key) for key in KINDS if is_a(saved.get(key), KINDS[key])}
    classes = {key: data[key] for key in _CLASSES}
    if differences := list(data_differences(classes, before)):
        raise InputError(
            f"--resume: the data has other classes than checkpoint {checkpoint} was trained on "
            f"({'; '.join(differences)}): restore the data, or start a new run with "
            f"train.init_checkpoint={checkpoint}"
        )
    earlier = saved["earlier"] if is_a(saved.get("earlier"), list[dict]) else []
    if differences := list(data_differences(data, before)):
        logger.warning(
            "resuming on changed data: %s; what was reached before does not compare",
            "; ".join(differences),
        )
        earlier = [*earlier, {key: before.get(key) for key in SPLITS}]
    return {**data, "earlier": earlier} if earlier else data
