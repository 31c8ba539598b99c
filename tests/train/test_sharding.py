"""Sharded training equals DistributedDataParallel's, and leaves the same files behind."""

import json
import shutil
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from detrex.train.failures import NonFiniteLoss
from detrex.train.group import end_process
from detrex.train.sharding import shard, shard_units
from detrex.utils.errors import InputError
from tests.models import image, tiny
from tests.train.runs import TinyRuns
from tests.train.tiny import write_data

SECONDS = 240
OPTIONS = [
    "train.model_ema.enabled=true",
    "train.amp.enabled=true",
    "train.accumulation_steps=2",
    "train.eval_period=2",
    "train.clip_grad.params.max_norm=0.05",
    "optimizer.lr=0.001",
    "model.dropout=0.1",
]
FULL = "train.sharding=full"
RUNS = {
    "ddp": [],
    "full": [FULL],
    "ddp_then_full": [FULL, "--resume"],
    "full_then_ddp": ["--resume"],
    "ddp_best": ["train.reload_best=6", "model.width=5"],
    "full_best": [FULL, "train.reload_best=6", "model.width=5"],
    "ddp_frozen": ['train.freeze=["backbone"]', "train.clip_grad.enabled=false"],
    "full_frozen": [FULL, 'train.freeze=["backbone"]', "train.clip_grad.enabled=false"],
    "ddp_nan": ["model.fail_at=3", "model.fail_rank=1"],
    "full_nan": [FULL, "model.fail_at=3", "model.fail_rank=1"],
    "float16": [FULL, "train.amp.dtype=float16"],
}


def half_a_run(folder: Path, name: str, source: str) -> None:
    """A folder as it was after the first checkpoint of another run."""
    shutil.copytree(folder / source, folder / name)
    (folder / name / "model_final.pth").unlink()
    (folder / name / "model_latest.pth").unlink(missing_ok=True)
    (folder / name / "last_checkpoint").write_text("model_0000003.pth")


def first_step(rank: int, sharding: str) -> dict:
    """Losses of this process and gradients of a tiny D-FINE, whose layers predict in one another's
    distributions; the processes start from different weights."""
    model = tiny("projects/d_fine/configs/dfine_efficientnet_lite0_sample_data.py").train()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 + rank / 10)
    if sharding == "full":
        shard(model)
    run = model if sharding == "full" else DistributedDataParallel(model)
    torch.manual_seed(rank)
    losses = run([image(64, 96, 3, seed=rank), image(96, 64, 4 + rank, seed=2 + rank)])
    sum(losses.values()).backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    for name, x in gradients.items():
        gradients[name] = x.full_tensor() if hasattr(x, "full_tensor") else x
    return {"losses": {k: v.detach() for k, v in losses.items()}, "gradients": gradients}


def work(rank: int, folder: str, data: list[str]) -> None:
    """What each process does; the tests read its files."""
    torch.set_num_threads(1)
    store, limit = dist.FileStore(f"{folder}/store", 2), timedelta(seconds=SECONDS)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=limit)
    from detectron2.utils import comm

    comm.create_local_process_group(2)
    runs = TinyRuns(Path(folder), data)
    for name, options in RUNS.items():
        if "_then_" in name and rank == 0:
            half_a_run(runs.folder, name, name.split("_")[0])
        dist.barrier()
        try:
            runs(name, *OPTIONS, *options)
        except NonFiniteLoss as error:
            (runs.folder / f"{name}{rank}.txt").write_text(str(error))
    for sharding in ("none", "full"):
        torch.save(first_step(rank, sharding), runs.folder / f"step_{sharding}{rank}.pth")
    dist.destroy_process_group()
    end_process(0)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> TinyRuns:
    folder = tmp_path_factory.mktemp("sharding")
    data = write_data(folder / "data", count=11)  # one process has an image more to score
    processes = torch.multiprocessing.spawn(work, (str(folder), data), nprocs=2, join=False)
    deadline = time.monotonic() + SECONDS
    try:
        while not processes.join(timeout=1):
            assert time.monotonic() < deadline, "the processes wait for each other"
    finally:
        for process in processes.processes:
            process.kill()
    return TinyRuns(folder, data)


def assert_close(actual, expected):
    """Nested states that differ by rounding; types and shapes are the same."""
    if isinstance(expected, dict):
        assert actual.keys() == expected.keys()
        for key in expected:
            assert_close(actual[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert len(actual) == len(expected)
        for a, b in zip(actual, expected, strict=True):
            assert_close(a, b)
    elif isinstance(expected, torch.Tensor):
        assert type(actual) is type(expected)
        torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-6)
    elif isinstance(expected, float):
        assert actual == pytest.approx(expected, rel=1e-3, abs=1e-6, nan_ok=True)
    else:
        assert actual == expected


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("full", "ddp"),
        ("ddp_then_full", "ddp"),
        ("full_then_ddp", "ddp"),
        ("full_best", "ddp_best"),
        ("full_frozen", "ddp_frozen"),
    ],
)
def test_weights_averages_optimizer_and_losses_are_those_of_ddp(runs, name, other):
    ours, theirs = runs.checkpoint(name), runs.checkpoint(other)
    assert ours.keys() == theirs.keys()
    for key in ("model", "ema_state", "trainer", "iteration"):
        assert_close(ours[key], theirs[key])
    assert ours["model"]["class_embed.weight"].data_ptr() == (
        ours["model"]["decoder.class_embed.weight"].data_ptr()  # one tensor in the file
    )
    lines = [
        [json.loads(line) for line in (runs.folder / n / "metrics.json").read_text().splitlines()]
        for n in (name, other)
    ]
    for mine, line in zip(*lines, strict=True):
        timeless = {key: value for key, value in line.items() if "time" not in key}
        assert_close({key: mine[key] for key in timeless}, timeless)
    best = [json.loads((runs.folder / n / "best.json").read_text()) for n in (name, other)]
    assert_close(*best)


@pytest.mark.parametrize("rank", [0, 1])
def test_gradients_of_d_fine_are_those_of_ddp(runs, rank):
    files = [runs.folder / f"step_{sharding}{rank}.pth" for sharding in ("full", "none")]
    assert_close(*(torch.load(file, weights_only=True) for file in files))


def test_a_checkpoint_goes_on_in_one_process(runs):
    half_a_run(runs.folder, "one", "full")
    runs("one", *OPTIONS, FULL, "model.dropout=0", "--resume")
    half_a_run(runs.folder, "one_of_ddp", "ddp")
    runs("one_of_ddp", *OPTIONS, "model.dropout=0", "--resume")
    assert_close(runs.checkpoint("one")["model"], runs.checkpoint("one_of_ddp")["model"])
    assert "one process has nothing to share" in (runs.folder / "one/log.txt").read_text()


def test_a_loss_that_is_nan_leaves_the_step_of_its_process(runs):
    files = [runs.folder / name / "nan_state.rank1.pth" for name in ("full_nan", "ddp_nan")]
    ours, theirs = (torch.load(file, weights_only=True) for file in files)
    assert_close(ours["model"], theirs["model"])
    assert_close(ours["inputs"], theirs["inputs"])
    assert "loss_class is nan in iteration 3" in (runs.folder / "full_nan1.txt").read_text()
    assert "grad_norm is nan in iteration 3" in (runs.folder / "full_nan0.txt").read_text()


def test_float16_scales_the_loss(runs):
    content = runs.checkpoint("float16")
    assert content["trainer"]["grad_scaler"]["scale"] > 0
    assert all(tensor.isfinite().all() for tensor in content["model"].values())


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["train.sharding=half"], "train.sharding=half: give none or full"),
        ([FULL, "train.ddp.fp16_compression=true"], "goes without train.ddp.fp16_compression"),
        ([FULL, "train.model_ema.device=cpu"], "goes without train.model_ema.device"),
    ],
)
def test_refusals(tiny_run, options, text):
    with pytest.raises(InputError, match=text):
        tiny_run("refused", *options)


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))


class Stage(nn.Module):
    def __init__(self, width, depth):
        super().__init__()
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))


def test_units_are_stages_or_where_those_are_large_blocks():
    model = nn.Module()
    model.backbone = nn.Module()
    model.backbone.stages = nn.ModuleList([Stage(2, 2), Stage(30, 2)])
    small, large = model.backbone.stages
    assert shard_units(model) == [small, *large.blocks]
    detector = tiny("projects/rank_detr/configs/rank_detr_r50_two_stage_12ep.py")
    units = shard_units(detector)
    transformer = detector.transformer
    assert {*transformer.encoder.layers, *transformer.decoder.layers} < {*units}
    assert len({*units}) == len(units)
