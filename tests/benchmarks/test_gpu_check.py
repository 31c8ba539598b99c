"""The acceptance on a GPU, as far as a CPU goes: the command, its worker, its files, its checks."""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import os
import subprocess
import sys
import time
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from detectron2.config import LazyConfig, instantiate

from benchmarks import rt_detr
from benchmarks.gpu import (
    attention,
    checks,
    goals,
    measures,
    packages,
    processes,
    runs,
    steps,
    timings,
)
from benchmarks.gpu.checks import Check, CheckFailed, all_checks, within
from benchmarks.gpu.runner import RESULTS, TABLE, run_checks
from detrex.train import default_argument_parser
from detrex.train.run import run
from detrex.utils.errors import InputError
from detrex.utils.operators import OperatorCounter
from tests.models import ROOT, image

TOOL = ROOT / "tools/gpu_check.py"
FAULTS = "tests.benchmarks.gpu_faults"
# In a process with the others: each is a second or two. The rest of the checks is called below.
QUICK = ("environment", "attention*", "loss*", "deferred*", "fused*", "moving*", "golden * d?no")
QUICK += ("training step, plain", "training step, bf16, compiled", "benchmark [ac]*")
# Operators of PyTorch's that raise on CUDA under torch.use_deterministic_algorithms(True).
NOT_DETERMINISTIC = """nll_loss2d_forward nll_loss2d_backward grid_sampler_2d_backward put_
    upsample_bilinear2d_backward upsample_bicubic2d_backward masked_scatter masked_scatter_ histc
    _adaptive_avg_pool2d_backward adaptive_max_pool2d_backward median bincount max_unpool2d
    fractional_max_pool2d_backward reflection_pad2d_backward""".split()


def faults() -> list[Check]:
    return [
        Check("good", f"{FAULTS}:good"),
        Check("wrong", f"{FAULTS}:wrong"),
        Check("throws", f"{FAULTS}:throws"),
        Check("good again", f"{FAULTS}:good", {"figure": "as | before"}),
        Check("dies", f"{FAULTS}:dies"),
        Check("on a GPU", f"{FAULTS}:good", cpu=False),
        Check("hangs", f"{FAULTS}:hangs", limit=3.0),
    ]


@pytest.fixture(scope="module")
def fault_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    folder, lines = tmp_path_factory.mktemp("faults"), []
    results, missed = run_checks(faults(), "cpu", folder, 300.0, say=lines.append)
    assert missed == 0 and list(results.checks) == [check.name for check in faults()]
    return folder, lines


def test_a_check_that_throws_dies_or_hangs_is_a_failed_line(fault_run) -> None:
    folder, lines = fault_run
    outcomes = json.loads((folder / RESULTS).read_text())["checks"]
    verdicts = {name: (outcome["status"], outcome["figure"]) for name, outcome in outcomes.items()}
    assert verdicts == {
        "good": ("passed", "fine"),
        "wrong": ("failed", "boxes 2 (at most 1)"),
        "throws": ("failed", "RuntimeError: CUDA error: an illegal memory access"),
        "good again": ("passed", "as | before"),
        "dies": ("failed", "its process ended with status 7"),
        "on a GPU": ("skipped", "needs a GPU"),
        "hangs": ("failed", "it took longer than 3 s"),
    }
    assert [line.split()[0] for line in lines] == [status for status, _ in verdicts.values()]
    assert "and more about it" in (folder / "log.txt").read_text()
    assert "| good again | passed | as / before |" in (folder / TABLE).read_text()


def test_what_is_done_is_not_run_again(fault_run) -> None:
    folder, _ = fault_run
    before, lines = (folder / RESULTS).read_text(), []
    start = time.monotonic()
    run_checks(faults(), "cpu", folder, 300.0, say=lines.append)
    assert time.monotonic() - start < 2 and (folder / RESULTS).read_text() == before
    assert all("done before" in line for line in lines)


def test_failed_checks_are_retried_and_those_out_of_time_are_not_reached(fault_run, tmp_path):
    folder, _ = fault_run
    content = json.loads((folder / RESULTS).read_text())
    (tmp_path / RESULTS).write_text(json.dumps(content))
    late = [*faults()[:2], Check("new", f"{FAULTS}:good")]
    lines: list[str] = []
    _, missed = run_checks(late, "cpu", tmp_path, 0.0, retry=True, say=lines.append)
    assert [line.split()[0] for line in lines] == ["passed", "not", "not"] and missed == 2
    content["machine"]["device"] = "another GPU"
    (tmp_path / RESULTS).write_text(json.dumps(content))
    with pytest.raises(InputError, match="another GPU.*name another --output"):
        run_checks(late, "cpu", tmp_path, 300.0)
    (tmp_path / RESULTS).write_text('{"checks": {"good": 1}}')
    with pytest.raises(InputError, match="results.json is no results file"):
        run_checks(late, "cpu", tmp_path, 300.0)


def command(*options: object) -> subprocess.CompletedProcess:
    line = [sys.executable, str(TOOL), *map(str, options)]
    return subprocess.run(line, capture_output=True, text=True)


def test_the_command_on_a_cpu(tmp_path: Path) -> None:
    done = command("--device", "cpu", "--output", tmp_path, "--only", *QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    outcomes = json.loads((tmp_path / RESULTS).read_text())["checks"]
    skipped = {name for name, outcome in outcomes.items() if outcome["status"] == "skipped"}
    assert skipped == {"training step, bf16, compiled"} and len(outcomes) == 14
    assert all(o["status"] == "passed" for n, o in outcomes.items() if n not in skipped)
    rows = outcomes["attention kernels, float32"]["rows"]
    assert len(rows) == 15 and all(0 <= row["error"] < 2e-5 for row in rows)
    assert (tmp_path / TABLE).read_text() in done.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    done = command("--output", tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        "error: --device cuda: PyTorch sees no GPU; --device cpu tries the checks\n"
    )


def test_a_check_that_does_not_exist_is_named() -> None:
    done = command("--only", "golden*", "gold")
    assert done.returncode == 2 and "--only 'gold': no such check" in done.stderr


def test_every_check_has_a_function_and_a_name_of_its_own() -> None:
    names = [check.name for check in all_checks()]
    assert len(set(names)) == len(names) > 50
    for check in all_checks():
        assert callable(sys.modules["pkgutil"].resolve_name(check.function)), check.name
    listed = command("--list").stdout
    assert all(name in listed for name in names) and "sal-detectron2" in listed


def test_the_compiled_step_runs_uncompiled_on_a_cpu() -> None:
    (row,) = steps.measure_step("cpu", "bf16", compiled=True).rows
    assert row["variant"] == "bf16, compiled" and row["images_per_s"] > 0


def test_a_batch_that_does_not_fit_is_halved(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    tried = []

    def build(batch: list[dict]):
        tried.append(len(batch))
        if len(batch) > limit:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return lambda count: None

    monkeypatch.setattr(steps, "plain_steps", lambda *options: build)
    monkeypatch.setitem(steps.BATCHES, "cpu", ((16, 2),))
    for limit, sizes in ((16, [16]), (8, [16, 8]), (4, [16, 8])):
        tried.clear()
        result = steps.measure_step("cpu", "plain")
        assert tried == sizes and result.rows[0]["batch"] == 16
        assert ("out of memory" in result.figure) == (limit == 4)


def test_two_processes() -> None:
    assert "gloo" in processes.check_group("cpu", 2).figure


@pytest.fixture
def runs_in_this_process(monkeypatch: pytest.MonkeyPatch):
    """As :func:`runs.start`, whose processes would spend their time on imports."""

    def start(config: Path, output: Path, options: list[str], environment: dict | None = None):
        line = ["--config-file", str(config), *options, f"train.output_dir={output}"]
        with monkeypatch.context() as patch:
            for name, value in (environment or {}).items():
                patch.setenv(name, value)
            run(default_argument_parser().parse_intermixed_args(line))
        return subprocess.Popen(["true"]), output

    monkeypatch.setattr(runs, "start", start)
    yield
    torch.use_deterministic_algorithms(False)


def test_runs_equal_the_cpus_and_each_other_after_a_resume(
    runs_in_this_process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(runs.STEPS, "cpu", 2)
    assert "closest" in runs.check_equals_cpu("cpu").figure
    assert "equal bit for bit" in runs.check_resume("cpu", steps=2).figure


def test_differences_of_states_are_named() -> None:
    one, other = ({"a": [torch.zeros(2), 1], "b": {"c": x}} for x in (1.0, 2.0))
    assert runs.differences(one, one, "model") == []
    assert runs.differences(one, other, "model") == ["model.b.c"]
    other["a"][0] += 1
    assert runs.differences(one, other, "model") == ["model.a.0", "model.b.c"]


def test_a_failed_run_is_told_by_its_last_error(tmp_path: Path) -> None:
    process = runs.start(runs.DETR, tmp_path / "run", ["train.nonsense=1"])
    with pytest.raises(CheckFailed, match="ended with 2: error: .*train.nonsense"):
        runs.finish(*process)


def test_the_resumed_model_has_deterministic_operators_alone() -> None:
    model = instantiate(LazyConfig.load(str(runs.DETR)).model).to("cpu")
    with OperatorCounter() as counter:
        sum(model([image(64, 96, 3), image(96, 64, 2, seed=1)]).values()).backward()
    assert "convolution_backward" in counter.operators
    assert not counter.operators.keys() & set(NOT_DETERMINISTIC)


def test_rt_detr_is_measured_or_skipped(monkeypatch) -> None:
    asked = []
    row = {"what": "inference, RT-DETR R50, 1 x 640x640", "ratio": 1.5}
    monkeypatch.setattr(rt_detr, "run", lambda *options: asked.append(options) or [row])
    assert timings.time_rt_detr("cpu").figure == "RT-DETR R50, 1 x 640x640 1.5x"
    assert asked == [(1, "cpu", (1,))]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(checks.CheckSkipped, match="transformers"):
        timings.time_rt_detr("cpu")


def test_errors_leave_out_jumps_and_never_a_nan() -> None:
    expected = torch.ones(1000)
    jump = expected.clone()
    jump[3] = 7
    assert attention.error(jump, expected, 1e-3) == 0
    assert attention.error(jump, expected, 0.0) == pytest.approx(6 / 1000**0.5)
    jump[3] = math.nan
    assert math.isnan(attention.error(jump, expected, 1e-3))
    with pytest.raises(CheckFailed, match="offsets nan"):
        within({"value": (0.1, 1.0), "offsets": (math.nan, 1.0)})


def test_waits_of_the_host_are_counted_by_line() -> None:
    with warnings.catch_warnings(record=True) as messages:
        warnings.simplefilter("always")
        for _ in range(2):
            warnings.warn(f"{measures.SYNCHRONISES} (Triggered internally)", stacklevel=1)
        warnings.warn("something else", stacklevel=1)
    ((line, number),) = measures.waits_of(messages).items()
    assert line.startswith("tests/benchmarks/test_gpu_check.py:") and number == 2


def test_idle_time_is_what_no_kernel_covers() -> None:
    assert measures.uncovered([(0, 4), (1, 2), (6, 10)]) == 0.2


def test_goals_are_met_or_missed() -> None:
    def step(rate: float, mib: float, idle: float) -> dict:
        row = {"images_per_s": rate, "peak_mib": mib, "gpu_idle": idle, "host_waits": 1}
        return {"rows": [{"batch": 2, "images": 2, **row}]}

    times = [
        {"what": f"attention, encoder, forward + backward{side}", "baseline_s": 8.0, "ours_s": ours}
        for side, ours in (("", 2.0), (", bf16", 1.0), (", original CUDA kernel", 2.0))
    ]
    results = goals.goals_of(
        {
            "training step, plain": step(2.0, 100.0, 0.5),
            "training step, bf16": step(9.0, 40.0, 0.02),
            "training step, bf16, compiled": step(7.0, 30.0, 0.02),
            "benchmark attention": {"rows": times},
            "benchmark rt_detr": {"status": "failed", "rows": []},
        }
    )
    assert [(goal["value"], goal["met"]) for goal in results] == [
        ("2.0x", False),  # attention, against the original kernel
        ("2.0%", True),
        ("1", True),
        ("4.5x", True),
        ("3.5x", False),
        ("0.40x", False),
    ]
    assert goals.goals_of({}) == []


def test_wheels_stand_in_for_packages(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(packages, "NEEDED", {"torch": ("torch",), "strange": ("a_strange_one",)})
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    with pytest.raises(InputError, match="missing: strange; .*--wheels"):
        packages.provide(None, tmp_path / "site")
    assert "missing  strange" in packages.listing() and "there    torch" in packages.listing()
    (tmp_path / "wheels").mkdir()
    with pytest.raises(InputError, match="no .*whl files"):
        packages.provide(str(tmp_path / "wheels"), tmp_path / "site")
    name = tmp_path / "wheels/strange-1.0-cp310-none-any.whl"
    name.write_text("no archive")
    with pytest.raises(InputError, match="is no wheel"):
        packages.provide(str(tmp_path / "wheels"), tmp_path / "site")
    with zipfile.ZipFile(name, "w") as wheel:
        wheel.writestr("strange-1.0.data/purelib/a_strange_one/__init__.py", "number = 3\n")
    packages.provide(str(tmp_path / "wheels"), tmp_path / "site")
    assert importlib.import_module("a_strange_one").number == 3
    assert os.environ["PYTHONPATH"] == f"{tmp_path / 'site'}{os.pathsep}elsewhere"


def test_the_repository_is_small_enough_to_be_carried() -> None:
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if files.returncode:
        pytest.skip("no git repository")
    paths = [ROOT / name for name in files.stdout.split("\0") if name]
    assert sum(path.stat().st_size for path in paths if path.is_file()) < 60e6
