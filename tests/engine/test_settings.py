import pytest

from detrex.engine.settings import load_config
from detrex.utils.errors import InputError
from tests.engine.runs import CONFIG
from tests.models import RANK_DETR, ROOT


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
