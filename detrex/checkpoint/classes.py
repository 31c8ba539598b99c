"""Weights that belong to classes, taken to the classes of another data set by name.

What counts as one class: equal names; else names that differ in case, white space, "_" and "-"
only; else one of the names in "Cell Phone/Phone" (Objects365). Accents, vowel signs, points, plus
signs and emoji are part of a name. A name that two classes could mean is nobody's.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from detectron2.data import MetadataCatalog
from torch import Tensor, nn

logger = logging.getLogger(__name__)
# A class is a row of heads and label embeddings, and a column of Rank-DETR's biases.
CLASS_ROWS = re.compile(
    r"(^|\.)((class_embed\w*|cls_score)(\.\d+)?|label_enc|label_encoder)\.(weight|bias)$"
)
CLASS_COLUMNS = re.compile(r"(^|\.)rank_adaptive_classhead_emb\.\d+\.weight$")


def carry_classes(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    trained: Sequence[str] | None,
    classes: Sequence[str],
) -> dict[str, Tensor]:
    """Return weights whose class rows are the model's; what no trained class fits keeps the
    model's initial values. Says in the log which classes start anew.

    A row for "no object" or "no label" goes with them, and the head that ranks proposals by row 0
    (``model.class_agnostic_head``) keeps its first rows.

    Args:
        model: of ``classes``, in this order.
        weights: under the model's names; others, and those of no fitting shape, stay as they are.
        trained: classes of the weights. Of a file that does not say: COCO's, if it has 80 rows and
            the model another number.
    """
    expected = model.state_dict()
    axes = {name: axis for name in expected if (axis := _class_axis(name)) is not None}
    axes = {name: axis for name, axis in axes.items() if name in weights}
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
        moved = _moved(weights[name], expected[name], axis, rows, len(trained))
        carried[name] = weights[name] if moved is None else moved
    _log(trained, classes, source)
    return carried


def matching(trained: Sequence[str], classes: Sequence[str]) -> list[int | None]:
    """For every class the index of the trained class that has its name, or None.

    Stricter spellings go first; a spelling decides only where one class on either side has it.
    """
    source: dict[int, int] = {}
    taken = set()
    for spell in _SPELLINGS:
        known, asked = _by_spelling(trained, spell), _by_spelling(classes, spell)
        for word, claims in asked.items():
            if len(claims) == 1 == len(known.get(word, ())):
                (to,), (index,) = claims, known[word]
                if to not in source and index not in taken:
                    source[to] = index
                    taken.add(index)
    return [source.get(to) for to in range(len(classes))]


def _by_spelling(names: Sequence[str], spell: Callable[[str], list[str]]) -> dict[str, set[int]]:
    places = defaultdict(set)
    for index, name in enumerate(names):
        for word in spell(name):
            places[word].add(index)
    places.pop("", None)  # no name at all is no name in common
    return places


def _in_one_case(name: str) -> str:
    """Without case and with single blanks. Canonically equal letters are one letter, others not."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
    return " ".join(folded.split())


def _joined(name: str) -> str:
    """Without "_", and "-" inside, that stand for a blank, and without blanks between words."""
    words = re.sub(r"_+|(?<=\S)-(?=\S)", " ", _in_one_case(name)).split()
    return re.sub(r"(?<!\d) | (?!\d)", "", " ".join(words))  # "1 5" is not "15"


def _alternatives(name: str) -> list[str]:
    return [_joined(part) for part in re.split(r"(?<!\d)[/,](?!\d)", name)]  # 1/2 is one name


_SPELLINGS: tuple[Callable[[str], list[str]], ...] = (
    lambda name: [name],
    lambda name: [_in_one_case(name)],
    lambda name: [_joined(name)],
    _alternatives,
)


def _class_axis(name: str) -> int | None:
    return 0 if CLASS_ROWS.search(name) else 1 if CLASS_COLUMNS.search(name) else None


def _guessed(
    weights: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    axes: Mapping[str, int],
    count: int,
) -> list[str] | None:
    """Classes of a file that names none: COCO's 80, or nameless ones; None if nothing differs."""
    rows = {weights[n].shape[a] - expected[n].shape[a] + count for n, a in axes.items()}
    if len(rows) != 1 or rows == {count}:
        return None
    names = MetadataCatalog.get("coco_2017_train").thing_classes
    return names if rows == {len(names)} else [""] * rows.pop()


def _moved(
    theirs: Tensor, ours: Tensor, axis: int, rows: Sequence[int | None], trained: int
) -> Tensor | None:
    """The model's tensor with the file's rows in their places; None if the shapes do not allow."""
    extra = ours.shape[axis] - len(rows)
    shape = list(ours.shape)
    shape[axis] = trained + extra
    if extra < 0 or list(theirs.shape) != shape:
        return None
    pairs = [(to, row) for to, row in enumerate(rows) if row is not None]
    pairs += [(len(rows) + i, trained + i) for i in range(extra)]
    moved = ours.clone()
    for to, row in pairs:
        moved.select(axis, to).copy_(theirs.select(axis, row))
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
