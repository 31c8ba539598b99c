"""What can be wrong in a COCO JSON. Each function spoils a case with the given randomness."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from functools import partial
from random import Random

from tests.fuzz.case import Case

NAN, INF, HUGE = float("nan"), float("inf"), 10**40
ODD = [None, "", "7", 1.5, NAN, True, [], {}, HUGE, -1]
BOXES = {
    "nan": lambda x, y, w, h: [x, NAN, w, h],
    "infinite": lambda x, y, w, h: [x, y, INF, h],
    "1e308": lambda x, y, w, h: [-1e308, -1e308, 1e308, 1e308],
    "1e308 wide": lambda x, y, w, h: [x, y, 1e308, 1e308],
    "40 digits": lambda x, y, w, h: [x, y, HUGE, h],
    "negative": lambda x, y, w, h: [x, y, -w, h],
    "without area": lambda x, y, w, h: [x, y, w, 0],
    "tiny": lambda x, y, w, h: [x, y, 1e-6, h],
    "outside": lambda x, y, w, h: [x + 1000, y, w, h],
    "partly outside": lambda x, y, w, h: [x - w / 2, y - 3.25, w, h + 500],
    "strings": lambda x, y, w, h: [str(x), str(y), str(w), str(h)],
    "three": lambda x, y, w, h: [x, y, w],
    "null": lambda x, y, w, h: None,
    "object": lambda x, y, w, h: {"x": x, "y": y, "w": w, "h": h},
    "booleans": lambda x, y, w, h: [True, True, True, True],
}


def box(kind: str, case: Case, random: Random) -> None:
    for annotation in random.sample(case.content["annotations"], random.randint(1, 4)):
        annotation["bbox"] = BOXES[kind](*annotation["bbox"])


def section(kind: str, case: Case, random: Random) -> None:
    name = random.choice(["images", "annotations", "categories"])
    entries = case.content[name]
    if kind == "missing":
        del case.content[name]
    elif kind == "empty":
        case.content[name] = []
    elif kind == "odd":
        case.content[name] = random.choice([None, {}, "x", 5, [None], [[]], ["x"], [1]])
    elif kind == "odd entry":
        entries[random.randrange(len(entries))] = random.choice(ODD)
    else:
        random.shuffle(entries)


def missing_key(case: Case, random: Random) -> None:
    entry = random.choice(case.content[random.choice(["images", "annotations", "categories"])])
    del entry[random.choice(list(entry))]


def odd_value(case: Case, random: Random) -> None:
    entry = random.choice(case.content[random.choice(["images", "annotations", "categories"])])
    entry[random.choice(list(entry))] = random.choice(ODD)


def duplicate_id(name: str, case: Case, random: Random) -> None:
    first, second = random.sample(case.content[name], 2)
    second["id"] = first["id"]


def odd_id(case: Case, random: Random) -> None:
    """Ids of another kind or size, with all references to them."""
    for name, key in (("images", "image_id"), ("categories", "category_id")):
        if random.random() < 0.5:
            change = random.choice([str, float, lambda i: -i, lambda i: i + 2**60, lambda i: i - 1])
            for entry in case.content[name]:
                entry["id"] = change(entry["id"])
            for annotation in case.content["annotations"]:
                annotation[key] = change(annotation[key])


def unknown_reference(key: str, case: Case, random: Random) -> None:
    random.choice(case.content["annotations"])[key] = random.choice([0, 999, -1])


def sparse_categories(case: Case, random: Random) -> None:
    new = dict(enumerate(random.sample(range(1000), len(case.content["categories"])), 1))
    for category in case.content["categories"]:
        category["id"] = new[category["id"]]
    for annotation in case.content["annotations"]:
        annotation["category_id"] = new[annotation["category_id"]]


def image_size(case: Case, random: Random) -> None:
    image = random.choice(case.content["images"])
    odd = [image["width"] + 1, 0, -5, "128", 128.0, HUGE, None, True, image["height"]]
    image[random.choice(["width", "height"])] = random.choice(odd)


def parts(case: Case, random: Random) -> None:
    """Boxes of all annotations, or of one, as parts of the image."""
    sizes = {image["id"]: (image["width"], image["height"]) for image in case.content["images"]}
    some = case.content["annotations"][: random.choice([1, None])]
    for annotation in some:
        (x, y, w, h), (width, height) = annotation["bbox"], sizes[annotation["image_id"]]
        annotation["bbox"] = [x / width, y / height, w / width, h / height]


def mask_alone(case: Case, random: Random) -> None:
    for annotation in random.sample(case.content["annotations"], 3):
        x, y, w, h = annotation.pop("bbox")
        annotation["segmentation"] = [
            [x, y, x + w, y, x + w, y + h],
            [x, y + h / 2, x, y, x, y + h],
        ]
        annotation |= random.choice([{}, {"bbox": []}, {"bbox": None}])


def one_file_twice(case: Case, random: Random) -> None:
    first, second = random.sample(case.content["images"], 2)
    second.update({key: first[key] for key in ("file_name", "width", "height")})


def crowd(case: Case, random: Random) -> None:
    for annotation in random.sample(case.content["annotations"], 3):
        annotation["iscrowd"] = random.choice([1, True, 0.0, "0", "1", None, 2, NAN])


def all_crowd(case: Case, random: Random) -> None:
    for annotation in case.content["annotations"]:
        annotation["iscrowd"] = 1


def area(case: Case, random: Random) -> None:
    for annotation in case.content["annotations"]:
        del annotation["area"]
    for annotation in case.content["annotations"][: random.choice([0, 1, 1, 1, None])]:
        annotation["area"] = random.choice([*ODD, 0, 1e9, INF])


def other_keys(case: Case, random: Random) -> None:
    """Keys that detection does not read, as odd as they come."""
    for name, key in (
        *(("images", key) for key in ("license", "coco_url", "date_captured", "flickr_url")),
        *(("annotations", key) for key in ("segmentation", "keypoints", "num_keypoints", "score")),
        *(("categories", key) for key in ("supercategory", "skeleton", "keypoints")),
    ):
        random.choice(case.content[name])[key] = random.choice([*ODD, [[1, 2]], {"counts": "x"}])
    case.content["info"], case.content["licenses"] = random.choice(ODD), random.choice(ODD)


def category_name(case: Case, random: Random) -> None:
    names = [
        "Vögel 鳥",
        "a/b",
        "two words",
        "new\nline",
        "",
        5,
        None,
        "0",
        "\x00",
        "%s{}",
    ]
    random.choice(case.content["categories"])["name"] = random.choice(names)


def renamed(case: Case, random: Random) -> None:
    """Names that exist, but that some programs cannot read."""
    image = random.choice(case.content["images"])
    name = random.choice(
        ["鳥 und Vögel", "with  space", "new\nline", "e\u0301", "%s{}", "#a?b", "-rf", "a/b/c", "~"]
    )
    new = case.images / f"{name}.jpg"
    new.parent.mkdir(parents=True, exist_ok=True)
    os.replace(case.file(image), new)
    image["file_name"] = random.choice([f"{name}.jpg", str(new), f"./{name}.jpg"])


def wrong_name(case: Case, random: Random) -> None:
    names = ["", ".", "..", "no.jpg", "no/0.jpg", "a\x00b", "new\nline.jpg", " "]
    random.choice(case.content["images"])["file_name"] = random.choice(names)


def leaves_the_folder(case: Case, random: Random) -> None:
    """Every way to name ``secret.png``, which is beside the image folder."""
    (case.images / "away").symlink_to(case.root)
    (case.images / "deep").symlink_to(case.images, target_is_directory=True)
    (case.images / "secret.png").write_bytes(b"not the secret")
    secret = case.root / "secret.png"
    image = random.choice(case.content["images"])
    image["file_name"] = random.choice(
        [
            *("../secret.png", "x/../../secret.png", "./../secret.png", "..//secret.png"),
            *("deep/../secret.png", "/etc/hostname", str(secret), f"{case.images}/../secret.png"),
            f"../{case.root.name}/secret.png",
        ]
    )
    image.update(width=128, height=96)


def link(case: Case, random: Random) -> None:
    image = random.choice(case.content["images"])
    path, elsewhere = case.file(image), case.root / "elsewhere"
    shutil.move(path, elsewhere)
    path.symlink_to(random.choice([elsewhere, case.root / "gone", path]))


def windows_name(case: Case, random: Random) -> None:
    """Backslashes between folders, some with a way out of the image folder and in again."""
    image = random.choice(case.content["images"])
    path, name = case.file(image), f"a b\\{image['file_name']}"
    (case.images / "a b").mkdir()
    path.rename(case.images / name.replace("\\", "/"))
    image["file_name"] = random.choice([name, f"..\\images\\{name}", f"..\\data\\{name}"])


def odd_neighbour(case: Case, random: Random) -> None:
    """Something in the image folder that the JSON does not name."""
    path = case.images / "0.odd"
    random.choice([lambda: path.symlink_to(path), lambda: os.mkfifo(path), path.mkdir])()


def no_file(case: Case, random: Random) -> None:
    path = case.file(random.choice(case.content["images"]))
    path.unlink()
    random.choice([lambda: None, path.mkdir, lambda: os.mkfifo(path)])()


def text(kind: str, case: Case, random: Random) -> None:
    whole = json.dumps(case.content).encode()
    case.text = {
        "truncated": lambda: whole[: random.randrange(len(whole))],
        "byte order mark": lambda: b"\xef\xbb\xbf" + whole,
        "utf-16": lambda: json.dumps(case.content).encode("utf-16"),
        "nothing": lambda: b"",
        "other type": lambda: random.choice([b"null", b"[]", b"3", b'"x"', b"NaN", b"true"]),
        "nested": lambda: b"[" * 200_000,
        "garbage behind": lambda: whole + b"]",
        "single quotes": lambda: repr(case.content).encode(),
        "twice": lambda: whole[:-1] + b', "images": []}',
        "lines": lambda: b"\n".join(json.dumps(e).encode() for e in case.content["images"]),
        "gzip": lambda: gzip.compress(whole),
        "long number": lambda: whole.replace(b'"id": 1,', b'"id": 1' + b"0" * 5000 + b","),
        "bytes changed": lambda: _changed(whole, random),
    }[kind]()


def _changed(content: bytes, random: Random) -> bytes:
    spoiled = bytearray(content)
    for _ in range(random.randint(1, 3)):
        spoiled[random.randrange(len(spoiled))] = random.choice(b'0123456789-.eE"[]{}:, a\xff')
    return bytes(spoiled)


def untouched(case: Case, random: Random) -> None:
    pass


TEXTS = (
    *("truncated", "byte order mark", "utf-16", "nothing", "other type", "nested", "long number"),
    *("garbage behind", "single quotes", "twice", "bytes changed", "lines", "gzip"),
)
MUTATIONS = {
    "untouched": untouched,
    **{f"box: {kind}": partial(box, kind) for kind in BOXES},
    **{
        f"list: {kind}": partial(section, kind)
        for kind in ("missing", "empty", "odd", "odd entry", "shuffled")
    },
    "key missing": missing_key,
    "odd value": odd_value,
    **{
        f"duplicate id: {name}": partial(duplicate_id, name)
        for name in ("images", "annotations", "categories")
    },
    "odd ids": odd_id,
    "unknown image": partial(unknown_reference, "image_id"),
    "unknown category": partial(unknown_reference, "category_id"),
    "sparse categories": sparse_categories,
    "image size": image_size,
    "crowd": crowd,
    "all crowd": all_crowd,
    "area": area,
    "boxes as parts": parts,
    "mask alone": mask_alone,
    "one file twice": one_file_twice,
    "other keys": other_keys,
    "category name": category_name,
    "file name unusual": renamed,
    "file name wrong": wrong_name,
    "file outside": leaves_the_folder,
    "file is a link": link,
    "file name of Windows": windows_name,
    "odd neighbour": odd_neighbour,
    "no file": no_file,
    **{f"JSON: {kind}": partial(text, kind) for kind in TEXTS},
}
