"""Arrays of pickles are built of names and bytes; nothing in a file chooses more than that."""

import io
import pickle
import struct
import zipfile
from argparse import Namespace
from collections import OrderedDict, defaultdict

import numpy as np
import pytest
import torch

from detrex.checkpoint import read_checkpoint
from detrex.checkpoint.pickles import RECORDS, read_pickle
from detrex.utils.errors import InputError

DTYPES = ["?", "i1", "u8", ">i4", "<f2", "f4", ">f8", "c8", "c16"]
ARRAY, EMPTY, MARK, STOP = b"cnumpy.core.multiarray\n_reconstruct\n", b")", b"(", b"."


def text(value):
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def raw(value):
    """As protocol 2 has bytes, which torch's reader knows."""
    return b"c_codecs\nencode\n" + text(value.decode("latin1")) + text("latin1") + b"\x86R"


def whole(value):
    return b"\x8a\x08" + struct.pack("<q", value)


def dtype(code, state=b""):
    return b"cnumpy\ndtype\n" + text(code) + b"\x89\x88\x87R" + (state and state + b"b")


def dtype_state(order="<", names=b"N", fields=b"N"):
    return (
        MARK + whole(3) + text(order) + b"N" + names + fields + whole(8) + whole(1) + b"J?\0\0\0t"
    )


F4 = dtype("f4", dtype_state())


def array(shape, of, content):
    sizes = MARK + b"".join(map(whole, shape)) + b"t"
    args = b"cnumpy\nndarray\nK\0\x85" + raw(b"b") + b"\x87"
    return ARRAY + args + b"R" + MARK + whole(1) + sizes + of + b"\x89" + raw(content) + b"tb"


def pickled(value, key=None):
    return b"\x80\x02}" + (text("weight") if key is None else key) + value + b"s" + STOP


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("code", DTYPES)
def test_arrays_and_numbers_of_every_plain_kind_come_back(tmp_path, code, protocol):
    values = (np.arange(24) % 7).astype(code).reshape(2, 3, 4)
    content = {
        "rows": values,
        "columns": np.asfortranarray(values),
        "none": values[:0],
        "number": values[1, 1, 1],
        "shared": [values, values],
        "tuple": (1, b"bytes", None),
        "ordered": OrderedDict(a=1),
    }
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    found = read_pickle(path)
    for name in ("rows", "columns", "none", "number"):
        assert np.array_equal(found[name], content[name]) and found[name].dtype.isnative
        assert found[name].dtype == content[name].dtype.newbyteorder("=")
        assert found[name].shape == content[name].shape
    assert found["shared"][0] is found["shared"][1] is found["rows"]
    assert found["tuple"] == content["tuple"] and found["ordered"] == {"a": 1}
    assert type(found["ordered"]) is dict


def test_the_hand_made_pickles_are_right_but_for_what_is_wrong_with_them(tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickled(array([2, 1], F4, struct.pack("<2f", 1.5, 2))))
    assert read_pickle(path)["weight"].tolist() == [[1.5], [2]]


POINTER = dtype_state("|", text("a") + b"\x85", b"}" + text("a") + dtype("O8") + b"K\0\x86s")
EVIL = {
    "an object's address": array([1], dtype("V8", POINTER), b"A" * 8),
    "objects": array([1], dtype("O8", dtype_state("|")), b"A" * 8),
    "fields of a plain kind": array(
        [1], dtype("f8", dtype_state(fields=b"}" + text("a") + b"K\1s")), b"A" * 8
    ),
    "text": array([1], dtype("U2", dtype_state()), b"A" * 8),
    "more elements than bytes": array([10**12], F4, b"A" * 8),
    "fewer elements than bytes": array([1], F4, b"A" * 8),
    "a negative size": array([-2], F4, b"A" * 8),
    "many axes": array([1] * 40, F4, b"A" * 4),
    "no order of bytes": array([1], dtype("f4"), b"A" * 4),
    "an array of an empty type": b"cnumpy\nndarray\n" + whole(10**12) + b"\x85R",
    "an array made without a call": b"cnumpy\nndarray\n" + whole(10**12) + b"\x85\x81",
    "a type changed": b"cnumpy\ndtype\n}" + text("__init__") + text("x") + b"sb",
    "a type changed by slots": b"cnumpy\ndtype\nN}" + text("value") + text("x") + b"s\x86b",
    "another encoding": b"c_codecs\nencode\n" + text("x") + text("zlib") + b"\x86R",
    "a number of too few bytes": b"cnumpy.core.multiarray\nscalar\n" + F4 + raw(b"A") + b"\x86R",
    "itself": ARRAY + b")Rq\0(K\1)" + F4 + b"\x89h\0tb",
}


@pytest.mark.parametrize("suffix", [".pkl", ".pth"])
@pytest.mark.parametrize("value", EVIL.values(), ids=EVIL)
def test_arrays_that_are_not_plain_are_refused(tmp_path, value, suffix):
    members = {name: dict(vars(record)) for name, record in RECORDS.items()}
    path = tmp_path / f"w{suffix}"
    write(path, pickled(value))
    with pytest.raises(InputError, match=f"w{suffix}") as error:
        read_checkpoint(path)
    assert "\n" not in str(error.value)
    assert members == {name: dict(vars(record)) for name, record in RECORDS.items()}


def write(path, content):
    """A pickle as a file of this kind: of torch, within an archive."""
    if path.suffix == ".pkl":
        path.write_bytes(content)
        return
    torch.save({}, path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, content if name.endswith("data.pkl") else part)


def number(i):
    return struct.pack("<I", i)


# 2,000 lists that are kept under numbers, then each put into the one before: no list that is put
# into another holds anything yet.
FROM_OUTSIDE = (
    b"\x80\x02"
    + b"".join(b"]r" + number(i) for i in range(2000))
    + b"".join(b"j" + number(i) + b"j" + number(i + 1) + b"a" for i in range(1999))
    + pickled(b"j" + number(0))[2:]
)


@pytest.mark.parametrize("suffix", [".pkl", ".pth", ".bin"])
@pytest.mark.parametrize(
    "content",
    [
        pickled(b"N", key=EMPTY + b"\x85" * 200_000),  # hashing it needs a stack of 200,000 calls
        pickled(EMPTY + b"\x85" * 200_000),
        pickled(b"]" * 200_000 + b"a" * 199_999),
        pickled(MARK + b"0" + EMPTY + b"\x85" * 200_000, key=EMPTY),
        FROM_OUTSIDE,
        b"\x80\x02}r\xff\xff\xff\x7f.",  # as the 2,147,483,647th value
    ],
    ids=["tuple as key", "tuples", "lists", "hidden", "lists from outside", "number"],
)  # fmt: skip
def test_nesting_is_bounded(tmp_path, content, suffix):
    path = tmp_path / f"w{suffix}"
    write(path, content)
    with pytest.raises(InputError, match=f"w{suffix}"):
        read_checkpoint(path)


def test_shared_parts_are_made_once(tmp_path):
    content = [1.0]
    for _ in range(60):  # 2 ** 60 values if each were made
        content = [content, content]
    for path in (tmp_path / "a.pkl", tmp_path / "a.pth"):
        model = {"a": np.ones(2, np.float32)}
        if path.suffix == ".pkl":
            path.write_bytes(pickle.dumps({"model": model, "x": content}))
        else:
            torch.save({"model": model, "x": content}, path)
        found = read_checkpoint(path)
        assert found["model"]["a"].equal(torch.ones(2)) and found["x"][0] is found["x"][1]


def test_containers_of_others_become_plain_ones(tmp_path):
    content = {
        "model": {"a": torch.ones(1)},
        "args": Namespace(lr=1e-4, names=["x"]),
        "none": defaultdict(list),
        "best": np.float64(3),
    }
    torch.save(content, tmp_path / "a.pth")
    found = read_checkpoint(tmp_path / "a.pth")
    assert found["args"] == {"lr": 1e-4, "names": ["x"]} and found["none"] == {}
    assert found["best"] == 3 and type(found["best"]) is np.float64


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_archives_that_unpack_to_more_than_they_have_are_refused(tmp_path, method):
    path = tmp_path / "bomb.pth"
    torch.save({"model": {"a": torch.zeros(1)}}, path)
    with zipfile.ZipFile(path, "a", method) as archive:
        archive.writestr("archive/data/1", bytes(10_000_000))
    if method == zipfile.ZIP_STORED:  # the same bytes, for the size of an entry, again and again
        content = path.read_bytes()
        with zipfile.ZipFile(path) as archive:
            start = archive.start_dir
        entries, rest = content[start:-22], bytearray(content[-22:])
        count = len(zipfile.ZipFile(io.BytesIO(content)).infolist())
        rest[8:12] = struct.pack("<HH", 9 * count, 9 * count)
        rest[12:16] = struct.pack("<I", 9 * len(entries))
        path.write_bytes(content[:start] + 9 * entries + rest)
    with pytest.raises(InputError, match="bomb.pth unpacks to [0-9]+ bytes, more than it has"):
        read_checkpoint(path)


@pytest.mark.parametrize("twice", [b"2", b"q\1h\1"], ids=["DUP", "memo"])
def test_a_tuple_that_doubles_is_refused_before_it_is_hashed(tmp_path, twice):
    path = tmp_path / "odd.pkl"
    path.write_bytes(pickled(b"K\1", key=b"K\1\x85" + 60 * (twice + b"\x86")))
    with pytest.raises(InputError, match="a tuple in it has more than 1,000,000 values"):
        read_checkpoint(path)


def test_dicts_that_hold_one_another_many_times_are_looked_at_once(tmp_path):
    content = {"a": {"weight": torch.ones(2)}}
    for _ in range(3):
        content = {str(i): content for i in range(300)}
    torch.save(content, tmp_path / "odd.pth")
    assert read_checkpoint(tmp_path / "odd.pth")["model"].keys() == {"weight"}
