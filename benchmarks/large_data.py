"""A COCO JSON of Objects365's kind: its index, the starts after it, and pycocotools.

The data are made up: 15 boxes an image of 365 classes, in folders of 34,000 empty image files.
``--boxes 25000000`` is Objects365's size: it takes 7 GB of the temporary folder and some ten
minutes on a free core. Reading once is CPU time, what it costs a core also on a machine in use;
memory is measured in new processes, by Linux's /proc. pycocotools, which needs some 1 GB a million
boxes, reads a set of at most ``PLAIN`` boxes.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

PER_IMAGE, CLASSES, PER_FOLDER = 15, 365, 34_000
PLAIN = 2_500_000
BLOCK = 50_000
ANNOTATION = (
    '{{"id": {}, "iscrowd": 0, "isfake": 0, "area": {:.8f}, "isreflected": 0, '
    '"bbox": [{:.10f}, {:.10f}, {:.10f}, {:.10f}], "image_id": {}, "category_id": {}}}'
)
IMAGE = '{{"height": {}, "id": {}, "license": 5, "width": {}, "file_name": "{}", "url": ""}}'


def image_name(number: int) -> str:
    """File name of an image, with its folder."""
    return f"images/v2/patch{number // PER_FOLDER}/objects365_v2_{number:08d}.jpg"


def _images(count: int) -> Iterator[str]:
    random = np.random.RandomState(0)
    for i, (width, height) in enumerate(random.randint(400, 1200, (count, 2)).tolist()):
        yield IMAGE.format(height, i, width, image_name(i))


def _annotations(count: int, images: int) -> Iterator[str]:
    random = np.random.RandomState(1)
    for start in range(0, count, BLOCK):
        owners = random.randint(0, images, BLOCK).tolist()
        classes = random.randint(1, CLASSES + 1, BLOCK).tolist()
        boxes = random.uniform(1, 200, (BLOCK, 4)).tolist()
        for i in range(min(BLOCK, count - start)):
            area = boxes[i][2] * boxes[i][3]
            yield ANNOTATION.format(start + i, area, *boxes[i], owners[i], classes[i])


def write_json(path: Path, boxes: int) -> None:
    """Write a made-up data set."""
    images = boxes // PER_IMAGE + 1
    lists = {
        "images": _images(images),
        "annotations": _annotations(boxes, images),
        "categories": (f'{{"name": "class {i}", "id": {i}}}' for i in range(1, CLASSES + 1)),
    }
    with path.open("w", encoding="utf-8") as stream:
        for k, (name, entries) in enumerate(lists.items()):
            stream.write(f'{", " if k else "{"}"{name}": [{next(entries)}')
            stream.writelines(f", {entry}" for entry in entries)
            stream.write("]")
        stream.write("}")


def write_images(root: Path, boxes: int) -> None:
    """Write the image files, empty."""
    for i in range(boxes // PER_IMAGE + 1):
        path = root / image_name(i)
        if not i % PER_FOLDER:
            path.parent.mkdir(parents=True)
        path.touch()


def _memory(key: str, file: str = "status") -> float:
    """GB by a key of /proc/self; of several lines the sum."""
    lines = Path(f"/proc/self/{file}").read_text(encoding="utf-8").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024 / 1e9


def _index(path: Path) -> dict:
    from detrex.data.coco_index import read_columns

    before, start = _memory("VmRSS"), time.process_time()
    columns = read_columns(path)
    seconds = time.process_time() - start
    files = sum(file.stat().st_size for file in columns.folder.glob("*.npy"))
    return {
        "index_s": seconds,
        "peak_GB": _memory("VmHWM"),
        "libraries_GB": before,
        "index_GB": files / 1e9,
    }


def _start(path: Path) -> dict:
    """From the JSON to the loader's first batch of images to read, as a run does it."""
    from detrex.data import build_train_loader, load_coco
    from detrex.data.fingerprint import fingerprint

    private, start = _memory("Private_Dirty", "smaps_rollup"), time.perf_counter()
    records = load_coco(str(path), str(path.parent), True).with_objects()
    data = fingerprint(records)
    loader = build_train_loader(records, len, total_batch_size=16)
    share = next(iter(loader.batches))
    seconds = time.perf_counter() - start
    begin = time.perf_counter()
    for k in share.keys * 50:
        records[k[2] * 31 % len(records)]
    return {
        "start_s": seconds,
        "images": data["images"],
        "private_MB": 1e3 * (_memory("Private_Dirty", "smaps_rollup") - private),
        "record_s": (time.perf_counter() - begin) / 800,
    }


def _whole_epoch(path: Path) -> dict:
    """Memory after every record has been made once."""
    from detrex.data import load_coco

    private, shared = _memory("Private_Dirty", "smaps_rollup"), _memory("RssFile")
    records = load_coco(str(path), str(path.parent), True)
    start = time.perf_counter()
    for _ in records:
        pass
    return {
        "records_s": time.perf_counter() - start,
        "private_MB": 1e3 * (_memory("Private_Dirty", "smaps_rollup") - private),
        "shared_GB": _memory("RssFile") - shared,
    }


def _plain(path: Path) -> dict:
    from pycocotools.coco import COCO

    before, start = _memory("VmRSS"), time.process_time()
    COCO(str(path))
    seconds = time.process_time() - start
    return {"baseline_s": seconds, "peak_GB": _memory("VmHWM"), "libraries_GB": before}


def _apart(function: Callable[[Path], dict], path: Path) -> dict:
    """Call a function in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(function, path).result()


def run(boxes: int = 500_000) -> list[dict]:
    """Rows of the index, of a first and a later start, of an epoch's records and of pycocotools."""
    fewer = min(boxes, PLAIN)
    cache = os.environ.get("XDG_CACHE_HOME")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        try:
            path, small = Path(folder, "data.json"), Path(folder, "fewer.json")
            write_json(path, boxes)
            write_images(path.parent, boxes)
            write_json(small, fewer)
            what = f"large data, {boxes:,} boxes, JSON of {path.stat().st_size / 1e9:.2f} GB"
            plain, same = _apart(_plain, small), _apart(_index, small)
            rows = [{"what": f"large data, {fewer:,} boxes, read once"}]
            rows[0] |= {"baseline_s": plain["baseline_s"], "ours_s": same["index_s"]}
            rows[0]["ratio"] = plain["baseline_s"] / same["index_s"]
            rows[0] |= {"baseline_GB": plain["peak_GB"], "ours_GB": same["peak_GB"]}
            rows.append({"what": f"{what}, index"} | _apart(_index, path))
            rows.append({"what": f"{what}, first start with it"} | _apart(_start, path))
            rows.append({"what": f"{what}, later start"} | _apart(_start, path))
            rows.append({"what": f"{what}, every record once"} | _apart(_whole_epoch, path))
        finally:
            os.environ.pop("XDG_CACHE_HOME")
            os.environ |= {"XDG_CACHE_HOME": cache} if cache else {}
    return rows
