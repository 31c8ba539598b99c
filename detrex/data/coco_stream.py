"""COCO JSON files of any size, in pieces: the memory needed does not grow with the file.

A piece that holds only what is usual is decoded by msgspec at once. Any other is read as
:mod:`detrex.data.coco` reads a small file, with its variants and its errors. Both give the same
entries.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from detrex.utils.errors import InputError

from .coco import FIELDS, LARGEST_ID, check_numbered, list_error, normalise_entries
from .coco_columns import LARGE
from .coco_kinds import KINDS, LeftOut, as_entries

LEAST_BYTES = 50  # of an annotation in a JSON
PIECE = 1 << 23  # bytes that are decoded at once
_SPACE = re.compile(rb"[ \t\r\n]*")
_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_TOKEN = re.compile(_STRING + rb'|["\[\]{}]', re.DOTALL)  # a lone " begins a string that is cut off
_SCALAR = re.compile(_STRING + rb"|[^\s,:\[\]{}\"]+", re.DOTALL)
_BETWEEN = re.compile(rb"\}[ \t\r\n]*,")  # two entries
_LIST_END = re.compile(rb"\}[ \t\r\n]*\]")
_NEAR_END = 16  # bytes: no number, true, false or null is longer to no purpose


_KINDS = {section: msgspec.json.Decoder(list[kind]) for section, kind in KINDS.items()}
_DICTS = dict.fromkeys(KINDS, msgspec.json.Decoder(list[dict]))


def is_streamed(json_file: str | os.PathLike) -> bool:
    """Whether a file has room for ``LARGE`` annotations, and looks like a JSON object in UTF-8."""
    if not os.path.isfile(json_file) or os.path.getsize(json_file) < LARGE * LEAST_BYTES:
        return False
    with contextlib.suppress(OSError), open(json_file, "rb") as file:
        start = file.read(64)
        return json.detect_encoding(start).startswith("utf-8") and start.lstrip(
            b"\xef\xbb\xbf \t\r\n"
        ).startswith(b"{")
    return False


def read_pieces(
    json_file: str | os.PathLike, left_out: list[LeftOut] | None = None
) -> Iterator[tuple[str, list]]:
    """Yield (name of a list, some of its entries) for all of a COCO JSON in UTF-8, in its order.

    Args:
        json_file: the JSON.
        left_out: gets the annotations with a value that is not of its kind, which are not yielded;
            the others are yielded as :data:`KINDS`. None: all are yielded, as dicts with whatever
            keys they have.

    Raises:
        InputError: the file is no COCO JSON; it names the byte at which the file is damaged, or the
            entry that is wrong.
    """
    with open(json_file, "rb") as file:
        yield from _Stream(json_file, file, left_out).lists()


class _Place(NamedTuple):
    """Where the entries in the buffer end, and whether they are the last ones of their list."""

    end: int
    is_last: bool


class _Stream:
    """A JSON object that is read from its beginning to its end."""

    def __init__(
        self, name: str | os.PathLike, file: object, left_out: list[LeftOut] | None
    ) -> None:
        self.name, self.file, self.left_out = name, file, left_out
        self.decoders = _DICTS if left_out is None else _KINDS
        self.buffer, self.position, self.offset = b"", 0, 0  # offset: of the buffer in the file
        self.section, self.number = "", 0  # of the next entry

    def lists(self) -> Iterator[tuple[str, list]]:
        """Yield the pieces of the lists of ``FIELDS``; all else is passed over."""
        self._fill(PIECE)
        keys: list[str] = []
        self._expect(b"{", b"\xef\xbb\xbf{")
        while self._next() != b"}":
            if keys:
                self._expect(b",")
            keys.append(self._key())
            if keys[-1] not in FIELDS:
                self._skip()
                continue
            if self._next() != b"[":
                raise list_error(self.name, keys[-1], keys)
            self.section, self.number = keys[-1], 0
            for entries in self._pieces():
                yield self.section, entries
                self.number += len(entries)
            self.section = ""
        self.position += 1
        if self._next():
            raise self._error("more follows after the end")
        for section in FIELDS.keys() - {"annotations", *keys}:
            raise list_error(self.name, section, keys)

    def _fill(self, size: int) -> bool:
        """Have ``size`` bytes after the position, if the file has them; whether there are more."""
        missing = size - (len(self.buffer) - self.position)
        more = self.file.read(missing) if missing > 0 else b""
        if more:
            self.buffer = self.buffer[self.position :] + more
            self.offset, self.position = self.offset + self.position, 0
        return bool(more)

    def _next(self) -> bytes:
        """Go to the next byte that is no white space and return it; empty at the end."""
        while True:
            self.position = _SPACE.match(self.buffer, self.position).end()
            if self.position < len(self.buffer) or not self._fill(PIECE):
                return self.buffer[self.position : self.position + 1]

    def _expect(self, *texts: bytes) -> None:
        self._next()
        for text in texts:
            if self.buffer.startswith(text, self.position):
                self.position += len(text)
                return
        raise self._error(f"{texts[0].decode()!r} is missing")

    def _key(self) -> str:
        if self._next() != b'"':
            raise self._error("a key is missing")
        try:
            key = json.loads(self._scalar())
        except ValueError:
            raise self._error("a key is damaged") from None
        self._expect(b":")
        return key

    def _scalar(self) -> bytes:
        """Read a text, number, true, false or null."""
        self._fill(PIECE)
        match = _SCALAR.match(self.buffer, self.position)
        if not match:
            raise self._error("a value is missing")
        self.position = match.end()
        return match[0]

    def _skip(self) -> None:
        """Go to the end of a value."""
        if self._next() not in (b"[", b"{"):
            self._scalar()
            return
        depth = 0
        while True:
            for token in _TOKEN.finditer(self.buffer, self.position):
                if (text := token[0]) == b'"':
                    break
                if len(text) == 1:
                    depth += 1 if text in b"[{" else -1
                self.position = token.end()
                if not depth:
                    return
            if not self._fill(len(self.buffer) - self.position + PIECE):
                raise self._error("it is cut off")

    def _pieces(self) -> Iterator[list]:
        """Yield the entries of the list that begins here."""
        self.position += 1
        is_last = False
        while not is_last:
            self._fill(PIECE)
            decoded = ((place, self._decode(place.end)) for place in self._guesses())
            place, entries = next((pair for pair in decoded if pair[1] is not None), (None, None))
            if place is None:
                place = self._scan()
                entries = self._decode(place.end)
            yield self._read_plainly(place.end) if entries is None else entries
            is_last, self.position = place.is_last, place.end
            self._expect(b"]" if is_last else b",")

    def _guesses(self) -> Iterator[_Place]:
        """Yield where the entries in the buffer may end: the last whole one, or the list's.

        A guess is right if what lies before it can be decoded: no beginning of an entry can.
        """
        end = len(self.buffer)
        for _ in range(8):
            end = self.buffer.rfind(b"}", self.position, end)
            if end < 0:
                break
            if _BETWEEN.match(self.buffer, end):
                yield _Place(end + 1, is_last=False)
                break
        if match := _LIST_END.search(self.buffer, self.position):
            yield _Place(match.start() + 1, is_last=True)

    def _text(self, end: int) -> bytes:
        return b"[%b]" % memoryview(self.buffer)[self.position : end]

    def _decode(self, end: int) -> list | None:
        """Return entries of the usual kind; None if they are not, or end elsewhere."""
        try:
            entries = self.decoders[self.section].decode(self._text(end))
        except msgspec.DecodeError:
            return None
        if self.left_out is None:
            return self._checked(entries)
        ids = [entry.id for entry in entries] or [0]
        is_usual = 0 <= min(ids) and max(ids) <= LARGEST_ID
        if self.section == "annotations":
            is_usual = is_usual and {entry.iscrowd for entry in entries} <= {0, 1}
        return entries if is_usual else None

    def _read_plainly(self, end: int) -> list:
        text = self._text(end)
        try:
            entries = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self._damage(text, error) from None
        entries = self._checked(entries)
        if self.left_out is None:
            return entries
        return list(as_entries(self.section, entries, self.left_out))

    def _checked(self, entries: list) -> list[dict]:
        normalise_entries(self.name, self.section, entries, self.number)
        for number, entry in enumerate(entries, self.number):
            check_numbered(self.name, self.section, number, entry, FIELDS[self.section])
        return entries

    def _scan(self) -> _Place:
        """Return where the whole entries of the buffer end, after reading on if there is none."""
        while True:
            depth, end = 0, None
            for token in _TOKEN.finditer(self.buffer, self.position):
                text = token[0]
                if len(text) > 1:
                    continue
                if text == b'"':
                    break
                if text in b"[{":
                    depth += 1
                elif not depth:
                    return _Place(token.start(), is_last=True)
                else:
                    depth -= 1
                    end = end if depth else token.end()
            if end is not None:
                return _Place(end, is_last=False)
            self._check_cut()
            if not self._fill(2 * (len(self.buffer) - self.position)):
                raise self._error("it is cut off")

    def _check_cut(self) -> None:
        """Raise an error if the buffer is damaged, and not only ends within an entry."""
        text = self._text(len(self.buffer))[:-1]
        try:
            json.loads(text)
        except RecursionError as error:
            raise self._damage(text, error) from None
        except UnicodeDecodeError as error:
            if error.end < len(text) - _NEAR_END:
                raise self._damage(text, error) from None
        except json.JSONDecodeError as error:
            is_cut = error.msg.startswith("Unterminated string")
            if not is_cut and len(error.doc.rstrip()) - error.pos > _NEAR_END:
                raise self._damage(text, error) from None

    def _damage(self, text: bytes, error: Exception) -> InputError:
        """Return the error for a text that begins one byte before the position."""
        place, reason = 0, str(error)
        if isinstance(error, UnicodeDecodeError):
            place, reason = error.start, f"{text[error.start]:#x} is not UTF-8"
        elif isinstance(error, json.JSONDecodeError):
            place, reason = len(error.doc[: error.pos].encode()), error.msg
        return self._error(reason, self.position + place - 1)

    def _error(self, reason: str, position: int | None = None) -> InputError:
        place = self.offset + (self.position if position is None else position)
        where = f", {self.section} from entry {self.number} on" if self.section else ""
        return InputError(f"{self.name}: not a JSON file ({reason}: byte {place}{where})")
