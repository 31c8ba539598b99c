"""Nothing in the repository runs code that came as data."""

import ast
import pickle

import pytest
import torch

from detrex.checkpoint import read_checkpoint
from detrex.experiments.pictures import dataset_samples
from detrex.experiments.runs import read_run
from detrex.utils.errors import InputError
from tests.models import ROOT

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
    # A safe loader that takes tags of Python's for text (see the test below).
    ("detrex/utils/safe_yaml.py", "yaml.load"),
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
    calls = ["eval(x)", "torch.load(p)", "run(x, shell=True)", "pickle.load(f)", "f(torch.load(p))"]
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


@pytest.mark.parametrize("name", ["../secret.png", "/etc/hostname", "a/../../secret.png", ""])
def test_pictures_show_no_file_outside_the_image_folder(tmp_path, name):
    truth = {"images": [{"id": 1, "file_name": name}], "annotations": [], "categories": []}
    with pytest.raises(InputError, match="is not inside"):
        dataset_samples(truth, tmp_path, 1)
