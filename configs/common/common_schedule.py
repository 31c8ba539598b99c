"""Upstream's functions for schedules of any kind, each with a linear warm-up: their first arguments
are fvcore's; ``warmup_steps`` and ``num_updates`` are iterations."""

from detectron2.config import LazyCall as L
from detectron2.solver import WarmupParamScheduler
from fvcore.common import param_scheduler as schedulers


def _after_warmup(scheduler, warmup_steps, total, warmup_method, warmup_factor):
    return L(WarmupParamScheduler)(
        scheduler=scheduler,
        warmup_length=warmup_steps / total,
        warmup_method=warmup_method,
        warmup_factor=warmup_factor,
    )


def multistep_lr_scheduler(
    values=(1.0, 0.1),
    warmup_steps=0,
    num_updates=90000,
    milestones=(82500,),
    warmup_method="linear",
    warmup_factor=0.001,
):
    """``values[i]`` until ``milestones[i]``; ``num_updates`` (or the last milestone) is the end."""
    scheduler = L(schedulers.MultiStepParamScheduler)(
        values=list(values), milestones=list(milestones), num_updates=num_updates
    )
    total = milestones[-1] if num_updates is None else num_updates
    return _after_warmup(scheduler, warmup_steps, total, warmup_method, warmup_factor)


def step_lr_scheduler(
    values, warmup_steps, num_updates, warmup_method="linear", warmup_factor=0.001
):
    """Every value for an equal share of the run."""
    scheduler = L(schedulers.StepParamScheduler)(values=values, num_updates=num_updates)
    return _after_warmup(scheduler, warmup_steps, num_updates, warmup_method, warmup_factor)


def step_lr_scheduler_with_fixed_gamma(
    base_value,
    num_decays,
    gamma,
    num_updates,
    warmup_steps,
    warmup_method="linear",
    warmup_factor=0.001,
):
    """``base_value``, times ``gamma`` after each of ``num_decays`` + 1 equal shares of the run."""
    scheduler = L(schedulers.StepWithFixedGammaParamScheduler)(
        base_value=base_value, num_decays=num_decays, gamma=gamma, num_updates=num_updates
    )
    return _after_warmup(scheduler, warmup_steps, num_updates, warmup_method, warmup_factor)


def cosine_lr_scheduler(
    start_value, end_value, num_updates, warmup_steps, warmup_method="linear", warmup_factor=0.001
):
    """From ``start_value`` to ``end_value`` along half a cosine."""
    scheduler = L(schedulers.CosineParamScheduler)(start_value=start_value, end_value=end_value)
    return _after_warmup(scheduler, warmup_steps, num_updates, warmup_method, warmup_factor)


def linear_lr_scheduler(
    start_value, end_value, num_updates, warmup_steps, warmup_method="linear", warmup_factor=0.001
):
    """From ``start_value`` to ``end_value`` along a line."""
    scheduler = L(schedulers.LinearParamScheduler)(start_value=start_value, end_value=end_value)
    return _after_warmup(scheduler, warmup_steps, num_updates, warmup_method, warmup_factor)


def constant_lr_scheduler(
    value, num_updates, warmup_steps, warmup_method="linear", warmup_factor=0.001
):
    """``value`` throughout."""
    scheduler = L(schedulers.ConstantParamScheduler)(value=value)
    return _after_warmup(scheduler, warmup_steps, num_updates, warmup_method, warmup_factor)


def exponential_lr_scheduler(
    start_value, decay, num_updates, warmup_steps, warmup_method="linear", warmup_factor=0.001
):
    """``start_value`` times ``decay`` to the power of the share of the run that is done."""
    scheduler = L(schedulers.ExponentialParamScheduler)(start_value=start_value, decay=decay)
    return _after_warmup(scheduler, warmup_steps, num_updates, warmup_method, warmup_factor)
