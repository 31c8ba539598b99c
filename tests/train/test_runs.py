"""Whole runs of the command line's function, in this process."""

import json
import logging

import pytest
import torch
import yaml

from detrex.checkpoint.model import trained_model
from detrex.config.load import apply_overrides, load_config
from detrex.train.failures import describe_failure
from detrex.train.nan_guard import NonFiniteLoss
from detrex.utils.collect_env import hardware
from detrex.utils.errors import InputError
from tests.train.runs import CONFIG, assert_equal
from tests.train.tiny import TinyDetector

FAIL = "model.fail_at=6"
EMA = "train.model_ema.enabled=true"


def test_resumed_run_equals_the_uninterrupted_one_bit_for_bit(tiny_run):
    options = ["model.dropout=0.3", EMA, "train.matcher_change_fraction=0.5", "train.eval_period=3"]
    tiny_run("whole", *options)
    with pytest.raises(NonFiniteLoss):
        tiny_run("broken", *options, FAIL)
    assert not (tiny_run.folder / "broken/model_final.pth").exists()
    tiny_run("broken", *options, "--resume")
    whole, resumed = tiny_run.checkpoint("whole"), tiny_run.checkpoint("broken")
    assert whole["iteration"] == 7
    for part in ("model", "trainer", "ema_state", "iteration"):
        assert_equal(resumed[part], whole[part])
    lines = [
        [json.loads(line) for line in (tiny_run.folder / name / "metrics.json").open()]
        for name in ("whole", "broken")
    ]
    last = [{k: v for k, v in part[-2].items() if "time" not in k} for part in lines]
    assert last[0] == last[1] and last[0]["iteration"] == 7


def test_resumed_mixed_precision_run_keeps_the_loss_scale(tiny_run):
    options = ["train.amp.enabled=true", "train.amp.dtype=float16"]
    tiny_run("whole", *options)
    with pytest.raises(NonFiniteLoss):
        tiny_run("broken", *options, FAIL)
    tiny_run("broken", *options, "--resume")
    whole, resumed = tiny_run.checkpoint("whole"), tiny_run.checkpoint("broken")
    assert whole["trainer"]["grad_scaler"]["scale"] < 65536  # the first steps overflowed
    for part in ("model", "trainer"):
        assert_equal(resumed[part], whole[part])


def test_files_of_a_run(tiny_run):
    tiny_run("a", "train.seed=-1", "train.matcher_change_fraction=0.75", "train.eval_period=4")
    folder = tiny_run.folder / "a"
    record = json.loads((folder / "run.json").read_text())
    assert record["seed"] >= 0 and record["matcher_change_iter"] == [6]
    assert record["epoch_length"] == 3  # 12 images in batches of 4
    assert "train.seed=-1" in record["overrides"] and record["versions"]["torch"]
    assert record["hardware"] == hardware("cpu", 1) and hardware("cpu", 4).startswith("4 × ")
    cfg = yaml.unsafe_load((folder / "config.yaml").read_text())
    assert cfg["train"]["seed"] == record["seed"]
    assert cfg["model"]["matcher_change_iter"] == 6
    checkpoint = tiny_run.checkpoint("a")
    sizes = {name: value.numel() for name, value in checkpoint["model"].items()}
    # without the buffer and the second name of the head
    assert record["parameters"] == sum(sizes.values()) - sizes["batches"] - 18
    assert checkpoint["metadata"]["format"] == 1
    assert checkpoint["metadata"]["classes"] == ["dark", "bright"]
    assert checkpoint["metadata"]["category_ids"] == [7, 8]
    assert yaml.unsafe_load(checkpoint["metadata"]["config"]) == cfg
    assert (folder / "last_checkpoint").read_text() == "model_final.pth"
    best = json.loads((folder / "best.json").read_text())
    metrics = [json.loads(line) for line in (folder / "metrics.json").open()]
    assert best["value"] == max(m["bbox/AP"] for m in metrics if "bbox/AP" in m)
    assert list(folder.glob("events.out.tfevents*"))


def test_saved_config_reproduces_the_run(tiny_run):
    tiny_run("a", "train.seed=-1", "model.dropout=0.3")
    saved = str(tiny_run.folder / "a" / "config.yaml")
    tiny_run("b", "--config-file", saved)
    assert_equal(tiny_run.checkpoint("b")["model"], tiny_run.checkpoint("a")["model"])


def test_random_seed_is_kept_when_resuming(tiny_run):
    def seed():
        return json.loads((tiny_run.folder / "a/run.json").read_text())["seed"]

    with pytest.raises(NonFiniteLoss):
        tiny_run("a", "train.seed=-1", FAIL)
    first = seed()
    tiny_run("a", "train.seed=-1", "--resume")
    assert seed() == first
    tiny_run("a", "train.seed=-1", "--reuse-output")
    assert seed() != first


def test_matcher_is_told_the_iteration_also_after_resuming(tiny_run, monkeypatch):
    from tests.train import tiny

    matchers = []
    build = tiny.TinyMatcher.__init__
    monkeypatch.setattr(
        tiny.TinyMatcher,
        "__init__",
        lambda self, *args: (build(self, *args), matchers.append(self))[0],
    )
    with pytest.raises(NonFiniteLoss):
        tiny_run("a", FAIL)
    tiny_run("a", "--resume")
    assert [m.seen for m in matchers] == [[0, 1, 2, 3, 4, 5, 6], [4, 5, 6, 7]]


def test_switch_is_kept_when_a_longer_run_is_resumed(tiny_run, caplog):
    fraction = "train.matcher_change_fraction=0.5"
    tiny_run("a", fraction)
    with caplog.at_level(logging.WARNING):
        tiny_run("a", fraction, "train.max_iter=10", "--resume")
    record = json.loads((tiny_run.folder / "a/run.json").read_text())
    assert record["matcher_change_iter"] == [4]
    assert tiny_run.checkpoint("a")["iteration"] == 9


def test_checkpoints_are_pruned(tiny_run):
    tiny_run("a", "train.checkpointer.period=1", "train.checkpointer.max_to_keep=2")
    files = sorted(p.name for p in (tiny_run.folder / "a").glob("*.pth"))
    assert files == ["model_0000005.pth", "model_0000006.pth", "model_best.pth", "model_final.pth"]


def test_all_checkpoints_can_be_kept(tiny_run):
    tiny_run("a", "train.checkpointer.period=2", "train.checkpointer.max_to_keep=null")
    assert len(list((tiny_run.folder / "a").glob("model_000*.pth"))) == 3


def test_output_folder_is_protected(tiny_run, caplog):
    tiny_run("a")
    folder = tiny_run.folder / "a"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=r"holds a run of another config \(model.dropout: 0.5"):
        tiny_run("a", "model.dropout=0.5")
    with pytest.raises(InputError, match=r"holds checkpoints \(.*\): give --resume"):
        tiny_run("a", "train.max_iter=9", "train.eval_period=5", "dataloader.test.num_workers=1")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    tiny_run("a", "model.dropout=0.5", "--reuse-output")
    assert json.loads((folder / "run.json").read_text())["config"]["model"]["dropout"] == 0.5


def test_resumed_run_has_the_optimizer_values_of_its_config(tiny_run):
    tiny_run("a", "train.max_iter=7")
    changed = ["optimizer.lr=0.2", "optimizer.weight_decay=0.3", "optimizer.betas=[0.5,0.6]"]
    tiny_run("a", *changed, "train.max_iter=8", "--resume")
    tiny_run("b", *changed, "train.max_iter=8")
    first, second = (tiny_run.checkpoint(name)["trainer"] for name in "ab")
    assert first["hooks"] == second["hooks"]
    assert first["optimizer"]["param_groups"] == second["optimizer"]["param_groups"]
    assert first["optimizer"]["param_groups"][1]["initial_lr"] == 0.2


class CountingSgd(torch.optim.SGD):
    """Keeps a plain number per parameter, as some of timm's do."""

    def step(self, closure=None):
        super().step(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                state["count"] = state.get("count", 0) + 1


def test_resume_of_an_optimizer_that_keeps_numbers(tiny_run, tmp_path):
    config = tmp_path / "config.py"
    config.write_text(
        CONFIG.read_text()
        + f"""
from {__name__} import CountingSgd
optimizer = L(CountingSgd)(params=optimizer.params, lr=0.01)
"""
    )
    options = ["--config-file", str(config)]
    tiny_run("a", *options, "train.max_iter=4")
    tiny_run("a", *options, "train.max_iter=6", "--resume")
    states = tiny_run.checkpoint("a")["trainer"]["optimizer"]["state"].values()
    assert [state["count"] for state in states] == [6] * len(states)


def test_resume_without_a_checkpoint_starts_from_the_beginning(tiny_run):
    tiny_run("a")
    tiny_run("b", "--resume")
    assert_equal(tiny_run.checkpoint("b")["model"], tiny_run.checkpoint("a")["model"])


def test_accumulation_keeps_batch_and_schedule(tiny_run):
    tiny_run("large")
    tiny_run("small", "train.accumulation_steps=2")
    large, small = (tiny_run.checkpoint(name) for name in ("large", "small"))
    assert large["iteration"] == small["iteration"] == 7
    for name, value in large["model"].items():
        if name != "batches":
            torch.testing.assert_close(small["model"][name], value, rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="total_batch_size=4 .*accumulation_steps=3"):
        tiny_run("c", "train.accumulation_steps=3")


def test_epochs_and_fractions_on_the_command_line(tiny_run):
    tiny_run("a", "train.max_iter=2ep", "train.checkpointer.period=0.5")  # 12 images, batch 4
    assert tiny_run.checkpoint("a")["iteration"] == 5
    assert (tiny_run.folder / "a/model_0000002.pth").exists()


def test_arguments_that_a_model_refuses_are_one_line(tiny_run):
    with pytest.raises(InputError, match="model cannot be built: dropout is 2"):
        tiny_run("a", "model.dropout=2")
    assert not (tiny_run.folder / "a" / "run.json").exists()


class Stubborn(TinyDetector):
    def __init__(self, **rest):
        super().__init__(dropout=0.1, **rest)


def test_argument_that_a_class_sets_itself_is_one_line():
    cfg = load_config(str(CONFIG))
    cfg.model._target_ = f"{__name__}.Stubborn"
    apply_overrides(cfg, ["model.dropout=0.3"])
    with pytest.raises(InputError, match="multiple values for keyword argument 'dropout'"):
        trained_model(cfg, "model.pth", {"model": {}})


def test_error_of_a_loader_process_becomes_one_line():
    wrapped = InputError(
        "Caught InputError in DataLoader worker process 0.\nOriginal Traceback (most recent call "
        "last):\n  File x\ndetrex.utils.errors.InputError: a.png: does not decode\n"
    )
    assert describe_failure(wrapped) == (2, "error: a.png: does not decode")
    code, text = describe_failure(RuntimeError("bug"))
    assert code == 1 and text.startswith("RuntimeError: bug")


def losses(tiny_run, name):
    lines = (tiny_run.folder / name / "metrics.json").read_text().splitlines()
    return [json.loads(line).get("total_loss") for line in lines]


@pytest.mark.parametrize("deterministic", [True, False])
def test_a_seed_decides_the_losses(tiny_run, deterministic):
    option = f"train.deterministic={deterministic}"
    try:
        for name, seed in ("a", 1), ("b", 1), ("c", 2):
            tiny_run(name, "model.dropout=0.3", f"train.seed={seed}", option)
            assert torch.are_deterministic_algorithms_enabled() == deterministic
            assert torch.backends.cudnn.deterministic == deterministic
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.deterministic = False
    assert losses(tiny_run, "a") == losses(tiny_run, "b") != losses(tiny_run, "c")
