"""Nothing in the repository runs code that came as data."""

import ast
import logging
import pickle
import runpy

import pytest
import torch

from detrex.checkpoint import read_checkpoint
from detrex.checkpoint.weights import write_safetensors
from detrex.inspect.pictures import dataset_samples
from detrex.predict.predictor import Predictor
from detrex.report.runs import read_run
from detrex.utils.cli import write_out
from detrex.utils.errors import InputError
from detrex.utils.text import printable
from tests.models import ROOT
from tests.report.fake_runs import write_model

FOLDERS = ("detrex", "projects", "tools", "configs", "benchmarks", "aligndetr")
FORBIDDEN = {
    *("eval", "exec", "os.system", "os.popen", "pickle.load", "pickle.loads", "pickle.Unpickler"),
    *("yaml.load", "yaml.full_load", "yaml.unsafe_load", "joblib.load", "cloudpickle.load"),
    *("cloudpickle.loads", "shutil.unpack_archive", "urllib.request.urlretrieve"),
}
# Reads what the same function has just written.
ALLOWED = {
    ("detrex/config/dump.py", "yaml.unsafe_load"),
    # With --trust-checkpoint only, and with a warning.
    ("detrex/checkpoint/files.py", "torch.load"),
    ("detrex/checkpoint/files.py", "pickle.load"),
    # Safe loaders: one takes tags of Python's for text (see the test below), one knows names of
    # classes of detrex and its libraries.
    ("detrex/utils/safe_yaml.py", "yaml.load"),
    ("detrex/config/trust.py", "yaml.load"),
    ("detrex/data/formats/yolo_config.py", "yaml.load"),  # texts, lists and mappings alone
    ("detrex/data/workers.py", "pickle.loads"),  # what a loading process of the same run has sent
    # What this user's own run has written, or what --trust-config was given for.
    ("detrex/config/trust.py", "yaml.unsafe_load"),
}


def risks(source: str) -> list[str]:
    """Names of the calls in a source that can run code, or fetch it without a check."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if name in FORBIDDEN or given.get("shell") == "True" or given.get("allow_pickle") == "True":
            found.append(name)
        if name == "Image.open" and "formats" not in given:  # EPS starts Ghostscript
            found.append(name)
        if name == "torch.load" and given.get("weights_only") != "True":
            found.append(name)
    return found


def test_no_call_runs_what_a_file_says():
    found = set()
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            name = str(path.relative_to(ROOT))
            found |= {(name, risk) for risk in risks(path.read_text(encoding="utf-8"))}
    assert found == ALLOWED


def test_the_search_finds_what_it_looks_for():
    calls = [
        "eval(x)",
        "Image.open(p)",
        "torch.load(p)",
        "run(x, shell=True)",
        "pickle.load(f)",
        "f(torch.load(p))",
    ]
    assert all(risks(call) for call in calls)
    assert not risks("model.eval(); torch.load(p, weights_only=True)")


class Builtin:
    def __reduce__(self):
        return (eval, ("open('ran', 'w')",))


class State:
    def __setstate__(self, state):
        open("ran", "w").close()

    def __getstate__(self):
        return {"x": 1}


def protocol_zero(function: str, argument: str) -> bytes:
    return f"c{function}\n(S'{argument}'\ntR.".encode()


PICKLES = {
    **{
        f"{t.__name__} {p}": pickle.dumps({"a": [t()]}, p) for t in (Builtin, State) for p in (0, 4)
    },
    "os.system": protocol_zero("os\nsystem", "touch ran"),
    "posix.system": protocol_zero("posix\nsystem", "touch ran"),
    "by numpy": protocol_zero("numpy.f2py.capi_maps\neval", "open('ran','w')"),
    "dotted": b"\x80\x04\x8c\x05numpy\x8c\x0bcore.getattr\x93.",
    "extension": b"\x80\x02\x82\x01.",
    "persistent": b"Px\n.",
    "empty": b"",
}


@pytest.mark.parametrize("suffix", [".pkl", ".pth"])
@pytest.mark.parametrize("content", PICKLES.values(), ids=PICKLES)
def test_malicious_pickles_are_refused_and_run_nothing(tmp_path, monkeypatch, content, suffix):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"weights{suffix}"):
        read_checkpoint(path)
    if suffix == ".pth" and content.startswith(b"\x80"):
        torch.save({"model": State()}, path)
        with pytest.raises(InputError, match=f"weights{suffix}"):
            read_checkpoint(path)
    assert not (tmp_path / "ran").exists()


def test_a_config_of_a_run_is_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    calls = ["object/apply:os.system ['touch ran']", "object/new:os.system ['touch ran']"]
    for call in calls:
        (tmp_path / "config.yaml").write_text(f"model: !!python/{call}\n")
        (tmp_path / "run.json").write_text("{}")
        (tmp_path / "metrics.json").write_text('{"iteration": 0, "total_loss": 1.0}\n')
        assert read_run(tmp_path).config["model"] == ["touch ran"]
    assert not (tmp_path / "ran").exists()


CALL = "extra: !!python/object/apply:os.system ['touch ran']"


@pytest.mark.parametrize("line", [CALL, "extra: {_target_: os.system, command: touch ran}"])
def test_a_config_beside_a_checkpoint_runs_no_code_of_others(tmp_path, monkeypatch, capsys, line):
    """By the commands that were given a checkpoint, and by those that were given the config."""
    write_model(tmp_path, tmp_path)
    with (tmp_path / "config.yaml").open("a") as stream:
        stream.write(f"\n{line}\n")
    monkeypatch.chdir(tmp_path)
    commands = (
        "visualize_predictions.py model.pth --images . -o x.png",
        "replay.py model.pth",
        "predict.py config.yaml model.pth x.jpg",
        "export.py config.yaml model.pth -o x.onnx",
        "analyze_alignment.py --config-file config.yaml train.init_checkpoint=model.pth",
        "analyze_model.py --config-file config.yaml",
        "convert_checkpoint.py model.pth x.pth --config-file config.yaml",
        "train_net.py --config-file config.yaml",
    )
    for command in commands:
        monkeypatch.setattr("sys.argv", command.split())
        with pytest.raises(SystemExit, match="2"):
            runpy.run_path(str(ROOT / "tools" / command.split()[0]), run_name="__main__")
        error = capsys.readouterr().err
        assert "config.yaml names code outside of detrex" in error and error.count("\n") == 1
    write_safetensors(torch.nn.Linear(1, 1), tmp_path / "model.safetensors", "", None)
    with pytest.raises(InputError, match="--trust-config"):
        Predictor.from_pretrained(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_names_do_not_move_the_cursor():
    assert printable("Straße 道路 गाड़ी 👩‍🚒 C++") == "Straße 道路 गाड़ी 👩‍🚒 C++"
    odd = "a\x1b]0;b\a\r\n\u202ec\udcff\x9b"
    assert printable(odd) == r"a\x1b]0;b\x07\r\n\u202ec\udcff\x9b"
    assert str(InputError(f"{odd}: gone")).isprintable()


@pytest.mark.parametrize("name", ["../secret.png", "/etc/hostname", "a/../../secret.png", ""])
def test_pictures_show_no_file_outside_the_image_folder(tmp_path, name):
    truth = {"images": [{"id": 1, "file_name": name}], "annotations": [], "categories": []}
    with pytest.raises(InputError, match="is not inside"):
        dataset_samples(truth, tmp_path, 1)


def test_names_in_logs_do_not_either():
    record = logging.makeLogRecord({"msg": "class %s\nof\t2", "args": ("a\x1b[31m",)})
    assert write_out(record) and record.getMessage() == "class a\\x1b[31m\nof\\t2"
