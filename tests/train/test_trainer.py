import math

import pytest
import torch
from detectron2.structures import Boxes, Instances

from detrex.modeling.ema import ModelEma
from detrex.train.checkpoints import TrainingCheckpoints
from detrex.train.nan_guard import NonFiniteLoss
from detrex.train.trainer import StepOptions, Trainer, seed_step
from detrex.utils.errors import InputError
from tests.train.runs import assert_equal
from tests.train.tiny import TinyDetector


def sample(index):
    generator = torch.Generator().manual_seed(index)
    instances = Instances((16, 16))
    instances.gt_boxes = Boxes(torch.rand(1, 4, generator=generator) * 16)
    instances.gt_classes = torch.tensor([index % 2])
    image = torch.rand(3, 16, 16, generator=generator) * 255
    return dict(image=image, height=16, width=16, file_name=f"{index}.png", instances=instances)


def batches(size, count=4):
    return [[sample(i * size + j) for j in range(size)] for i in range(count)]


def train(loader, iterations=4, model=None, lr=0.1, momentum=0.9, **options):
    torch.manual_seed(0)
    model = model or TinyDetector()
    average = {key: options.pop(key) for key in ("decay", "warmup") if key in options}
    ema = ModelEma(model, **average) if average else None
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)
    trainer = Trainer(model, loader, optimizer, StepOptions(**options), ema)
    if trainer.grad_scaler.is_enabled():  # the default scale makes it skip the first steps
        trainer.grad_scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    trainer.train(0, iterations)
    return trainer


def seeded(model):
    torch.manual_seed(0)
    return model()


def weights(trainer):
    return {k: v for k, v in trainer.network.state_dict().items() if k != "batches"}


def plain_sgd(loader, lr, momentum, max_norm=None):
    """The same training as a loop of a few lines."""
    torch.manual_seed(0)
    model = TinyDetector()
    parameters = list(model.parameters())
    speed = [torch.zeros_like(p) for p in parameters]
    history = []
    for batch in loader:
        model.zero_grad()
        sum(model(batch).values()).backward()
        norm = math.sqrt(sum(float((p.grad**2).sum()) for p in parameters))
        scale = min(1.0, max_norm / (norm + 1e-6)) if max_norm else 1.0
        with torch.no_grad():
            for p, v in zip(parameters, speed, strict=True):
                v.mul_(momentum).add_(p.grad * scale)
                p -= lr * v
        history.append([p.detach().clone() for p in parameters])
    return model, history


@pytest.mark.parametrize("max_norm", [None, 0.05])
def test_weights_are_those_of_a_plain_loop(max_norm):
    loader = batches(4)
    clip = {"max_norm": max_norm, "norm_type": 2} if max_norm else None
    trainer = train(loader, clip=clip)
    expected, _ = plain_sgd(loader, 0.1, 0.9, max_norm)
    for name, value in weights(trainer).items():
        torch.testing.assert_close(value, expected.state_dict()[name], rtol=1e-5, atol=1e-7)
    unclipped, _ = plain_sgd(loader, 0.1, 0.9)
    moved = trainer.network.backbone.weight - unclipped.backbone.weight
    assert (moved.abs().max() > 1e-3) == (max_norm is not None)


@pytest.mark.parametrize("steps", [2, 4])
def test_accumulation_equals_the_large_batch(steps):
    large = train(batches(8))
    samples = [s for batch in batches(8) for s in batch]
    size = 8 // steps
    small = [samples[i : i + size] for i in range(0, len(samples), size)]
    accumulated = train(small, accumulation_steps=steps)
    assert accumulated.network.batches == 4 * steps
    for name, value in weights(accumulated).items():
        torch.testing.assert_close(value, weights(large)[name], rtol=1e-5, atol=1e-6)
    latest = accumulated.storage.latest()["loss_class"][0]
    assert latest == pytest.approx(large.storage.latest()["loss_class"][0], rel=1e-5)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16])
def test_mixed_precision_covers_the_forward(dtype):
    trainer = train(batches(4), amp_dtype=dtype, clip={"max_norm": 0.1})
    assert trainer.network.dtypes == {dtype or torch.float32}
    assert trainer.network.backbone.weight.dtype == torch.float32
    full = train(batches(4), clip={"max_norm": 0.1})
    for name, value in weights(trainer).items():
        torch.testing.assert_close(value, weights(full)[name], rtol=0, atol=0.02)
    assert trainer.grad_scaler.is_enabled() == (dtype == torch.float16)


def test_fp16_gradients_are_unscaled_before_clipping():
    trainer = train(batches(4), iterations=1, lr=1.0, momentum=0, amp_dtype=torch.float16,
                    clip={"max_norm": 0.05})  # fmt: skip
    torch.manual_seed(0)
    start = TinyDetector().state_dict()
    step = [(v - start[k]).detach() for k, v in trainer.network.named_parameters()]
    assert torch.cat([s.flatten() for s in step]).norm().item() == pytest.approx(0.05, rel=1e-3)
    assert 0.05 < trainer.storage.latest()["grad_norm"][0] < 50  # of the unscaled gradient


@pytest.mark.parametrize("warmup", [0, 3])
def test_average_is_the_plain_formula(warmup):
    loader = batches(4)
    trainer = train(loader, clip=None, decay=0.8, warmup=warmup)
    decays = [0.8 * (1 - math.exp(-n / warmup)) if warmup else 0.8 for n in range(1, 5)]
    _, history = plain_sgd(loader, 0.1, 0.9)
    torch.manual_seed(0)
    for i, (name, first) in enumerate(TinyDetector().named_parameters()):
        average = first.detach()
        for decay, step in zip(decays, history, strict=True):
            average = decay * average + (1 - decay) * step[i]
        torch.testing.assert_close(trainer.ema.state_dict()[name], average)
    assert trainer.ema.state_dict()["batches"] == 4  # counters are copied
    assert "decoder.class_embed.weight" not in trainer.ema.state_dict()  # kept once


def test_averaged_weights_are_applied_and_taken_back_bit_for_bit():
    trainer = train(batches(4), decay=0.5)
    before = {k: v.clone() for k, v in trainer.network.state_dict().items()}
    with pytest.raises(KeyError), trainer.ema.applied(trainer.network):
        inside = trainer.network.class_embed.weight.clone()
        raise KeyError
    assert torch.equal(inside, trainer.ema.averages["class_embed.weight"])
    assert_equal(dict(trainer.network.state_dict()), before)


def test_reported_losses_are_means_over_the_period():
    loader = batches(4)
    trainer = train(loader, lr=0.0, log_period=3)
    losses = [trainer.model(batch)["loss_bbox"].item() for batch in loader]
    history = trainer.storage.history("loss_bbox").values()
    assert [step for _, step in history] == [2, 3]
    assert [v for v, _ in history] == [pytest.approx(sum(losses[:3]) / 3), pytest.approx(losses[3])]


class WithFigures(TinyDetector):
    """Its criterion leaves a figure beside the losses, as Rank & Sort does."""

    def __init__(self):
        super().__init__()
        self.criterion = torch.nn.Module()

    def forward(self, inputs):
        losses = super().forward(inputs)
        self.criterion.figures = {"ranking_error": 2 * losses["loss_bbox"].detach()}
        return losses


def test_figures_of_the_criterion_are_reported_and_not_trained():
    loader = batches(4)
    plain = train(loader, log_period=3)
    trainer = train(loader, model=seeded(WithFigures), log_period=3)
    assert_equal(weights(trainer), weights(plain))
    storage = trainer.storage
    for name in ("total_loss", "grad_norm"):
        assert storage.history(name).values() == plain.storage.history(name).values()
    boxes, errors = (storage.history(n).values() for n in ("loss_bbox", "ranking_error"))
    assert [2 * value for value, _ in boxes] == pytest.approx([value for value, _ in errors])


@pytest.mark.parametrize("steps", [1, 2])
def test_nan_stops_before_it_reaches_the_weights(tmp_path, steps):
    model = TinyDetector(fail_at=0)
    model.matcher.iter = 0
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(NonFiniteLoss) as error:
        train(batches(2), model=model, accumulation_steps=steps, output_dir=str(tmp_path))
    message = str(error.value)
    assert "loss_class is nan in iteration 0; images: 0.png, 1.png" in message
    assert str(tmp_path / "nan_state.pth") in message and "\n" not in message
    state = torch.load(tmp_path / "nan_state.pth", weights_only=True)
    before["batches"] += steps
    assert_equal(dict(state["model"]), before)
    assert math.isnan(state["losses"]["loss_class"]) and state["losses"]["loss_bbox"] > 0
    assert torch.equal(state["inputs"][1]["image"], sample(1)["image"])
    assert torch.equal(state["inputs"][1]["gt_boxes"], sample(1)["instances"].gt_boxes.tensor)


def deferred(fail_at=None, **options):
    """A run that looks at its losses as on a GPU: one step later."""
    torch.manual_seed(0)
    model = TinyDetector(fail_at=fail_at)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    trainer = Trainer(model, batches(2), optimizer, StepOptions(**options), ModelEma(model, 0.5))
    trainer.guard.deferred = True
    return trainer


def test_deferred_look_at_the_losses_does_not_change_training():
    late, now = deferred(), deferred()
    now.guard.deferred = False
    for trainer in (late, now):
        trainer.train(0, 6)
    assert_equal(dict(late.network.state_dict()), dict(now.network.state_dict()))
    assert_equal(late.state_dict(), now.state_dict())


@pytest.mark.parametrize("log_period, stops", [(20, 3), (3, 2)])
def test_deferred_nan_is_found_a_step_later_or_when_losses_are_logged(tmp_path, log_period, stops):
    good = deferred()
    good.train(0, 2)
    trainer = deferred(fail_at=2, log_period=log_period, output_dir=str(tmp_path))
    with pytest.raises(NonFiniteLoss, match="loss_class is nan in iteration 2; images: 4.png"):
        trainer.train(0, 6)
    assert trainer.iter == stops
    state = torch.load(tmp_path / "nan_state.pth", weights_only=True)
    assert state["iteration"] == 2 and math.isnan(state["losses"]["loss_class"])
    assert torch.equal(state["inputs"][0]["image"], sample(4)["image"])
    for found in (state["model"], trainer.network.state_dict()):
        found = {key: value for key, value in found.items() if key != "batches"}
        assert_equal(found, weights(good))  # those before the bad step
    assert all(average.isfinite().all() for average in trainer.ema.averages.values())


def test_no_checkpoint_is_written_after_a_deferred_nan(tmp_path):
    trainer = deferred(fail_at=2, checkpoint_period=1, output_dir=str(tmp_path))
    trainer.save = TrainingCheckpoints(trainer, str(tmp_path), {}, max_to_keep=9).save
    with pytest.raises(NonFiniteLoss, match="iteration 2"):
        trainer.train(0, 6)
    written = sorted(path.name for path in tmp_path.glob("model_*.pth"))
    assert written == ["model_0000000.pth", "model_0000001.pth"]


def bad_gradients(late, steps, scale=65536.0, **options):
    """A run with loss scaling whose gradients are not finite in these steps; losses are."""
    torch.manual_seed(0)
    model = TinyDetector()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=late)
    trainer = Trainer(model, batches(2), optimizer, StepOptions(amp_dtype=torch.float16, **options))
    trainer.grad_scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    trainer.guard.deferred = late
    spoil = {"nan": float("nan"), "inf": float("inf")}
    model.norm.weight.register_hook(
        lambda grad: (
            grad * spoil["nan" if trainer.iter % 2 else "inf"] if trainer.iter in steps else grad
        )
    )
    return trainer


@pytest.mark.parametrize("late", [False, True])
def test_steps_that_loss_scaling_skips_without_end_end_the_run(tmp_path, late):
    trainer = bad_gradients(late, range(10, 1000), scale=2.0**10, output_dir=str(tmp_path))
    with pytest.raises(NonFiniteLoss) as error:
        trainer.train(0, 1000)
    assert trainer.iter == 29 + late  # 20 of them, seen one later where the look is deferred
    message = str(error.value)
    assert "grad_norm is nan in iteration 29; images: " in message and "\n" not in message
    assert "the last 20 steps were skipped" in message
    assert f"(loss scale {2.0 ** (10 - 19 - late):.3g})" in message
    assert (tmp_path / "nan_state.pth").exists()


def test_a_loss_scale_without_digits_ends_the_run(tmp_path):
    skips = range(0, 100, 2)  # each second step is made
    trainer = bad_gradients(False, skips, scale=1e-3, output_dir=str(tmp_path))
    with pytest.raises(NonFiniteLoss, match="loss scale 6.25e-05"):
        trainer.train(0, 100)
    assert trainer.iter == 8


def test_a_few_skipped_steps_are_usual_and_said_if_they_are_the_last(caplog):
    bad_gradients(False, range(19)).train(0, 24)
    assert "steps were skipped" not in caplog.text
    bad_gradients(False, range(5)).train(0, 5)
    assert "the last 5 steps were skipped" in caplog.text


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("closed")])
def test_the_loss_is_the_reason_of_the_end_where_nothing_can_be_saved(monkeypatch, error):
    def fail(*args):
        raise error

    monkeypatch.setattr("detrex.train.nan_guard.save_checkpoint", fail)
    with pytest.raises(NonFiniteLoss) as end:
        model = TinyDetector(fail_at=0)
        model.matcher.iter = 0
        train(batches(2), model=model)
    reason = error.strerror if isinstance(error, OSError) else "closed"
    text = str(end.value)
    assert text.startswith("loss_class is nan in iteration 0; images: 0.png, 1.png; ")
    assert text.endswith(f"nan_state.pth could not be written: {reason}")


@pytest.mark.parametrize("clip", [None, {"max_norm": 0.1}])
def test_infinite_gradient_of_a_finite_loss_stops_too(tmp_path, clip):
    model = TinyDetector()
    model.backbone.weight.register_hook(lambda grad: grad * float("inf"))
    with pytest.raises(NonFiniteLoss, match="grad_norm is"):
        train(batches(2), model=model, output_dir=str(tmp_path), clip=clip)


def test_what_a_step_draws_depends_on_seed_iteration_and_rank_only():
    draws = {}
    for key in [(0, 1, 0), (0, 2, 0), (0, 1, 1), (1, 1, 0), (0, 1, 0)]:
        seed_step(*key)
        draws.setdefault(key, set()).add(torch.rand(()).item())
    assert all(len(values) == 1 for values in draws.values())
    assert len({min(values) for values in draws.values()}) == 4


def test_short_loader_is_started_again_and_an_empty_one_is_an_error():
    assert train(batches(2, count=1)).network.batches == 4
    with pytest.raises(InputError, match="no batch"):
        train([])
