"""Runs the commands of the documentation in this process, the long ones in a short form."""

from __future__ import annotations

import functools
import importlib.util
import re
import runpy
import subprocess
import sys
from collections.abc import Sequence
from glob import glob
from pathlib import Path

import pytest
import torch

from detrex import predict
from detrex.ablation import schedule
from detrex.ablation.jobs import Job
from detrex.config import load as loading
from detrex.evaluation.calibration.maps import ScoreMaps
from detrex.train import slurm
from detrex.train.cli import default_argument_parser
from tests.docs.workspace import IMAGES, shrink
from tests.models import ROOT

TRAIN = ["train.max_iter=2", "train.eval_period=2", "train.checkpointer.period=100"]
# What each tool is given in addition. Option lists given twice count the last time.
EXTRA = {
    "make_sample_data.py": [f"--{key}={value}" for key, value in IMAGES.items()],
    "ablate.py": ["--seeds=1"],
    "gpu_check.py": ["--list"],
    "export.py": ["--height=64", "--width=64"],
    "analyze_model.py": ["--size", "64", "96"],
}
CLASSES = {"crow": "1", "owl": "2"}  # of the sample data, for those that pages name
# Converted in tests/projects/test_rt_detr.py, test_d_fine.py and test_lw_detr.py.
ELSEWHERE = {
    "rtdetr_r50vd/model.safetensors",
    "dfine_l_coco.pth",
    "LWDETR_small_60e_coco.pth",
    "rf-detr-nano.pth",
}


class Shell:
    """``run`` is given the words of a command.

    Configs are those of small models, see ``shrink``. Not run but checked: what needs more than
    one process (parsed, its config resolved; tests/train/test_processes.py runs two machines),
    papers' tables (resolved), what installs, tests and benchmarks (they must exist and import),
    the conversion to ONNX and what runs such a model (tests/predict), and the calibration of a
    model that was hardly trained (tests/evaluation).
    """

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path) -> None:
        self.patch = patch
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        real = loading._load

        def small(path: Path, trust_config: bool):
            cfg = real(path, trust_config)
            return shrink(cfg) if path.suffix == ".py" else cfg

        patch.setattr(loading, "_load", small)
        patch.setattr(slurm, "submit", self._submit)
        patch.setattr(schedule, "start", self._start)
        patch.setattr(predict, "trace", lambda model, size: None)
        patch.setattr(predict, "write_onnx", lambda program, path, about: path.touch())

    def run(self, words: Sequence[str]) -> None:
        words = [word.replace("/path/to/", "path/to/") for word in words]
        words = [found for word in words for found in sorted(glob(word)) or [word]]
        program, *arguments = words
        if program == "export":
            self.patch.setenv(*arguments[0].split("=", 1))
        elif program == "make":
            subprocess.run(["make", "--dry-run", *arguments], cwd=ROOT, check=True)
        elif program == "trtexec":  # of the graph that export.py would have written
            onnx = next(x.partition("=")[2] for x in arguments if x.startswith("--onnx="))
            assert Path(onnx).is_file()
        elif program in ("pip", "pre-commit"):
            self._check_install(words)
        elif program == "bash":
            subprocess.run([*words, sys.executable], check=True)
        elif program == "torchrun":
            self._check_torchrun(arguments)
        else:
            assert program in ("python", ".venv/bin/python"), f"unknown command: {program}"
            self._python(*arguments)

    def _python(self, script: str, *arguments: str) -> None:
        path, options = Path(script), list(arguments)
        if script == "-m" and arguments[0] == "pytest":
            assert Path(arguments[1]).is_file()
        elif script == "-m":
            self._call(lambda: runpy.run_module(arguments[0], run_name="__main__"), options)
        elif path.parts[0] == "tests":
            runpy.run_path(script, run_name="imported")
        elif path.name == "train_net.py":
            self._train(script, options)
        elif path.name == "benchmark.py":
            self._benchmark(script, options)
        else:
            self._tool(script, options)

    def _tool(self, script: str, options: list[str]) -> None:
        if ELSEWHERE & {*options}:
            return
        if "run_onnx.py" in script:  # the model is a stand-in
            assert all(Path(option).is_file() for option in options)
            return
        if "quantize.py" in script:  # as well
            assert all(Path(option).is_file() for option in options[:3])
            return
        options = [option for option in options if option != "--check"]  # a stand-in, too
        options = [CLASSES.get(option, option) for option in options]
        if "calibrate.py" in script and "--results" not in options:
            write_maps(options[1], options[options.index("-o") + 1])
            return
        extra = [*EXTRA.get(Path(script).name, ())]
        if "ablate" in script and {"--num-gpus", "--preset"} & {*options}:
            extra = ["--table-only"]
        if "demo.py" in script:
            if importlib.util.find_spec("gradio") is None:
                return
            gradio = importlib.import_module("gradio")
            self.patch.setattr(gradio.Blocks, "launch", lambda *given, **options: None)
        self._script(script, [*options, *extra])

    def _train(self, script: str, options: list[str]) -> None:
        args = check_training(options)
        if args.num_gpus * args.num_machines > 1:
            return
        if not args.eval_only:
            options += TRAIN if args.resume else [*TRAIN, "--reuse-output"]
        self._script(script, options)

    def _benchmark(self, script: str, options: list[str]) -> None:
        if options[0] == "fps":
            options += ["--sizes=64x64", "--batch-sizes=1", "--repeats=1"]
        else:
            module = importlib.import_module(f"benchmarks.{options[0]}")
            nothing = functools.wraps(module.run)(lambda **options: [])
            self.patch.setattr(module, "run", nothing)
        self._script(script, options)

    def _script(self, script: str, options: list[str]) -> None:
        self._call(lambda: runpy.run_path(script, run_name="__main__"), [script, *options])

    def _call(self, function, argv: list[str]) -> None:
        with self.patch.context() as patch:
            patch.setattr(sys, "argv", argv)
            patch.setattr(sys, "path", [*sys.path])
            try:
                function()
            except SystemExit as end:
                assert end.code in (0, None), f"{' '.join(argv)}: exit status {end.code}"

    def _start(self, job: Job, environment: dict) -> object:
        """A run of an ablation: here instead of in a process."""
        self._train(job.command[1], [*job.command[2:]])
        return type("Ended", (), {"poll": lambda self: 0, "returncode": 0})()

    def _submit(self, command: Sequence[str], folder: Path, cluster: str, parameters: dict):
        assert Path(command[0]).is_file()
        check_training(command[1:])
        pytest.importorskip("submitit")
        job = type("Job", (), {"job_id": "1", "paths": type("Paths", (), {"stdout": "log"})})
        return job()

    def _check_install(self, words: list[str]) -> None:
        if words[1:3] == ["install", "-e"]:
            assert set(re.findall(r"\[(.*)\]", words[3])) <= set(_extras())
        else:
            assert words in (["pip", "install", "pre-commit"], ["pre-commit", "install"])

    def _check_torchrun(self, arguments: list[str]) -> None:
        from torch.distributed.run import get_args_parser

        args = get_args_parser().parse_args(arguments)
        assert Path(args.training_script).is_file() and int(args.nproc_per_node) > 0
        check_training(args.training_script_args)


def check_training(options: Sequence[str]):
    """The parsed command line of ``train_net.py``, its config and overrides loaded."""
    args = default_argument_parser().parse_intermixed_args(options)
    loading.load_config(args.config_file, args.opts)
    assert args.machine_rank < args.num_machines
    assert args.num_machines == 1 or args.dist_url.startswith("tcp://")
    return args


def _extras() -> list[str]:
    text = Path("setup.py").read_text()
    return re.findall(r'^ +"([\w-]+)": [\[(]', text, re.M)


def write_maps(checkpoint: str, path: str) -> None:
    """Write the checkpoint with maps that change nothing."""
    content = torch.load(checkpoint)
    count = len(content["metadata"]["classes"])
    maps = ScoreMaps("temperature", "precision", [[1.0]] * count, {"LRP": [0.5] * count})
    content["metadata"]["calibration"] = maps.to_dict()
    torch.save(content, path)
