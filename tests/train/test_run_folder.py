import json
import subprocess

import pytest

from detrex.config import schema
from detrex.train.folder import check_output_folder, read_record
from detrex.train.nan_guard import NonFiniteLoss
from detrex.utils.errors import InputError
from tests.train.runs import CONFIG, assert_equal


def test_fork_with_a_lambda_trains_and_leaves_its_sources(tiny_run):
    fork = str(CONFIG.with_name("tiny_fork.py"))
    tiny_run("fork", "--config-file", fork, "train.max_iter=2ep")
    folder = tiny_run.folder / "fork"
    assert tiny_run.checkpoint("fork")["iteration"] == 5
    assert (folder / "config.yaml").read_text().startswith("# Not loadable")
    assert "lr_factor_func: " in (folder / "config.yaml").read_text()
    sources = {path.name: path.read_text() for path in (folder / "config_sources").iterdir()}
    assert sources == {
        name: CONFIG.with_name(name).read_text() for name in ("tiny_fork.py", "tiny_config.py")
    }
    assert "train.max_iter=2ep" in json.loads((folder / "run.json").read_text())["overrides"]
    assert not list(folder.glob("*.pkl"))
    groups = tiny_run.checkpoint("fork")["trainer"]["optimizer"]["param_groups"]
    assert sorted({group["initial_lr"] for group in groups}) == pytest.approx([1e-5, 1e-4])


def test_saved_sources_and_overrides_repeat_the_run(tiny_run):
    fork = str(CONFIG.with_name("tiny_fork.py"))
    tiny_run("a", "--config-file", fork, "train.max_iter=5", "model.dropout=0.3")
    record = read_record(tiny_run.folder / "a")
    overrides = [o for o in record["overrides"] if not o.startswith("train.output_dir")]
    sources = str(tiny_run.folder / "a" / "config_sources" / "tiny_fork.py")
    tiny_run("b", "--config-file", sources, *overrides)
    assert_equal(tiny_run.checkpoint("b")["model"], tiny_run.checkpoint("a")["model"])


def test_record_tells_the_state_of_the_configs_own_repository(tiny_run):
    tiny_run.folder.joinpath("fork").mkdir()
    config = tiny_run.folder / "fork" / "config.py"
    config.write_text(CONFIG.read_text())

    def git(*command):
        author = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        command = ["git", "-C", str(config.parent), *author, *command]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init")
    git("add", ".")
    git("commit", "-m", "x")
    tiny_run("a", "--config-file", str(config), "train.max_iter=1")
    committed = {"commit": git("rev-parse", "HEAD"), "changed_files": []}
    assert read_record(tiny_run.folder / "a")["config_git"] == committed
    config.write_text(CONFIG.read_text() + "# changed")
    tiny_run("b", "--config-file", str(config), "train.max_iter=1")
    changed = read_record(tiny_run.folder / "b")["config_git"]
    assert changed == {**committed, "changed_files": ["config.py"]}


@pytest.fixture
def used(tmp_path):
    config = {"model": {"width": 8}, "train": {"max_iter": 8}, "dataloader": {"train": {"x": 1}}}
    (tmp_path / "run.json").write_text(json.dumps({"config": config}))
    return tmp_path, config


def changed(config, section, **values):
    return {**config, section: {**config[section], **values}}


def test_volatile_keys_may_change(used):
    folder, config = used
    for key in ("max_iter", "eval_period", "output_dir", "device"):
        check_output_folder(folder, changed(config, "train", **{key: 5}), False, False)


def test_folder_of_an_older_version_lacks_keys_at_their_defaults(used):
    folder, config = used
    full = changed(config, "train", **{**schema.defaults("train"), **config["train"]})
    check_output_folder(folder, full, False, False)
    for key, value in (("deterministic", True), ("amp", {"enabled": True, "dtype": "bfloat16"})):
        with pytest.raises(InputError, match=f"another config .train.{key}"):
            check_output_folder(folder, changed(full, "train", **{key: value}), False, False)


@pytest.mark.parametrize("section", ["model", "train", "dataloader"])
def test_everything_else_is_another_config(used, section):
    folder, config = used
    with pytest.raises(InputError, match=rf"another config \({section}.other: 1, not None\)"):
        check_output_folder(folder, changed(config, section, other=1), False, False)
    check_output_folder(folder, changed(config, section, other=1), resume=False, reuse=True)
    check_output_folder(folder, changed(config, section, other=1), resume=True, reuse=False)


def test_new_folder_has_no_record(tmp_path):
    assert read_record(tmp_path / "none") == {}
    check_output_folder(tmp_path / "none", {}, False, False)


def test_changed_seed_is_reported(used, caplog):
    folder, config = used
    check_output_folder(folder, changed(config, "train", seed=5), resume=True, reuse=False)
    assert "resuming with a changed config: train.seed: 5, not None" in caplog.text


@pytest.mark.parametrize("given", [-1, 7])
def test_seed_that_the_run_has_drawn_is_no_change(used, caplog, given):
    folder, config = used
    record = {"config": changed(config, "train", seed=-1), "seed": 7}
    (folder / "run.json").write_text(json.dumps(record))
    check_output_folder(folder, changed(config, "train", seed=given), resume=True, reuse=False)
    assert "changed config" not in caplog.text
    check_output_folder(folder, changed(config, "train", seed=8), resume=True, reuse=False)
    assert "resuming with a changed config: train.seed: 8, not 7" in caplog.text


def test_resumed_start_that_fails_at_once_leaves_the_record(tiny_run):
    tiny_run("a", "train.max_iter=4")
    folder = tiny_run.folder / "a"
    before = {name: (folder / name).read_bytes() for name in ("run.json", "config.yaml")}
    with pytest.raises(NonFiniteLoss):
        tiny_run("a", "--resume", "optimizer.lr=0.5", "model.fail_at=4")
    assert {name: (folder / name).read_bytes() for name in before} == before
    earlier = read_record(folder) | {"started": "2000-01-01T00:00:00+00:00"}
    (folder / "run.json").write_text(json.dumps(earlier))
    tiny_run("a", "--resume", "optimizer.lr=0.5")
    record = read_record(folder)
    assert record["config"]["optimizer"]["lr"] == 0.5 and record["started"] == earlier["started"]


def test_no_replaced_run_is_lost(tiny_run):
    folder = tiny_run.folder / "a"
    runs = []
    for seed in (1, 2, 3):
        tiny_run("a", "train.max_iter=2", f"train.seed={seed}", "--reuse-output")
        runs.append({path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()})
    for number, files in enumerate(runs[:2], start=1):
        paths = (folder / f"replaced/{number}").iterdir()
        replaced = {p.name: p.read_bytes() for p in paths if p.is_file()}
        assert {"run.json", "config.yaml", "metrics.json", "model_final.pth"} <= replaced.keys()
        assert any(name.startswith("events.out") for name in replaced)
        assert replaced.items() <= files.items()


def test_continuing_and_starting_anew_exclude_each_other(tiny_run):
    with pytest.raises(InputError, match="--resume continues a run, --reuse-output starts a new"):
        tiny_run("a", "--resume", "--reuse-output")
    assert not (tiny_run.folder / "a").exists()
