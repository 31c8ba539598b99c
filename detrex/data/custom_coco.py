"""One's own COCO-format data by config or command line alone: ``dataloader.dataset``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from detectron2.data import DatasetCatalog, MetadataCatalog
from omegaconf import DictConfig, OmegaConf

from detrex.utils.errors import InputError
from detrex.utils.text import literal

from .coco_format import CocoData, load_coco, read_coco
from .dataset_info import SPLITS, DatasetInfo, class_count_error, num_classes_fields

PUBLISHED_CLASSES = 80  # what COCO configs carry; any other value is somebody's decision


def apply_custom_dataset(
    cfg: DictConfig, explicit_overrides: Iterable[str] = (), splits: Sequence[str] = tuple(SPLITS)
) -> DatasetInfo | None:
    """Make a config train and evaluate on the data named in ``cfg.dataloader.dataset``.

    Registers the data sets, points the loaders and the evaluator at them, and writes the number of
    categories to every ``num_classes`` under ``cfg.model``.

    Args:
        cfg: changed in place, and only after every check has passed.
        explicit_overrides: the command line's "key=value" strings.
        splits: which of "train" and "val" to read; evaluation alone needs no training data.

    Returns:
        The classes, or None if the config names no data of its own.

    Raises:
        InputError: unusable data, or a ``num_classes`` that disagrees with it: one given on the
            command line, or one in the config that is not the published default of 80.
    """
    dataset_cfg = cfg.dataloader.get("dataset")
    if dataset_cfg is None or not given_splits(dataset_cfg):
        return None
    info = register_custom_coco(dataset_cfg, splits)
    _write_num_classes(cfg, info, explicit_overrides)
    for split, part in SPLITS.items():
        node = OmegaConf.select(cfg, f"dataloader.{part}.dataset")
        if node is not None:
            node.names = literal(_dataset_name(dataset_cfg, split))
        elif split in splits:
            raise InputError(f"dataloader.dataset is given, but dataloader.{part} has no dataset")
    if cfg.dataloader.get("evaluator") is not None:
        cfg.dataloader.evaluator.dataset_name = literal(_dataset_name(dataset_cfg, "val"))
    return info


def register_custom_coco(
    dataset_cfg: DictConfig, splits: Sequence[str] = tuple(SPLITS)
) -> DatasetInfo:
    """Register ``<name>_train`` and ``<name>_val`` with detectron2, as far as they are given.

    The first of ``splits`` must be given. Calling it again replaces the registration.

    Raises:
        InputError: no data, half-given data, unusable data, a name that belongs to another data
            set, or different categories in the splits.
    """
    given = {split: pair for split in splits if (pair := _path_pair(dataset_cfg, split))}
    if splits[0] not in given:
        raise InputError(f"dataloader.dataset.{splits[0]}.{{json,images}} are not set: give both")
    data = {split: read_coco(*pair, training=split == "train") for split, pair in given.items()}
    categories = [part.categories for part in data.values()]
    if categories[0] != categories[-1]:
        only = sorted(categories[0].items() ^ categories[-1].items())
        raise InputError(
            f"{' and '.join(pair[0] for pair in given.values())} have different categories, "
            f"not in both: {', '.join(f'{key} {name!r}' for key, name in only[:4])}"
        )
    for split, (json_file, image_root) in given.items():
        name = _dataset_name(dataset_cfg, split)
        _register(name, json_file, image_root, data[split], split == "train")
    return DatasetInfo(list(categories[0].values()), list(categories[0]))


def given_splits(dataset_cfg: DictConfig) -> list[str]:
    """Which of "train" and "val" the config names data for."""
    return [split for split in SPLITS if any(_paths(dataset_cfg, split).values())]


def _paths(dataset_cfg: DictConfig, split: str) -> dict[str, str | None]:
    # select: a config written elsewhere may carry only the keys that the command line added.
    return {key: OmegaConf.select(dataset_cfg, f"{split}.{key}") for key in ("json", "images")}


def _path_pair(dataset_cfg: DictConfig, split: str) -> tuple[str, str] | None:
    """Return (JSON, image folder), or None if neither is given."""
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
    """Return the records once and then read them again: the catalog must not hold them for good."""
    held = [records]
    return lambda: held.pop() if held else reload()


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
