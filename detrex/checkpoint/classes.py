"""Class weights of a checkpoint, carried over by name to the classes of another data set."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence

from detectron2.data import MetadataCatalog
from torch import Tensor, nn

from detrex.data.class_names import matching

logger = logging.getLogger(__name__)
# A class is a row of heads and label embeddings, and a column of Rank-DETR's biases.
CLASS_ROWS = re.compile(
    r"(^|\.)(((enc_out_)?class_embed\w*|hybrid_class_head|cls_score)(\.\d+)?|label_enc|label_encoder)"
    r"\.(weight|bias)$"
)
CLASS_COLUMNS = re.compile(r"(^|\.)rank_adaptive_classhead_emb\.\d+\.weight$")


def carry_classes(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    trained: Sequence[str] | None,
    classes: Sequence[str],
) -> dict[str, Tensor]:
    """Return the weights with one row per class of the model, in its order.

    A class that the checkpoint does not know starts with the model's initial values; the log says
    which. A row for "no object" or "no label" is carried over, too; the head that ranks proposals
    by row 0 (``model.class_agnostic_head``) gets the checkpoint's first rows.

    Args:
        model: a detector of ``classes``.
        weights: under the model's names; other names, and tensors of other shapes, are unchanged.
        trained: class names of the weights; None guesses COCO's if they have 80 rows and the model
            another number.
        classes: class names of the model.
    """
    expected = model.state_dict()
    axes = {
        name: axis
        for axis, pattern in enumerate((CLASS_ROWS, CLASS_COLUMNS))
        for name in expected
        if name in weights and pattern.search(name)
    }
    trained = trained or _guessed(weights, expected, axes, len(classes))
    if not axes or trained is None or list(trained) == list(classes):
        return dict(weights)
    source = matching(trained, classes)
    by_row_0 = getattr(model, "class_agnostic_head", None) or "-"
    agnostic = re.compile(rf"(^|\.){re.escape(by_row_0)}\.(weight|bias)$")
    carried = dict(weights)
    for name, axis in axes.items():
        first = [i if i < len(trained) else None for i in range(len(classes))]
        rows = first if agnostic.search(name) else source
        carried[name] = _moved(weights[name], expected[name], axis, rows, len(trained))
    _log(trained, classes, source)
    return carried


def _guessed(
    weights: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    axes: Mapping[str, int],
    count: int,
) -> list[str] | None:
    """Return class names for weights without any: COCO's for 80 rows, else ""s; None if they have
    as many rows as the model."""
    rows = {weights[n].shape[a] - expected[n].shape[a] + count for n, a in axes.items()}
    if len(rows) != 1 or rows == {count}:
        return None
    names = MetadataCatalog.get("coco_2017_train").thing_classes
    return names if rows == {len(names)} else [""] * rows.pop()


def _moved(
    source: Tensor, target: Tensor, axis: int, rows: Sequence[int | None], trained: int
) -> Tensor:
    """Return the model's tensor (``target``) with ``rows`` of the file's, or the file's if the
    shapes do not allow that."""
    extra = target.shape[axis] - len(rows)  # rows for "no object" or "no label"
    shape = list(target.shape)
    shape[axis] = trained + extra
    if extra < 0 or list(source.shape) != shape:
        return source
    pairs = [(to, row) for to, row in enumerate(rows) if row is not None]
    pairs += [(len(rows) + i, trained + i) for i in range(extra)]
    moved = target.clone()
    for to, row in pairs:
        moved.select(axis, to).copy_(source.select(axis, row))
    return moved


def _log(trained: Sequence[str], classes: Sequence[str], source: Sequence[int | None]) -> None:
    pairs = list(zip(classes, source, strict=True))
    carried = [name for name, row in pairs if row is not None]
    new = [name for name, row in pairs if row is None]
    for names, what in ((carried, "carried over by name"), (new, "start anew")):
        if names:
            logger.info("%d of %d classes %s: %s", len(names), len(classes), what, ", ".join(names))
    respelt = [f"{n} = {trained[i]}" for n, i in pairs if i is not None and trained[i] != n]
    if respelt:
        logger.warning(
            "%d classes are spelt differently in the checkpoint: %s",
            len(respelt),
            ", ".join(respelt),
        )
