"""What the trainer does besides forward and backward, on a small Rank-DETR on the device."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable

import torch
from detectron2.engine import HookBase
from torch import Tensor, nn

from benchmarks.gpu.checks import CheckFailed, Result, demand, within
from detrex.modeling.ema import ModelEma
from detrex.train import StepOptions, Trainer
from detrex.train.failures import NonFiniteLoss
from tests.models import image, tiny

LR = 1e-4


def trainer(device: str, options: StepOptions | None = None, **more: object) -> Trainer:
    """Two images of 64x96 again and again, and a fused AdamW."""
    torch.manual_seed(0)
    model = tiny().to(device)
    batch = [image(64, 96, objects=3), image(64, 96, objects=5, seed=1)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, fused=True)
    return Trainer(model, [batch], optimizer, options or StepOptions(), **more)


def weights(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the parameters."""
    return {name: x.detach().clone() for name, x in model.named_parameters()}


def equal(before: dict[str, Tensor], after: dict[str, Tensor]) -> bool:
    return all(torch.equal(x, after[name]) for name, x in before.items())


class EachStep(HookBase):
    """Calls a function with the number of steps done, before the first one and after each."""

    def __init__(self, note: Callable[[int], None]) -> None:
        self._note = note

    def before_train(self) -> None:
        self._note(0)

    def after_step(self) -> None:
        self._note(self.trainer.iter + 1)


def check_loss_scaling(device: str) -> Result:
    """fp16: with a scale that overflows a step changes nothing and halves the scale; with a good
    one it changes the weights; losses are finite throughout."""
    run = trainer(device, StepOptions(amp_dtype=torch.float16, log_period=1))
    demand(run.grad_scaler.is_enabled(), "the loss scaler is off")
    history = []

    def note(done: int) -> None:
        history.append((weights(run.network), run.grad_scaler.get_scale()))
        if done == 1:
            state = run.grad_scaler.state_dict()
            run.grad_scaler.load_state_dict({**state, "scale": 2.0**4})

    run.grad_scaler.load_state_dict({**run.grad_scaler.state_dict(), "scale": 2.0**100})
    run.register_hooks([EachStep(note)])
    run.train(0, 6)
    start, skipped, *rest = history
    demand(equal(start[0], skipped[0]), "a step whose gradients overflow has changed weights")
    demand(skipped[1] == 2.0**99, f"the scale after an overflow is {skipped[1]}, not 2^99")
    demand(not equal(skipped[0], rest[-1][0]), "steps at a good scale have changed nothing")
    finite = all(bool(x.isfinite().all()) for x in rest[-1][0].values())
    demand(finite, "weights are not finite")
    loss = run.storage.latest()["total_loss"][0]
    return Result(f"an overflow is skipped, 5 steps follow; loss {loss:.4g}")


def check_nan_guard(device: str) -> Result:
    """A loss that is NaN ends the run one step later; the weights are those before its step."""
    with tempfile.TemporaryDirectory() as folder:
        run = trainer(device, StepOptions(output_dir=folder))
        demand(run.guard.deferred == (device == "cuda"), "the guard is not deferred on a GPU")
        run.guard.deferred = True
        before: dict[str, Tensor] = {}

        def note(done: int) -> None:
            if done == 3:
                before.update(weights(run.network))

        def spoil(model: nn.Module, inputs: tuple, losses: dict[str, Tensor]) -> dict | None:
            if run.iter != 3:
                return None
            return {name: loss * float("nan") for name, loss in losses.items()}

        run.network.register_forward_hook(spoil)
        run.register_hooks([EachStep(note)])
        try:
            run.train(0, 10)
        except NonFiniteLoss as error:
            demand("iteration 3;" in str(error), f"it names another iteration: {error}")
        else:
            raise CheckFailed("ten steps were made with a loss that is NaN")
    demand(run.iter == 4, f"the run ended in iteration {run.iter}, not 4")
    demand(equal(before, weights(run.network)), "the weights have seen the NaN")
    return Result("a NaN in iteration 3 ends the run in 4, weights as before it")


def check_fused_optimizer(device: str) -> Result:
    """Three fused AdamW steps equal those of the plain loop on the same gradients."""
    run = trainer(device, StepOptions(clip=None))
    run.train(0, 1)  # leaves gradients
    models = [copy.deepcopy(run.network) for _ in range(2)]
    options = ({"fused": True}, {"fused": False, "foreach": False})
    gradients = {name: p.grad for name, p in run.network.named_parameters()}
    for model, option in zip(models, options, strict=True):
        optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.1, **option)
        for factor in (1.0, -0.5, 2.0):
            for name, p in model.named_parameters():
                p.grad = None if gradients[name] is None else factor * gradients[name]
            optimizer.step()
    fused, plain = (weights(model) for model in models)
    start = weights(run.network)
    moved = max((plain[name] - start[name]).abs().max().item() for name in start)
    apart = max((plain[name] - fused[name]).abs().max().item() for name in start)
    demand(moved > LR, f"weights moved by {moved} at most")
    return within({"weights, of the largest move": (apart / moved, 1e-3)})


def check_moving_average(device: str) -> Result:
    """Averages beside the weights and on the CPU equal the formula in float64."""
    errors, decay = {}, 0.9
    for place in ("", "cpu"):
        torch.manual_seed(0)
        run = trainer(device)
        run.ema = ModelEma(run.network, decay, device=place)
        expected: dict[str, Tensor] = {}

        def note(done: int, run: Trainer = run, expected: dict = expected) -> None:
            for name, x in weights(run.network).items():
                x = x.cpu().double()
                expected[name] = decay * expected[name] + (1 - decay) * x if done else x

        run.register_hooks([EachStep(note)])
        run.train(0, 4)
        devices = {x.device.type for x in run.ema.averages.values()}
        demand(devices == {place or device}, f"averages are on {devices}, not {place or device}")
        apart = [
            (run.ema.averages[name].cpu().double() - x).norm() / x.norm().clamp(min=1e-6)
            for name, x in expected.items()
        ]
        errors[f"averages on {place or device}"] = (torch.stack(apart).max().item(), 1e-5)
    return within(errors)
