import pytest
from omegaconf import OmegaConf

from detrex.config import config_yaml
from detrex.config.load import load_config
from detrex.utils.device import devices
from detrex.utils.errors import InputError
from tests.models import RANK_DETR, ROOT
from tests.train.runs import CONFIG


@pytest.mark.parametrize(
    "override, key, value",
    [
        ("train.max_iter=12ep", "max_iter", "12ep"),
        ("train.eval_period=0.5", "eval_period", 0.5),
        ("train.init_checkpoint=/a b/k=2_(1).pth", "init_checkpoint", "/a b/k=2_(1).pth"),
        (
            "train.init_checkpoint=detectron2://x/R-50.pkl",
            "init_checkpoint",
            "detectron2://x/R-50.pkl",
        ),
        ("train.matcher_change_fraction=null", "matcher_change_fraction", None),
        ("train.seed=-1", "seed", -1),
        ("train.matcher_change_fraction=None", "matcher_change_fraction", None),
    ],
)
def test_override_values(override, key, value):
    assert load_config(str(CONFIG), [override]).train[key] == value


NAMES = [
    "/a b/c  d ",
    "/a,b/c, d",
    "/a/${b}/x",
    "${oc.env:HOME}",
    "/\\${b}",
    "/a\\b",
    "/[x]{y}(z)",
    "2024",
    "1e5",
    "true",
    "[1,2]",
    "a#b:c%d",
    "a=b",
    "größe/画像",
    "it's",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("quote", ["", "'", '"'])
def test_file_names_arrive_letter_for_letter(tmp_path, name, quote):
    keys = ["train.output_dir", "train.init_checkpoint", "dataloader.dataset.train.json"]
    cfg = load_config(str(CONFIG), [f"{key}={quote}{name}{quote}" for key in keys])
    (tmp_path / "saved.yaml").write_text(config_yaml(cfg))
    for config in (cfg, load_config(str(tmp_path / "saved.yaml"), trust_config=True)):
        assert [OmegaConf.select(config, key) for key in keys] == [name] * 3
        assert config.dataloader.evaluator.output_dir == name
        resolved = OmegaConf.to_container(config.dataloader.dataset, resolve=True)
        assert resolved["train"]["json"] == name


@pytest.mark.parametrize("name", ["a, b", "a=${b}", "x (1)"])
def test_other_texts_arrive_too(name):
    cfg = load_config(str(CONFIG), [f"dataloader.dataset.name={name}"])
    assert cfg.dataloader.dataset.name == name


def test_overrides_reach_lists_and_arguments_that_the_config_leaves_to_the_default():
    cfg = load_config(
        str(CONFIG), ["optimizer.params.lr_factors.1.factor=0.5", "model.dropout=0.25"]
    )
    assert cfg.optimizer.params.lr_factors[1].factor == 0.5
    assert cfg.model.dropout == 0.25


def test_overrides_reach_arguments_behind_those_that_classes_pass_on():
    cfg = load_config(str(ROOT / RANK_DETR), ["model.iou_branch=true", "model.iou_weight=0.3"])
    assert cfg.model.iou_branch and cfg.model.iou_weight == 0.3
    with pytest.raises(InputError, match="did you mean model.iou_branch"):
        load_config(str(ROOT / RANK_DETR), ["model.iou_brnch=true"])


@pytest.mark.parametrize(
    "override, hint",
    [
        ("train.max_itr=3", "did you mean train.max_iter?"),
        ("trian.max_iter=3", "did you mean train.max_iter?"),
        ("model.drop_out=1", "did you mean model.dropout?"),
        ("train.amp=true", "train.amp is a group of keys"),
        ("train.max_iter.x=3", "no key 'train.max_iter.x'"),
        ("train.max_iter=[1", "cannot be applied"),
        ("train.max_iter", "write key=value"),
        ("--resume", "write key=value"),
        ("model=null", "model is a group of keys"),
        ("train=null", "train is a group of keys"),
        ("model._target_=nothing.Model", "no such class"),
        ("model._target_=5", "no such class"),
    ],
)
def test_unusable_override_is_named_with_the_nearest_key(override, hint):
    with pytest.raises(InputError) as error:
        load_config(str(CONFIG), [override])
    assert override in str(error.value) and hint in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_config_file_names_the_nearest():
    with pytest.raises(InputError, match="tiny_confg.py not found; did you mean .*tiny_config.py"):
        load_config(str(CONFIG.with_name("tiny_confg.py")))
    with pytest.raises(InputError, match="--config-file"):
        load_config("")
    with pytest.raises(InputError, match="https://a/b.py: configs are read from files"):
        load_config("https://a/b.py")


@pytest.mark.parametrize(
    "text, message",
    [
        ("import not_there_at_all", "No module named"),
        ("def (", "syntax"),
        ("train = dict()", "does not define 'model'"),
    ],
)
def test_file_that_is_not_a_config(tmp_path, text, message):
    path = tmp_path / "bad.py"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        load_config(str(path))
    assert str(path) in str(error.value)


def test_config_from_elsewhere_gets_the_keys_that_ours_have(tmp_path):
    path = tmp_path / "fork.py"
    path.write_text(
        "model, dataloader, optimizer, lr_multiplier = {}, {}, {}, {}\n"
        "train = dict(output_dir='x', max_iter=5, amp=dict(enabled=True), device='cpu')\n"
    )
    cfg = load_config(str(path), ["dataloader.dataset.train.json=/j"])
    assert (cfg.train.max_iter, cfg.train.accumulation_steps) == (5, 1)
    assert cfg.train.amp == {"enabled": True, "dtype": "bfloat16"}
    assert cfg.dataloader.dataset.train.json == "/j"


def test_evaluator_writes_into_the_output_folder():
    cfg = load_config(str(CONFIG), ["train.output_dir=/there"])
    assert cfg.dataloader.evaluator.output_dir == "/there"
    own = load_config(str(CONFIG), ["dataloader.evaluator.output_dir=/here"])
    assert own.dataloader.evaluator.output_dir == "/here"


def config_file(folder, name, text):
    """A config file in ``folder`` that is the tiny one, and then ``text``."""
    path = folder / name
    path.write_text(f"{CONFIG.read_text()}\n{text}\n")
    return str(path)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("train.output_dir = './output'", "./output/mine"),  # the default
        ("del train['output_dir']", "./output/mine"),
        ("train.output_dir = 'elsewhere'", "elsewhere"),
    ],
)
def test_output_folder_is_named_after_the_config_file(tmp_path, text, expected):
    path = config_file(tmp_path, "mine.py", text)
    cfg = load_config(path)
    assert cfg.train.output_dir == cfg.dataloader.evaluator.output_dir == expected
    cfg = load_config(path, ["train.output_dir=there"])
    assert cfg.train.output_dir == cfg.dataloader.evaluator.output_dir == "there"


def test_saved_config_keeps_the_output_folder_of_its_run(tmp_path):
    cfg = load_config(str(CONFIG), ["train.output_dir=./output"])
    (tmp_path / "config.yaml").write_text(config_yaml(cfg))
    saved = load_config(str(tmp_path / "config.yaml"), trust_config=True)
    assert saved.train.output_dir == saved.dataloader.evaluator.output_dir == "./output"


@pytest.mark.parametrize(
    "override, advice",
    [
        ("dataloader.train.total_batch_size=0", "1 or more"),
        ("dataloader.train.total_batch_size=4.0", "a whole number"),
        ("dataloader.train.num_workers=-1", "0 or more"),
        ("dataloader.test.num_workers=x", "a whole number"),
        ("dataloader.train.total_batch_size=null", "a whole number"),
        ("train.log_period=0", "1 or more"),
        ("train.log_period=null", "a whole number"),
        ("train.seed=null", "a whole number"),
        ("train.seed=x", "a whole number"),
        ("train.seed=true", "a whole number"),
        ("train.seed=4294967296", "4294967295 or less"),
        ("train.freeze=null", "a list"),
        ("train.hooks=null", "a list"),
        ("train.accumulation_steps=null", "a whole number"),
        ("train.checkpointer.max_to_keep=0", "1 or more"),
        ("train.checkpointer.max_to_keep=-1", "1 or more"),
        ("train.device=gpu", f"one of {', '.join(['auto', *devices()])}"),
        ("train.device=null", "a text"),
        ("train.output_dir=null", "a text"),
        ("optimizer.lr=null", "a number"),
        ("optimizer.lr=x", "a number"),
        ("train.model_ema.decay=2", "1 or less"),
        ("train.model_ema.decay=x", "a number"),
        ("train.model_ema.decay=nan", "a number"),
        ("optimizer.lr=inf", "a number"),
        ("optimizer.reference_batch_size=0", "1 or more"),
        ("optimizer.reference_batch_size=16.5", "a whole number"),
        ("train.amp=null", "a group of keys"),
        ("train.ddp=null", "a group of keys"),
        ("train.amp.enabled=yes", "True or False"),
    ],
)
def test_value_that_no_run_can_use_is_one_line(override, advice):
    with pytest.raises(InputError) as error:
        load_config(str(CONFIG), [override])
    key, _, value = override.partition("=")
    value = {"null": "None", "true": "True"}.get(value, value)
    assert str(error.value) == f"{key}={value}: give {advice}"


def test_a_reference_to_nothing_and_an_empty_folder_are_one_line():
    for override, message in (
        ("train.seed=${train.nothing}", "config: train.seed refers to nothing"),
        ("train.seed=${train.seed}", "refers to nothing"),
        ("train.output_dir=", "train.output_dir is empty"),
    ):
        with pytest.raises(InputError, match=message) as error:
            load_config(str(CONFIG), [override])
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "override",
    [
        "train.checkpointer.max_to_keep=null",
        "train.freeze=backbone",
        "train.init_checkpoint=null",
        "train.model_ema.decay=1",
        "train.deterministic=1",
        "train.device=cuda:1",
        "train.clip_grad.params.norm_type=inf",
        "train.eval_period=1ep",
        "optimizer.lr=1",
        "optimizer.reference_batch_size=null",
    ],
)
def test_values_of_other_types_that_mean_something(override):
    load_config(str(CONFIG), [override])


def test_home_is_expanded_in_paths(monkeypatch):
    monkeypatch.setenv("HOME", "/home/x")
    keys = ["train.output_dir", "train.init_checkpoint", "dataloader.dataset.train.json"]
    keys += ["dataloader.dataset.val.images"]
    cfg = load_config(str(CONFIG), [f"{key}=~/data/a" for key in keys])
    assert [OmegaConf.select(cfg, key) for key in keys] == ["/home/x/data/a"] * 4
    assert cfg.dataloader.evaluator.output_dir == "/home/x/data/a"
    assert load_config(str(CONFIG), ["train.output_dir=~/${a}"]).train.output_dir == "/home/x/${a}"
