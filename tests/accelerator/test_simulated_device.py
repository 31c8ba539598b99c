"""The simulated accelerator keeps an accelerator's rules."""

from __future__ import annotations

import copy
import io
import threading

import pytest
import torch
from torch import Tensor, nn

from tests.simulated_device import count_waits, pinned_memory


def on_sim(*values: float) -> Tensor:
    return torch.tensor(values).to("sim")


@pytest.mark.parametrize(
    ("kind", "wait"),
    [
        ("item", lambda x: x.sum().item()),
        ("item", lambda x: bool(x.any())),
        ("item", lambda x: float(x[0])),
        ("to host", lambda x: x.cpu()),
        ("to host", lambda x: x.to("cpu", torch.float64)),
        ("to host", lambda x: x.cpu().numpy()),
        ("to host", lambda x: x.tolist()),
        ("nonzero", lambda x: x.nonzero()),
        ("nonzero", lambda x: torch.where(x > 1)),
        ("mask", lambda x: x[x > 1]),
        ("mask", lambda x: x.masked_select(x > 1)),
        ("unique", lambda x: x.unique()),
        ("equal", lambda x: torch.equal(x, x)),
        ("repeat_interleave", lambda x: torch.repeat_interleave(x.int())),
        ("to device", lambda x: x.new_tensor([1.0])),
        ("to device", lambda x: torch.ones(2).to("sim")),
    ],
)
def test_what_makes_the_host_wait_is_counted(kind, wait) -> None:
    x = on_sim(1.0, 2.0, 3.0)
    with count_waits() as waits:
        wait(x)
    assert waits == {(kind, "elsewhere"): 1}


def test_what_does_not_make_the_host_wait() -> None:
    x = on_sim(1.0, 2.0, 3.0)
    with count_waits() as waits:
        (x * 2 + torch.tensor(1.0)).clamp(min=0)[torch.tensor([0, 1]).to("sim", non_blocking=True)]
        torch.where(x > 1, x, 0).masked_fill_(x > 2, 0)
        torch.zeros(3, device="sim").copy_(torch.ones(3), non_blocking=True)
        torch.repeat_interleave(x.int(), output_size=6)
    assert not waits


def test_a_wait_is_told_with_the_line_that_caused_it() -> None:
    from detrex.layers.ms_deform_attn import as_shapes

    with count_waits() as waits:
        as_shapes(torch.tensor([[2, 3]]).to("sim"))
    [((kind, line), count)] = [w for w in waits.items() if w[0][0] == "to host"]
    assert line.startswith("detrex/layers/ms_deform_attn/function.py:") and (kind, count) == (
        "to host",
        1,
    )


@pytest.mark.parametrize(
    ("operator", "mix"),
    [
        ("aten.add.Tensor", lambda x: x + torch.ones(3)),
        ("aten.mul.Tensor", lambda x: torch.ones(3) * x),
        ("aten.cat", lambda x: torch.cat([x, torch.ones(3)])),
        ("aten.where.self", lambda x: torch.where(x > 1, x, torch.ones(3))),
        ("aten.addmm", lambda x: nn.functional.linear(x[None], torch.ones(3, 3), torch.ones(3))),
    ],
)
def test_tensors_of_two_devices_do_not_mix(operator, mix) -> None:
    with pytest.raises(RuntimeError, match=rf"{operator}.*different devices: .*cpu \(3") as error:
        mix(on_sim(1.0, 2.0, 3.0))
    assert "sim (" in str(error.value)


def trained(device: str, dtype: torch.dtype | None = None) -> list[Tensor]:
    """Parameters after three steps; fused and foreach, with in-place operators and views."""
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten()
    model = nn.Sequential(*layers, nn.Linear(36, 2))
    x = torch.rand(2, 3, 5, 5)
    model, x = model.to(device), x.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, fused=True)
    for _ in range(3):
        with torch.autocast(device, dtype, enabled=dtype is not None):
            output = model(x)
        assert output.dtype == (dtype or torch.float32)
        output.float().mul_(2).view(-1)[1:].square().sum().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1, foreach=True)
        optimizer.step()
        optimizer.zero_grad()
    return [parameter.detach().cpu() for parameter in model.parameters()]


def test_float64_is_not_computed_with() -> None:
    with pytest.raises(RuntimeError, match="aten.add.*this device has no float64"):
        torch.ones(2, dtype=torch.float64).to("sim") + 1


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_training_gives_the_cpus_numbers(dtype) -> None:
    for one, other in zip(trained("sim", dtype), trained("cpu", dtype), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2 if dtype else 1e-5, atol=2e-3)


def test_backward_runs_in_a_thread_of_the_device() -> None:
    threads = set()

    class Identity(torch.autograd.Function):
        @staticmethod
        def forward(context, x):
            return x.clone()

        @staticmethod
        def backward(context, grad):
            threads.add(threading.get_ident())
            return grad * 2

    x = on_sim(1.0, 2.0).requires_grad_()
    Identity.apply(x).sum().backward()
    assert x.grad.cpu().tolist() == [2.0, 2.0]
    assert threads and threading.get_ident() not in threads


def test_models_are_copied_saved_and_loaded() -> None:
    model = nn.BatchNorm1d(3).to("sim")
    twin = copy.deepcopy(model)
    twin.weight.data.add_(1)
    assert model.weight.device == twin.running_mean.device == torch.device("sim:0")
    stream = io.BytesIO()
    torch.save(twin.state_dict(), stream)
    stream.seek(0)
    state = torch.load(stream, weights_only=True)
    assert state["weight"].tolist() == [2.0] * 3
    model.load_state_dict(state)
    assert torch.equal(model.weight.cpu(), state["weight"])


def test_a_copy_to_pinned_memory_is_there_after_its_event() -> None:
    x = on_sim(1.0, 2.0)
    with pinned_memory(), count_waits() as waits:
        host = torch.empty(2, pin_memory=True)
        host.copy_(x, non_blocking=True)
        event = torch.sim.Event()
        event.record()
        x.add_(1)  # behind it
        assert not waits and host.tolist() != [1.0, 2.0] and not event.query()
        event.synchronize()
        assert host.tolist() == [1.0, 2.0] and event.query()
    assert waits == {("event", "elsewhere"): 1}


def test_elsewhere_it_is_not_there() -> None:
    torch.sim.present = False
    assert not torch.accelerator.is_available()
