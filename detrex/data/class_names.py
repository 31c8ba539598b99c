"""Classes of different files that are the same, by their names.

Two names mean the same class if they are equal; or else if they differ only in case, white space,
"_" and "-"; or else if one of the names in "Cell Phone/Phone" (Objects365) does. Accents, vowel
signs, points, plus signs and emoji are part of a name. A name that fits two classes fits none.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence

from detrex.utils.errors import InputError
from detrex.utils.text import first_few


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
