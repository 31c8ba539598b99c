"""What people and programs do to a data set's folder: names, endings, encodings, losses.

HARMLESS: every image and box must still be read. HARMFUL: what is lost must be named, or one line
refuses the data.
"""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

from PIL import Image

from detrex.data.formats.text import read_text

IMAGE_ENDINGS = (".JPG", ".jpeg", ".jfif", ".png", ".PNG", ".gif", ".bmp")
TEXTS = (".xml", ".json", ".txt", ".csv", ".yaml")
VALIDATION = "Val VAL valid Validation dev val_2024 evaluation".split()


def files(root: Path, *endings: str) -> list[Path]:
    return sorted(p for p in root.rglob("*") if p.is_file() and p.suffix.lower() in endings)


def other_image_endings(root: Path, random: Random) -> None:
    for path in files(root, ".jpg"):
        path.rename(path.with_suffix(random.choice(IMAGE_ENDINGS)))


def other_validation_folder(root: Path, random: Random) -> None:
    """Folders and files that are called val, but not what texts say of them."""
    name = random.choice(VALIDATION)
    for path in sorted(root.rglob("val*"), reverse=True):
        if not path.is_file() or path.suffix.lower() in TEXTS:
            path.rename(path.with_name(re.sub("val(id(ation)?)?", name, path.name)))


def byte_order_marks(root: Path, random: Random) -> None:
    encoding = random.choice(["utf-8-sig", "utf-16", "utf-8"])
    for path in files(root, *TEXTS):
        text = read_text(path)
        path.write_bytes(text.replace("\n", "\r\n").encode(encoding))


def backslashes(root: Path, random: Random) -> None:
    for path in files(root, ".csv", ".yaml", ".txt"):
        path.write_text(read_text(path).replace("images/", "images\\"))


def unpacked_twice(root: Path, random: Random) -> None:
    inside = root / "archive" / "the data"
    inside.mkdir(parents=True)
    for path in [p for p in root.iterdir() if p.name != "archive"]:
        path.rename(inside / path.name)


def leftovers_of_programs(root: Path, random: Random) -> None:
    for folder in [root, *(p for p in root.rglob("*") if p.is_dir())]:
        (folder / "._a.jpg").write_bytes(b"\0")
        (folder / ".DS_Store").write_bytes(b"\0")
    (root / "__MACOSX").mkdir()
    (root / "__MACOSX" / "a.jpg").write_bytes(b"\0")
    (root / "README.txt").write_text("birds\n")


def upper_case_endings(root: Path, random: Random) -> None:
    for path in files(root, ".xml", ".txt"):
        if "ImageSets" not in path.parts:
            path.rename(path.with_suffix(path.suffix.upper()))


def saved_by_a_spreadsheet(root: Path, random: Random) -> None:
    """Of a country that writes 9,5 for 9.5."""
    for path in files(root, ".csv"):
        if "bbox" not in path.name and "boxable" not in path.name:  # Open Images' have one form
            text = re.sub(r"(?<=\d)\.(?=\d)", ",", read_text(path).replace(",", ";"))
            path.write_text(random.choice(["sep=;\r\n", ""]) + text, encoding="utf-8")


def masks_beside_annotations(root: Path, random: Random) -> None:
    for path in files(root, ".xml"):
        image = next((p for p in files(root, ".jpg") if p.stem == path.stem), None)
        if image is not None:
            (path.parent / "masks").mkdir(exist_ok=True)
            Image.open(image).save(path.parent / "masks" / f"{path.stem}.png")


def lost_image(root: Path, random: Random) -> None:
    random.choice(files(root, ".jpg", ".png")).unlink()


def lost_annotations(root: Path, random: Random) -> None:
    random.choice(files(root, *TEXTS)).unlink()


def cut_file(root: Path, random: Random) -> None:
    path = random.choice(files(root, *TEXTS))
    content = path.read_bytes()
    path.write_bytes(content[: random.randrange(len(content) + 1)])


def noise(root: Path, random: Random) -> None:
    path = random.choice(files(root, ".jpg", *TEXTS))
    content = bytearray(path.read_bytes())
    for _ in range(random.choice([1, 3, 100]) if content else 0):
        content[random.randrange(len(content))] = random.randrange(256)
    path.write_bytes(content)


def odd_numbers(root: Path, random: Random) -> None:
    path = random.choice(files(root, *TEXTS))
    text = read_text(path)
    digits = [i for i, c in enumerate(text) if c.isdigit()]
    for place in random.sample(digits, min(2, len(digits))):
        odd = random.choice(["nan", "-inf", "1e400", "0_1", "", "-", "\u0663"])
        text = text[:place] + odd + text[place + 1 :]
    path.write_text(text, encoding="utf-8")


def stray_files(root: Path, random: Random) -> None:
    folder = random.choice([p.parent for p in files(root, ".jpg", ".png")])
    for name in ("stray.jpg", "stray.txt", "stray.xml", "stray.json", "stray.csv", "stray.heic"):
        if random.random() < 0.5:
            (folder / name).write_bytes(random.randbytes(20))


HARMLESS = [
    other_image_endings,
    other_validation_folder,
    byte_order_marks,
    backslashes,
    unpacked_twice,
    leftovers_of_programs,
    upper_case_endings,
    saved_by_a_spreadsheet,
    masks_beside_annotations,
]
HARMFUL = [lost_image, lost_annotations, cut_file, noise, odd_numbers, stray_files]
