"""The report on a data set: counts, oddities, pictures."""

from __future__ import annotations

import contextlib
import json
import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from matplotlib.figure import Figure
from omegaconf import DictConfig

from detrex.data.box_counts import count_boxes
from detrex.data.coco_columns import class_names
from detrex.data.coco_index import read_all
from detrex.data.formats import Split
from detrex.data.image_files import ImagePaths, equal_files
from detrex.data.oddities import Oddities, Oddity, find_oddities
from detrex.evaluation.coco_scores import SIZE_LIMITS
from detrex.utils.errors import InputError
from detrex.utils.files import atomic_write
from detrex.utils.text import first_few

from .contact_sheet import LEGEND, contact_sheet
from .object_limits import limit_lines
from .pictures import column_samples, side_by_side

EXAMPLES, BARS = 3, 60  # of an oddity in the text; classes in the picture
WRITTEN = "report.json train.json val.json train.png val.png classes.png".split()
# Names that files and folders of many data sets have: the folder above them names the data set.
GENERIC = r"_?(annotations(\.coco)?|instances_\w+|data(set)?|images|train|val(id)?|test)(20\d\d)?"


@dataclass(frozen=True)
class SplitReport:
    """Counts of a split.

    Attributes:
        json_file: the split in COCO's format.
        images: folder of its images.
        origin: the files that say which images belong to the split.
        image_count: all images.
        without_objects: images without a box that is trained on.
        boxes: all boxes.
        trained: boxes that are trained on: no crowd regions, and with an area inside the image.
        crowds: boxes that are crowd regions.
        most: trained boxes of the fullest image.
        most_of_a_class: the most trained boxes of one class in an image.
        sizes: trained boxes that are small, medium and large as COCO's scores count them.
        classes: class name -> all boxes.
        oddities: kind -> where.
    """

    json_file: str
    images: str
    origin: str
    image_count: int
    without_objects: int
    boxes: int
    trained: int
    crowds: int
    most: int
    most_of_a_class: int
    sizes: tuple[int, int, int]
    classes: dict[str, int]
    oddities: Oddities


def data_name(data: Path, classes: Sequence[str] = ()) -> str:
    """A name for the data of a file or folder, or for some of its classes; letters and digits."""
    path = data.with_suffix("") if data.is_file() else data
    while re.fullmatch(GENERIC, path.name) and path.parent.name:
        path = path.parent
    return re.sub(r"\W+", "_", "_".join([path.name, *classes])[:100])


def claim_folder(folder: Path, data: str) -> None:
    """Begin the folder's ``report.json``, which names the data it describes, and which classes.

    Raises:
        InputError: files of other data would be replaced.
    """
    if file := next((name for name in WRITTEN if (folder / name).exists()), None):
        source = described_data(folder)
        if source != data:
            what = f"what was made of {source}" if source else f"a {file} of other origin"
            raise InputError(f"{folder}: holds {what}: choose another folder with -o")
    write_report(folder, {"data": data})


def described_data(folder: Path) -> str | None:
    """Return the data that the folder's ``report.json`` describes; None if there is none."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        return json.loads((folder / WRITTEN[0]).read_text(encoding="utf-8"))["data"]
    return None


def write_report(folder: Path, content: dict) -> None:
    """Write ``report.json``."""
    with atomic_write(folder / WRITTEN[0]) as stream:
        json.dump(content, stream, indent=1)


def check_split(split: Split, json_file: Path, training: bool = True) -> SplitReport:
    """Count and check a split that is saved as ``json_file``, for training or validation.

    Raises:
        InputError: the JSON is not in COCO's format.
    """
    columns = read_all(str(json_file))
    counts, left_out = count_boxes(columns, SIZE_LIMITS), columns.summary.left_out
    of_class = Counter(dict(zip(columns.categories, counts.of_class.tolist(), strict=True)))
    of_class.update(entry.category_id for entry in left_out)
    return SplitReport(
        json_file=str(json_file),
        images=str(split.images),
        origin=split.origin,
        image_count=len(columns.image_id),
        without_objects=int((~columns.has_objects).sum()),
        boxes=len(columns.id) + len(left_out),
        trained=sum(counts.sizes),
        crowds=int((columns.iscrowd == 1).sum()),
        most=counts.most,
        most_of_a_class=counts.most_of_a_class,
        sizes=counts.sizes,
        classes=dict(zip(class_names(columns), map(of_class.get, columns.categories), strict=True)),
        oddities={**split.problems, **find_oddities(columns, split.images, training)},
    )


def shared_images(reports: Mapping[str, SplitReport]) -> Oddities:
    """Images that occur twice: within a split or, worse, in both."""
    files = {
        split: ImagePaths(r.json_file, r.images, read_all(r.json_file))
        for split, r in reports.items()
    }
    oddities: Oddities = {}
    for group in equal_files(files):
        leaked = len({split for split, _ in group}) > 1
        kind = "images in training and validation" if leaked else "images that are there twice"
        oddities.setdefault(kind, []).append(" = ".join(path for _, path in group))
    return oddities


def as_text(reports: Mapping[str, SplitReport], shared: Oddities, cfg: DictConfig) -> str:
    """The report to read, with advice on a config that has no room for all objects."""
    lines = []
    for name, r in reports.items():
        lines += [
            f"{name}: {r.image_count} images ({r.without_objects} without objects), {r.boxes} boxes"
            f" (at most {r.most} in an image); small {r.sizes[0]}, medium {r.sizes[1]},"
            f" large {r.sizes[2]}",
            f"  {r.origin}",
            f"  {r.json_file}",
        ]
        if r.trained < r.boxes:
            left_out = f"{r.boxes - r.trained} boxes are not trained on"
            lines.insert(-1, f"  {left_out}, {r.crowds} are crowd regions")
    classes = dict.fromkeys(c for r in reports.values() for c in r.classes)
    counts = {c: [r.classes.get(c, 0) for r in reports.values()] for c in classes}
    width = max(map(len, counts))
    lines += [f"{len(counts)} classes, boxes in {', '.join(reports)}:"]
    lines += [f"  {c:<{width}}" + "".join(f"{n:>9}" for n in row) for c, row in counts.items()]
    odd = _oddity_lines({**{f"{s}: ": r.oddities for s, r in reports.items()}, "": shared})
    odd += limit_lines(cfg, *most_objects(reports))
    return "\n".join([*lines, *(odd or ["nothing odd"])])


def most_objects(reports: Mapping[str, SplitReport]) -> tuple[int, int]:
    """Return the most objects of an image, and the most of one class."""
    values = reports.values()
    return max(r.most for r in values), max(r.most_of_a_class for r in values)


def _oddity_lines(oddities: Mapping[str, Oddities]) -> list[str]:
    lines = []
    for prefix, kinds in oddities.items():
        for kind, entries in kinds.items():
            more = len(entries) - EXAMPLES
            examples = "; ".join(entries[:EXAMPLES]) + (f", and {more} more" if more > 0 else "")
            lines.append(f"! {prefix}{len(entries)} {kind}: {examples}")
    return lines


def write_pictures(reports: Mapping[str, SplitReport], folder: Path) -> None:
    """Write ``<split>.png``, 16 images with their boxes, and ``classes.png``."""
    for name, report in reports.items():
        tiles = []
        columns = read_all(report.json_file)
        for sample in column_samples(columns, report.json_file, report.images, 16):
            with contextlib.suppress(InputError):  # it does not open, which the report says
                tiles += side_by_side([sample], [])
        contact_sheet(tiles, folder / f"{name}.png", title=report.json_file, legend=LEGEND[:1])
    _draw_classes(reports, folder / "classes.png")


def _draw_classes(reports: Mapping[str, SplitReport], path: Path) -> None:
    total = Counter()
    for report in reports.values():
        total.update(report.classes)
    names = [name for name, _ in total.most_common(BARS)][::-1]
    figure = Figure(figsize=(7, 1.5 + 0.2 * len(names)), layout="constrained")
    ax, left = figure.add_subplot(), [0] * len(names)
    for split, report in reports.items():
        counts = [report.classes.get(name, 0) for name in names]
        ax.barh(names, counts, left=left, label=split)
        left = [a + b for a, b in zip(left, counts, strict=True)]
    ax.set(xlabel="boxes", title=f"{len(names)} of {len(total)} classes", ylim=(-1, len(names)))
    ax.legend()
    with atomic_write(path, "wb") as stream, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # the font lacks letters of some names
        figure.savefig(stream, format="png", dpi=110)


def need_images(reports: Mapping[str, SplitReport]) -> None:
    """Check that no image would end a run.

    Raises:
        InputError: images are missing, unreadable or of another size; says what to do.
    """
    for split, r in reports.items():
        skip = ", or train without them by dataloader.dataset.skip_broken_images=True"
        skip = skip if split == "train" else ""
        for kind, todo in (
            (
                Oddity.MISSING,
                f"are missing in {r.images}: put them there, or take them out of the JSON",
            ),
            (Oddity.UNREADABLE, f"do not open, which ends a run: mend or remove them{skip}"),
            (
                Oddity.OTHER_SIZE,
                f"have another size than stated, which ends a run: mend the JSON{skip}",
            ),
        ):
            if names := r.oddities.get(kind):
                raise InputError(
                    f"{r.json_file}: {len(names)} of {r.image_count} images {todo}: "
                    f"{first_few(names)}"
                )


def as_json(reports: Mapping[str, SplitReport], shared: Oddities) -> dict:
    """The report for programs: all counts, every oddity."""
    return {**{split: asdict(r) for split, r in reports.items()}, "shared": shared}
