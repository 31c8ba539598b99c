"""Grids, variants files and presets: what they mean, and what they refuse."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from pathlib import Path

import pytest
from detectron2.config import instantiate
from omegaconf import OmegaConf

from detrex.ablation.grid import grid_points, label
from detrex.ablation.jobs import config_key, load_variant, make_jobs
from detrex.ablation.plan import Plan, Variant, load_plan, load_preset, preset_names
from detrex.config import json_config
from detrex.modeling.losses import CLASS_LOSS_NAMES
from detrex.modeling.matcher import HighOrderMatcher, HungarianMatcher, PositionMatcher
from tests.refusals import assert_refused, refused

TINY = str(Path(__file__).parents[1] / "train" / "tiny_config.py")


def test_grid_is_the_product_in_order() -> None:
    points = grid_points(["model.x=[1,2]", "model.loss=[focal,'a,b']"])
    assert points == [
        ("model.x=1", "model.loss=focal"),
        ("model.x=1", "model.loss='a,b'"),
        ("model.x=2", "model.loss=focal"),
        ("model.x=2", "model.loss='a,b'"),
    ]
    assert grid_points([]) == [()]
    assert grid_points(["k=[[1,1],[2,1]]"]) == [("k=[1,1]",), ("k=[2,1]",)]
    assert grid_points(["k=[None]", "r=[0.001]"]) == [("k=None", "r=0.001")]


def test_labels_are_short_and_unambiguous() -> None:
    assert label(["model.a.x=1", "model.y=2"]) == "x=1, y=2"
    assert label(["model.a.x=1", "model.b.x=2", "z=3"]) == "model.a.x=1, model.b.x=2, z=3"


def test_later_overrides_win() -> None:
    plan = Plan("t", (Variant("a", TINY, ("model.width=3",)),), common=("train.max_iter=1",))
    (variant,) = plan.resolve(
        ["train.max_iter=2", "model.width=5"], ["model.dropout=[0.5]"]
    ).variants
    cfg = load_variant(variant)
    assert (variant.name, cfg.train.max_iter) == ("a: dropout=0.5", 2)
    assert (cfg.model.width, cfg.model.dropout) == (3, 0.5)


def test_only_takes_the_rows_that_match() -> None:
    plan = Plan("t", tuple(Variant(f"{a} loss, {b}", TINY) for a in "xy" for b in "pq"))
    names = [v.name for v in plan.select(["y loss, q", "x*"]).variants]
    assert names == ["x loss, p", "x loss, q", "y loss, q"]
    assert plan.select([]) is plan
    with refused("--only 'z*'", "x loss, p; x loss, q"):
        plan.select(["x*", "z*"])


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_variants_file(tmp_path: Path) -> None:
    text = f"config: {TINY}\nset: [train.max_iter=5]\nvariants:\n- name: a\n  published: 50\n"
    plan = load_plan(write(tmp_path / "mine.yaml", f"{text}- name: b\n  set: [model.width=2]\n"))
    assert plan == Plan(
        "mine",
        (Variant("a", TINY, (), "50"), Variant("b", TINY, ("model.width=2",))),
        ("train.max_iter=5",),
    )
    assert load_plan(tmp_path / "mine.yaml", "other.py").variants[0].config_file == "other.py"


@pytest.mark.parametrize("name", preset_names())
def test_presets_fit_their_configs(name: str) -> None:
    plan = load_preset(name)
    assert plan.title and plan.source
    keys = set()
    for variant in plan.resolve([], []).variants:
        cfg = load_variant(variant)
        keys.add(config_key(cfg, 0))
        instantiate(cfg.model.criterion)
    assert len(keys) == len(plan.variants)  # no two rows mean the same


def test_rank_components_switch_what_they_say() -> None:
    """Baseline all off, then one part on at a time, then all; here on the sample data's config."""
    sample = "projects/rank_detr/configs/rank_detr_efficientnet_lite0_sample_data.py"
    found = []
    for variant in load_preset("rank-components", sample).resolve([], []).variants:
        cfg = load_variant(variant)
        criterion, decoder = cfg.model.criterion, cfg.model.transformer.decoder
        parts = (cfg.model.rank_adaptive_classhead, decoder.query_rank_layer)
        late = criterion.matcher.matcher_change_iter == 0.75
        found.append((*parts, criterion.GIoU_aware_class_loss, late))
    one = [tuple(i == j for i in range(4)) for j in range(4)]
    assert found == [(False,) * 4, *one, (True,) * 4]


def may_run(transforms: Iterable) -> set[str]:
    """Names of the transforms that are not switched off."""
    names: set[str] = set()
    for transform in transforms:
        p, inside = getattr(transform, "p", 1), getattr(transform, "transforms", None)
        if inside is None:
            names |= {type(transform).__name__} if p else set()
        else:
            shares = p if isinstance(p, list) else [p] * len(inside)
            names |= may_run(t for t, share in zip(inside, shares, strict=True) if share)
    return names


def test_augmentation_leaves_out_what_its_rows_say() -> None:
    sample = "projects/deim/configs/deim_efficientnet_lite0_sample_data.py"
    rows = {}
    for variant in load_preset("augmentation", sample).resolve([], []).variants:
        windows = instantiate(load_variant(variant).dataloader.train.mapper.windows)
        rows[variant.name] = {
            name for w in windows for name in may_run(w.transforms) | may_run(w.pairs)
        }
    everything = rows.pop("all of DEIM")
    assert len(everything) == 6
    changes = {
        name.removeprefix("without "): everything ^ rows[name] for name in rows if rows[name]
    }
    assert rows["without all of them"] == set()
    assert changes == {
        "Mosaic": {"Mosaic", "RandomAffine"},
        "MixUp": {"MixUp"},
        "Mosaic and MixUp": {"Mosaic", "RandomAffine", "MixUp"},
        "photometric distortion": {"RandomPhotometricDistort"},
        "zoom out": {"RandomZoomOut"},
        "IoU crop": {"RandomIoUCrop"},
        "with CopyBlend": {"CopyBlend"},
        "augmentation to the end": set(),
    }


def test_rank_losses_has_every_loss_with_every_cost() -> None:
    found = []
    for variant in load_preset("rank-losses").resolve([], []).variants:
        criterion = load_variant(variant).model.criterion
        matcher = instantiate(criterion).matcher
        found.append((criterion.loss_class_type, type(matcher)))
        if isinstance(matcher, HighOrderMatcher):
            assert matcher.matcher_change_iter == 0.75  # which the trainer resolves
    costs = (HungarianMatcher, HighOrderMatcher, PositionMatcher)
    assert sorted(found, key=str) == sorted(product(CLASS_LOSS_NAMES, costs), key=str)


def test_methods_differ_in_their_heads_alone() -> None:
    """Data, recipe and backbone are those of the first row, a config of the sample data."""
    # From configs of the sample data, of COCO and of RT-DETR.
    rows, names = [], ["DINO", "Relation*", "Stable*", "RT-DETR"]
    for variant in load_preset("methods").resolve([], []).select(names).variants:
        row = json_config(load_variant(variant))
        row["train"].pop("output_dir")
        model = row.pop("model")
        rows.append((row, model["backbone"], model["pixel_mean"], model["pixel_std"]))
    assert all(row == rows[0] for row in rows)


def test_key_says_what_is_trained_on_what() -> None:
    cfg = load_variant(Variant("a", TINY, ("model.width=4", "model.dropout=0.1")))
    same = load_variant(
        Variant("b", TINY, ("model.dropout=0.1", "train.output_dir=/elsewhere", "model.width=4"))
    )
    assert config_key(cfg, 1) == config_key(same, 1)
    same.train.seed = 5  # the seed is the job's
    assert config_key(cfg, 1) == config_key(same, 1) != config_key(cfg, 2)
    for other in ("model.width=5", "train.max_iter=9", "dataloader.train.total_batch_size=2"):
        OmegaConf.update(cfg, *other.split("="))
        assert config_key(cfg, 1) != config_key(same, 1)


def test_equal_configs_share_a_folder(tmp_path: Path) -> None:
    plan = Plan("t", (Variant("a", TINY), Variant("b", TINY, ("train.max_iter=8",))))
    a, b = make_jobs(plan, [3], 1, tmp_path)
    assert a.folder == b.folder
    a.folder.mkdir()
    again = make_jobs(Plan("t", plan.variants[1:]), [3], 1, tmp_path)[0]
    assert again.folder == a.folder and a.folder.name.startswith("a_seed3_")
    assert "train.seed=3" in b.command and "--resume" in b.command


def unknown_key() -> None:
    make_jobs(Plan("t", (Variant("a", TINY, ("model.widht=8",)),)), [0], 1, Path("unused"))


@pytest.mark.parametrize(
    ("action", "names"),
    [
        (lambda: grid_points(["model.x"]), ["--grid 'model.x'", "key=[a,b]"]),
        (lambda: grid_points(["model.x=1,2"]), ["--grid 'model.x=1,2'", "key=[a,b]"]),
        (lambda: grid_points(["=[1]"]), ["--grid '=[1]'", "key=[a,b]"]),
        (lambda: grid_points(["model.x=[ ]"]), ["--grid 'model.x=[ ]'", "empty"]),
        (lambda: grid_points(["model.x=[1,,2]"]), ["--grid 'model.x=[1,,2]'"]),
        (lambda: grid_points(["model.x=[(]"]), ["--grid 'model.x=[(]'"]),
        (lambda: grid_points(["model.x=[1,2,1]"]), ["--grid 'model.x=[1,2,1]'", "twice"]),
        (lambda: grid_points(["model.x=[1]", "model.x=[2]"]), ["model.x ", "twice"]),
        (lambda: load_preset("rank"), ["--preset rank", "align-k", "smoke"]),
        (unknown_key, ["variant 'a'", "model.widht", "model.width"]),
    ],
)
def test_plans_that_cannot_be_followed_are_named(request, action, names: list[str]) -> None:
    assert_refused(request, action, *names)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("variants: [", ["variants"]),
        ("- a", ["keys"]),
        ("variant: []", ["keys", "variants"]),
        ("title: x", ["variants"]),
        ("variants: []", ["variants"]),
        ("variants: [{name: a}]", ["variant a", "'config'"]),
        ("variants: [{config: a.py}]", ["'name'"]),
        ("config: a.py\nvariants: [{name: a, grid: 1}]", ["keys", "grid"]),
        ("config: a.py\nvariants: [{name: a, set: k=1}]", ["'set'", "key=value"]),
        ("config: a.py\nvariants: [{name: a}, {name: a}]", ["'a'"]),
        (None, ["cannot be read"]),
    ],
)
def test_a_variants_file_that_cannot_be_used_is_named(tmp_path: Path, text, names) -> None:
    path = tmp_path / "bad.yaml"
    if text is not None:
        write(path, text)
    with refused("bad.yaml", *names):
        load_plan(path)
