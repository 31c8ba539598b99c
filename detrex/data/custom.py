"""A user's own data in COCO format, by config or command line alone: ``dataloader.dataset``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from detectron2.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts
from omegaconf import DictConfig, ListConfig, OmegaConf

from detrex.config.instantiation import target_of
from detrex.utils.errors import InputError
from detrex.utils.text import literal

from .coco_format import load_coco, read_coco
from .coco_index import read_columns
from .dataset_info import SPLITS, DatasetInfo, class_count_error, num_classes_fields
from .joined import Source, class_ids, join, joint_classes, read_sources

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
            if MetadataCatalog.get(node.names).get("lazy"):
                _make_lazily(node)
        elif split in splits:
            raise InputError(f"dataloader.dataset is given, but dataloader.{loader} has no dataset")
    if cfg.dataloader.get("evaluator") is not None:
        cfg.dataloader.evaluator.dataset_name = literal(_dataset_name(dataset_cfg, "val"))
    return info


def _make_lazily(node: DictConfig) -> None:
    """Have records made when they are looked at, where detectron2 would make all of them."""
    if target_of(node) is get_detection_dataset_dicts:
        node._target_ = "detrex.data.joined.registered_records"
        for key in node.keys() - {"_target_", "names", "filter_empty"}:
            del node[key]


def given_splits(dataset_cfg: DictConfig) -> list[str]:
    """Return which of "train" and "val" the config names data for."""
    return [split for split in SPLITS if any(any(n.values()) for n in _nodes(dataset_cfg, split))]


def _nodes(dataset_cfg: DictConfig, split: str) -> list[dict]:
    """Return what the config says of each data set of a split."""
    # select: other people's configs may have only the keys that the command line added.
    node = OmegaConf.select(dataset_cfg, split)
    entries = list(node) if isinstance(node, ListConfig) else [node]
    if not all(entry is None or isinstance(entry, DictConfig) for entry in entries):
        raise InputError(
            f"dataloader.dataset.{split}={node}: give json and images, or a list of them: "
            "[{json: a.json, images: a}, {json: b.json, images: b, weight: 0.5}]"
        )
    keys = ("json", "images", "weight") if isinstance(node, ListConfig) else ("json", "images")
    return [{key: entry.get(key) for key in keys} if entry else {} for entry in entries]


def register_custom_coco(
    dataset_cfg: DictConfig, splits: Sequence[str] = tuple(SPLITS)
) -> DatasetInfo:
    """Register ``<name>_train`` and ``<name>_val``, those that the config has, with detectron2.

    Several data sets to train on are joined: classes of one name are one class. A second call
    replaces the registration.

    Raises:
        InputError: the first of ``splits`` is not in the config; a JSON without an image folder or
            the reverse; unusable data; the name of a built-in data set; different categories in
            the splits.
    """
    sources = {split: its for split in splits if (its := _sources(dataset_cfg, split))}
    if splits[0] not in sources:
        raise InputError(f"dataloader.dataset.{splits[0]}.{{json,images}} are not set: give both")
    if len(sources.get("val", ())) > 1:
        raise InputError("dataloader.dataset.val is a list: scores are of one data set, name one")
    if len(joined := _sources(dataset_cfg, "train")) > 1:
        return _register_joined(dataset_cfg, sources, joined)
    data = {
        split: read_coco(source.json_file, source.images, training=split == "train")
        for split, (source,) in sources.items()
    }
    categories = [content.categories for content in data.values()]
    if categories[0] != categories[-1]:
        only = sorted(categories[0].items() ^ categories[-1].items())
        raise InputError(
            f"{' and '.join(s.json_file for (s,) in sources.values())} have different categories, "
            f"not in both: {', '.join(f'{key} {name!r}' for key, name in only[:4])}"
        )
    info = DatasetInfo(list(categories[0].values()), list(categories[0]))
    class_of = {id_: i for i, id_ in enumerate(info.category_ids)}
    for split, (source,) in sources.items():
        reload = partial(load_coco, source.json_file, source.images, split == "train")
        name = _dataset_name(dataset_cfg, split)
        _register(name, source, data[split].records, reload, info, class_of)
    return info


def _register_joined(
    dataset_cfg: DictConfig, sources: dict[str, list[Source]], joined: list[Source]
) -> DatasetInfo:
    """Register splits with the classes of several training sets."""
    data = {key: read_sources(its, key == "train") for key, its in sources.items()}
    categories = {d.json_file: d.columns.categories for d in data.get("train", ())}
    categories = categories or {s.json_file: read_columns(s.json_file).categories for s in joined}
    classes = joint_classes(categories)
    info = DatasetInfo(list(classes), list(range(1, len(classes) + 1)))  # ids of no JSON
    for split, of_split in sources.items():
        class_of = {i + 1: i for i in range(len(classes))}
        if len(of_split) == 1:
            class_of = class_ids(data[split][0], classes)
        records = join(data[split], of_split, classes)
        reload = partial(_join_again, of_split, classes, split == "train")
        _register(_dataset_name(dataset_cfg, split), of_split[0], records, reload, info, class_of)
    return info


def _join_again(sources: list[Source], classes: dict[str, int], training: bool) -> Sequence[dict]:
    return join(read_sources(sources, training), sources, classes)


def _sources(dataset_cfg: DictConfig, split: str) -> list[Source]:
    """Return the data sets of a split; [] if the config has none."""
    sources = []
    nodes = _nodes(dataset_cfg, split)
    for number, node in enumerate(nodes):
        where = f"dataloader.dataset.{split}" + (f"[{number}]" if len(nodes) > 1 else "")
        paths = {key: node.get(key) for key in ("json", "images")}
        for key, path in paths.items():
            if path and not isinstance(path, str):
                raise InputError(
                    f"{where}.{key}={path} is not one path: of several data sets make a list, "
                    f"dataloader.dataset.{split}=[{{json: a.json, images: a}}, ...]"
                )
        missing = [key for key, path in paths.items() if not path]
        if len(missing) == 1 or (missing and len(nodes) > 1):
            raise InputError(f"{where}.{missing[0]} is not set: json and images go together")
        weight = 1 if node.get("weight") is None else node["weight"]
        if not isinstance(weight, int | float) or not 0 < weight < 1000:
            raise InputError(
                f"{where}.weight={weight}: how often an image comes in an epoch, above 0"
            )
        sources += [] if missing else [Source(*paths.values(), weight)]
    return sources


def _dataset_name(dataset_cfg: DictConfig, split: str) -> str:
    return f"{dataset_cfg.get('name') or 'custom'}_{split}"


def _register(
    name: str,
    source: Source,
    records: Sequence[dict],
    reload: Callable[[], Sequence[dict]],
    info: DatasetInfo,
    class_of: dict[int, int],
) -> None:
    if name in DatasetCatalog:
        if not MetadataCatalog.get(name).get("from_config"):
            raise InputError(f"dataloader.dataset.name: {name!r} is a built-in data set's name")
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    DatasetCatalog.register(name, _hand_over(records, reload))
    MetadataCatalog.get(name).set(
        json_file=source.json_file,
        image_root=source.images,
        evaluator_type="coco",
        thing_classes=info.classes,
        thing_dataset_id_to_contiguous_id=class_of,
        from_config=True,
        lazy=not isinstance(records, list),
    )


def _hand_over(
    records: Sequence[dict], reload: Callable[[], Sequence[dict]]
) -> Callable[[], Sequence[dict]]:
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
