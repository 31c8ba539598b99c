"""A user's own data in COCO format, by config or command line alone: ``dataloader.dataset``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from detectron2.data import DatasetCatalog, MetadataCatalog
from omegaconf import DictConfig, OmegaConf

from detrex.utils.errors import InputError
from detrex.utils.text import literal

from .coco_format import CocoData, load_coco, read_coco
from .dataset_info import SPLITS, DatasetInfo, class_count_error, num_classes_fields

PUBLISHED_CLASSES = 80  # num_classes in published configs; a user chose any other value


def apply_custom_dataset(
    cfg: DictConfig, explicit_overrides: Iterable[str] = (), splits: Sequence[str] = tuple(SPLITS)
) -> DatasetInfo | None:
    """Make a config train and evaluate on the data named in ``cfg.dataloader.dataset``.

    Registers the data sets, names them in the loaders and the evaluator, and writes the number of
    categories to every ``num_classes`` under ``cfg.model``.

    Args:
        cfg: changed in place, and only after every check has passed.
        explicit_overrides: the command line's "key=value" strings.
        splits: which of "train" and "val" to read; evaluation alone needs no training data.

    Returns:
        The classes, or None if the config names no data of its own.

    Raises:
        InputError: unusable data, or another ``num_classes`` on the command line or, unless it is
            the published 80, in the config.
    """
    dataset_cfg = cfg.dataloader.get("dataset")
    if dataset_cfg is None or not given_splits(dataset_cfg):
        return None
    info = register_custom_coco(dataset_cfg, splits)
    _write_num_classes(cfg, info, explicit_overrides)
    for split, loader in SPLITS.items():
        node = OmegaConf.select(cfg, f"dataloader.{loader}.dataset")
        if node is not None:
            node.names = literal(_dataset_name(dataset_cfg, split))
        elif split in splits:
            raise InputError(f"dataloader.dataset is given, but dataloader.{loader} has no dataset")
    if cfg.dataloader.get("evaluator") is not None:
        cfg.dataloader.evaluator.dataset_name = literal(_dataset_name(dataset_cfg, "val"))
    return info


def given_splits(dataset_cfg: DictConfig) -> list[str]:
    """Return which of "train" and "val" the config names data for."""
    return [split for split in SPLITS if any(_paths(dataset_cfg, split).values())]


def _paths(dataset_cfg: DictConfig, split: str) -> dict[str, str | None]:
    # select: other people's configs may have only the keys that the command line added.
    return {key: OmegaConf.select(dataset_cfg, f"{split}.{key}") for key in ("json", "images")}


def register_custom_coco(
    dataset_cfg: DictConfig, splits: Sequence[str] = tuple(SPLITS)
) -> DatasetInfo:
    """Register ``<name>_train`` and ``<name>_val``, those that the config has, with detectron2.

    A second call replaces the registration.

    Raises:
        InputError: the first of ``splits`` is not in the config; a JSON without an image folder or
            the reverse; unusable data; the name of a built-in data set; different categories in
            the splits.
    """
    pairs = {split: pair for split in splits if (pair := _path_pair(dataset_cfg, split))}
    if splits[0] not in pairs:
        raise InputError(f"dataloader.dataset.{splits[0]}.{{json,images}} are not set: give both")
    data = {split: read_coco(*pair, training=split == "train") for split, pair in pairs.items()}
    categories = [content.categories for content in data.values()]
    if categories[0] != categories[-1]:
        only = sorted(categories[0].items() ^ categories[-1].items())
        raise InputError(
            f"{' and '.join(pair[0] for pair in pairs.values())} have different categories, "
            f"not in both: {', '.join(f'{key} {name!r}' for key, name in only[:4])}"
        )
    for split, (json_file, image_root) in pairs.items():
        name = _dataset_name(dataset_cfg, split)
        _register(name, json_file, image_root, data[split], split == "train")
    return DatasetInfo(list(categories[0].values()), list(categories[0]))


def _path_pair(dataset_cfg: DictConfig, split: str) -> tuple[str, str] | None:
    """Return (JSON, image folder), or None if the config has neither."""
    paths = _paths(dataset_cfg, split)
    for key, path in paths.items():
        if path and not isinstance(path, str):
            raise InputError(
                f"dataloader.dataset.{split}.{key}={path} is not one path: join the files into one "
                "JSON, with one image folder"
            )
    missing = [key for key, path in paths.items() if not path]
    if len(missing) == 1:
        raise InputError(
            f"dataloader.dataset.{split}.{missing[0]} is not set: json and images go together"
        )
    return None if missing else tuple(paths.values())


def _dataset_name(dataset_cfg: DictConfig, split: str) -> str:
    return f"{dataset_cfg.get('name') or 'custom'}_{split}"


def _register(name: str, json_file: str, image_root: str, data: CocoData, training: bool) -> None:
    if name in DatasetCatalog:
        if not MetadataCatalog.get(name).get("from_config"):
            raise InputError(f"dataloader.dataset.name: {name!r} is a built-in data set's name")
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    DatasetCatalog.register(
        name, _hand_over(data.records, lambda: load_coco(json_file, image_root, training))
    )
    MetadataCatalog.get(name).set(
        json_file=json_file,
        image_root=image_root,
        evaluator_type="coco",
        thing_classes=list(data.categories.values()),
        thing_dataset_id_to_contiguous_id={key: i for i, key in enumerate(data.categories)},
        from_config=True,
    )


def _hand_over(records: list[dict], reload: Callable[[], list[dict]]) -> Callable[[], list[dict]]:
    """Return a function that gives the records once, then reads them anew: the catalog, which lives
    as long as the process, must not hold them."""
    first = [records]
    return lambda: first.pop() if first else reload()


def _write_num_classes(cfg: DictConfig, info: DatasetInfo, overrides: Iterable[str]) -> None:
    count = len(info.classes)
    chosen = dict(text.lstrip("+").split("=", 1) for text in overrides if "=" in text)
    fields = list(num_classes_fields(cfg.model, "model"))
    for key, value, _ in fields:
        if key in chosen and chosen[key].strip() != str(count):
            raise class_count_error(key, chosen[key], info)
        if value not in (PUBLISHED_CLASSES, count):
            raise class_count_error(key, value, info)
    for _, _, node in fields:
        node.num_classes = count
