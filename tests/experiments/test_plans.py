"""Grids, variants files and presets: what they mean, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
from detectron2.config import instantiate
from omegaconf import OmegaConf

from detrex.experiments.grid import grid_points, label
from detrex.experiments.jobs import config_key, load_variant, make_jobs
from detrex.experiments.plan import Plan, Variant, load_plan, load_preset, preset_names
from detrex.utils.errors import InputError

TINY = str(Path(__file__).parents[1] / "engine" / "tiny_config.py")


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


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (["model.x"], r"--grid 'model.x': write \"key=\[a,b\]\""),
        (["model.x=1,2"], r"write \"key=\[a,b\]\""),
        (["=[1]"], r"write \"key=\[a,b\]\""),
        (["model.x=[ ]"], "the list is empty"),
        (["model.x=[1,,2]"], "cannot be read"),
        (["model.x=[(]"], "cannot be read"),
        (["model.x=[1,2,1]"], "a value is given twice"),
        (["model.x=[1]", "model.x=[2]"], "model.x is given twice"),
    ],
)
def test_bad_grids_are_refused(entries: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        grid_points(entries)


def test_later_overrides_win() -> None:
    plan = Plan("t", (Variant("a", TINY, ("model.width=3",)),), common=("train.max_iter=1",))
    (variant,) = plan.resolve(
        ["train.max_iter=2", "model.width=5"], ["model.dropout=[0.5]"]
    ).variants
    cfg = load_variant(variant)
    assert (variant.name, cfg.train.max_iter) == ("a: dropout=0.5", 2)
    assert (cfg.model.width, cfg.model.dropout) == (3, 0.5)


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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("variants: [", "cannot be read as a list of variants"),
        ("- a", "should have no other keys than"),
        ("variant: []", "should have no other keys than"),
        ("title: x", "give a list of variants"),
        ("variants: []", "give a list of variants"),
        ("variants: [{name: a}]", "variant a has no 'config'"),
        ("variants: [{config: a.py}]", "has no 'name'"),
        ("config: a.py\nvariants: [{name: a, grid: 1}]", "should have no other keys than"),
        ("config: a.py\nvariants: [{name: a, set: k=1}]", "'set' is a list of key=value"),
        ("config: a.py\nvariants: [{name: a}, {name: a}]", "two variants are called 'a'"),
    ],
)
def test_bad_variants_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        load_plan(write(tmp_path / "bad.yaml", text))
    assert "bad.yaml" in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(InputError, match=r"missing.yaml: cannot be read"):
        load_plan(tmp_path / "missing.yaml")


def test_unknown_preset_lists_those_there_are() -> None:
    with pytest.raises(InputError, match="--preset rank: there is none; .*align-k, .*smoke"):
        load_preset("rank")


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


def test_unknown_key_names_variant_and_nearest_key() -> None:
    plan = Plan("t", (Variant("a", TINY, ("model.widht=8",)),))
    with pytest.raises(InputError, match=r"variant 'a': .*did you mean model.width\?"):
        make_jobs(plan, [0], 1, Path("unused"))
