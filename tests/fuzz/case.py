"""One spoiled data set: COCO JSON and images, to be changed and then written to disk."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from detrex.data.sample.files import make_sample_data

IMAGES = 5


@dataclass
class Case:
    """A data set in ``root``: ``data.json``, ``images/``, and ``secret.png`` beside them.

    ``content`` becomes the JSON, unless a mutation sets ``text``, the file's bytes.
    """

    root: Path
    content: dict
    sound: Path  # folder of the images before anything happened to them
    text: bytes | None = None
    done: list[str] = field(default_factory=list)  # names of the mutations

    @property
    def json(self) -> Path:
        return self.root / "data.json"

    @property
    def images(self) -> Path:
        return self.root / "images"

    def file(self, image: dict) -> Path:
        """Where the mutations find an image's file."""
        return self.images / str(image["file_name"])

    def save(self) -> None:
        text = json.dumps(self.content).encode() if self.text is None else self.text
        self.json.write_bytes(text)


class Original:
    """A few images of the sample data, cut to different sizes, as JPEG and PNG."""

    def __init__(self, folder: Path):
        make_sample_data(folder / "sample", train=IMAGES, val=1, size=128)
        source = json.loads((folder / "sample" / "train.json").read_text())
        self.folder, self.content = folder / "images", source
        self.folder.mkdir()
        for number, entry in enumerate(source["images"]):
            suffix = ".png" if number == 3 else ".jpg"
            width, height = 128 - 8 * number, 96 + 8 * number
            picture = Image.open(folder / "sample" / "train" / entry["file_name"])
            entry.update(file_name=f"{number}{suffix}", width=width, height=height)
            picture.crop((0, 0, width, height)).save(self.folder / entry["file_name"], quality=92)
        Image.new("RGB", (128, 96), "red").save(folder / "secret.png")
        self.secret = folder / "secret.png"

    def case(self, root: Path) -> Case:
        """A fresh copy in the new folder ``root``."""
        shutil.copytree(self.folder, root / "images")
        shutil.copy(self.secret, root / "secret.png")
        return Case(root, copy.deepcopy(self.content), self.folder)
