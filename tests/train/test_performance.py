"""Every key of ``apply_performance`` is obeyed; names stay, and numbers but for rounding."""

import pytest
import torch
import torch.distributed as dist
from detectron2.utils import comm
from omegaconf import OmegaConf
from torch.nn.parallel import DistributedDataParallel

from detrex.config import get_config
from detrex.config.load import load_config
from detrex.layers import DecoderLayer, EncoderLayer
from detrex.modeling.performance import apply_performance
from detrex.train.build import distributed
from detrex.train.data import build_loader
from detrex.utils.errors import InputError
from tests.models import image, tiny
from tests.train.runs import CONFIG


@pytest.fixture
def settings():
    """Process-wide settings as they were."""
    precision, benchmark = torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark
    yield
    torch.set_float32_matmul_precision(precision)
    torch.backends.cudnn.benchmark = benchmark


def apply(model, **keys):
    apply_performance(OmegaConf.merge(get_config("common/train.py").train, keys), model)
    return model


def convolutions(model):
    return [m.weight for m in model.modules() if isinstance(m, torch.nn.Conv2d)]


def gradients(model):
    sum(model([image(48, 64, 3)]).values()).backward()
    return {
        name.removeprefix("module."): p.grad
        for name, p in model.named_parameters()
        if p.requires_grad
    }


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    scale = max(grad.abs().max() for grad in expected.values()).item()
    for name, grad in expected.items():
        torch.testing.assert_close(found[name], grad, rtol=1e-3, atol=1e-6 * scale, msg=name)


def test_process_wide_settings(settings):
    apply(torch.nn.Linear(1, 1), float32_matmul_precision="high", cudnn_benchmark=True)
    assert torch.get_float32_matmul_precision() == "high" and torch.backends.cudnn.benchmark
    apply(torch.nn.Linear(1, 1))
    assert torch.get_float32_matmul_precision() == "highest" and not torch.backends.cudnn.benchmark
    with pytest.raises(InputError, match="train.float32_matmul_precision=tf32: give one of"):
        apply(torch.nn.Linear(1, 1), float32_matmul_precision="tf32")


def test_channels_last_changes_the_layout_and_not_the_gradients(settings):
    plain, fast = apply(tiny(), channels_last=False).train(), apply(tiny()).train()
    layouts = [w.is_contiguous(memory_format=torch.channels_last) for w in convolutions(fast)]
    assert all(layouts) and not all(w.is_contiguous() for w in convolutions(fast))
    assert all(w.is_contiguous() for w in convolutions(plain))
    assert_same(gradients(fast), gradients(plain))


@pytest.fixture
def one_process(tmp_path):
    dist.init_process_group(
        "gloo", store=dist.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1
    )
    yield
    dist.destroy_process_group()


def test_activation_checkpointing_under_ddp_gives_the_same_gradients(settings, one_process):
    expected = gradients(apply(tiny()).train())
    model = apply(tiny(), activation_checkpointing=True).train()
    calls = []
    for layer in (*model.transformer.encoder.layers, *model.transformer.decoder.layers):
        layer.register_forward_pre_hook(lambda layer, _: calls.append(layer))
    ddp = DistributedDataParallel(model, gradient_as_bucket_view=True)
    assert_same(gradients(ddp), expected)
    assert len(calls) == 2 * 3  # one encoder and two decoder layers, again in the backward pass


def test_backbone_and_layers_are_compiled_and_names_stay(settings):
    model, plain = apply(tiny(), compile=True), tiny()
    compiled = {m for m in model.modules() if m._compiled_call_impl is not None}
    layers = {m for m in model.modules() if isinstance(m, DecoderLayer | EncoderLayer)}
    assert compiled == {model.backbone, *layers} and len(layers) == 3
    assert model.state_dict().keys() == plain.state_dict().keys()


@pytest.mark.parametrize("key", ["compile", "activation_checkpointing"])
def test_a_run_whose_model_cannot_obey_is_refused(settings, tiny_run, key):
    with pytest.raises(InputError, match=f"train.{key}=True: this model has no layers"):
        tiny_run("a", f"train.{key}=True")


def test_a_config_from_elsewhere_gets_the_keys(tmp_path):
    text = CONFIG.read_text() + "\nfor key in list(train):\n    if key != 'output_dir':\n"
    (tmp_path / "old.py").write_text(text + "        del train[key]\n")
    train = load_config(str(tmp_path / "old.py")).train
    assert train.channels_last and not train.compile and train.ddp.gradient_as_bucket_view


@pytest.mark.parametrize("device, pinned", [("cpu", False), ("cuda:0", True)])
def test_images_for_a_gpu_wait_in_pinned_memory(device, pinned):
    cfg = load_config(str(CONFIG), [f"train.device={device}", "train.seed=0"])
    records = [dict(file_name=f"{i}.png", width=16, height=16) for i in range(4)]
    assert build_loader(cfg, records, 0).pin_memory == pinned


def test_synchronised_norms_on_several_cpu_processes_are_refused(monkeypatch):
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    cfg = OmegaConf.create({"train": {"ddp": {}}})
    with pytest.raises(InputError, match="SyncBN needs GPUs"):
        distributed(cfg, torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.SyncBatchNorm(3)))
