"""Class weights of a checkpoint, carried over by name to the classes of another data set.

Two names mean the same class if they are equal; or else if they differ only in case, white space,
"_" and "-"; or else if one of the names in "Cell Phone/Phone" (Objects365) does. Accents, vowel
signs, points, plus signs and emoji are part of a name. A name that fits two classes fits none.
"""

from __future__ import annotations

import difflib
import logging
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from detectron2.data import MetadataCatalog
from torch import Tensor, nn

from detrex.utils.errors import InputError
from detrex.utils.text import first_few

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


def matching(trained: Sequence[str], classes: Sequence[str]) -> list[int | None]:
    """Return for every class the index of the trained class with its name, or None.

    Stricter spellings decide first; a spelling decides only if one class on each side has it.
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


def indices_of(names: Sequence[str], classes: Sequence[str], where: str) -> list[int]:
    """Return the index of each class by its name, as :func:`matching` compares them.

    Args:
        names: of some of the classes.
        classes: all of them.
        where: the key or option that has the names, for messages.

    Raises:
        InputError: a name that is none of the classes'; the nearest ones are named.
    """
    indices = matching(classes, names)
    if None in indices:
        name = names[indices.index(None)]
        near = difflib.get_close_matches(name, classes, cutoff=0.4) or classes
        raise InputError(f"{where}: no class is called {name!r}: there are {first_few(near)}")
    return indices


def _by_spelling(names: Sequence[str], spell: Callable[[str], list[str]]) -> dict[str, set[int]]:
    indices = defaultdict(set)
    for index, name in enumerate(names):
        for word in spell(name):
            indices[word].add(index)
    indices.pop("", None)  # two classes without names are not the same class
    return indices


def _in_one_case(name: str) -> str:
    """Return a name in one case, one Unicode normal form and with single blanks."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
    return " ".join(folded.split())


def _joined(name: str) -> str:
    """Return a name without blanks between words, and without "_" and "-" for them."""
    words = re.sub(r"_+|(?<=\S)-(?=\S)", " ", _in_one_case(name)).split()
    return re.sub(r"(?<!\d) | (?!\d)", "", " ".join(words))  # "1 5" is not "15"


def _alternatives(name: str) -> list[str]:
    return [_joined(name) for name in re.split(r"(?<!\d)[/,](?!\d)", name)]  # 1/2 is one name


_SPELLINGS: tuple[Callable[[str], list[str]], ...] = (
    lambda name: [name],
    lambda name: [_in_one_case(name)],
    lambda name: [_joined(name)],
    _alternatives,
)


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
