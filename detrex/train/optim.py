"""The optimizer of a config: parameter groups by rules, frozen parameters, learning rates."""

from __future__ import annotations

import inspect
import logging
import re
from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby

import torch
from detectron2.engine import hooks
from detectron2.solver import LRMultiplier
from detectron2.solver.build import get_default_optimizer_params, reduce_param_groups
from fvcore.common.param_scheduler import ParamScheduler
from omegaconf import DictConfig
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from detrex.config.instantiation import call_with, is_about_arguments, target_of
from detrex.utils.errors import InputError
from detrex.utils.shares import share_of

logger = logging.getLogger(__name__)
_FUSED = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)


def param_groups(
    model: nn.Module,
    base_lr: float,
    lr_factors: Sequence[dict] = (),
    weight_decay: float | None = None,
    weight_decay_norm: float | None = None,
    weight_decay_bias: float | None = None,
    backbone_layer_decay: float = 1.0,
) -> list[dict]:
    """Return optimizer parameter groups of the trainable parameters, as few as possible.

    Args:
        model: its trainable parameters are taken, each once.
        base_lr: learning rate of parameters that no rule matches.
        lr_factors: rules ``{"names": [...], "factor": x}``; ``names`` may be one string. The
            learning rate of a parameter is ``x * base_lr`` by the first rule with a name that is
            part of the parameter's dotted name.
        weight_decay: of all parameters; None: the optimizer's default.
        weight_decay_norm: of normalisation layers; None: as of other parameters.
        weight_decay_bias: of biases; None: as of other parameters.
        backbone_layer_decay: factor d on the learning rate of the backbone's last layer, d^2 on the
            layer before it, and so on (BEiT, Bao et al. 2022, appendix). Of a feature pyramid only
            the network under it counts.

    Raises:
        InputError: a rule that matches no parameter, e.g. because of a misspelt name.
    """
    names = _names(model)
    key = "optimizer.params.lr_factors"
    lr_factors = [{**rule, "names": _as_list(key, rule.get("names"))} for rule in lr_factors]
    for rule in lr_factors:
        if not any(_matches(rule["names"], aliases) for aliases in names.values()):
            raise _no_match(key, rule["names"], names)
    groups = get_default_optimizer_params(
        model,
        base_lr=base_lr,
        weight_decay=weight_decay,
        weight_decay_norm=weight_decay_norm,
        weight_decay_bias=weight_decay_bias,
    )
    decay = _layer_decay(model, backbone_layer_decay)

    def rate(parameter: nn.Parameter) -> float:
        rules = (r["factor"] for r in lr_factors if _matches(r["names"], names[parameter]))
        return base_lr * next(rules, 1.0) * decay.get(parameter, 1.0)

    per_parameter = [
        {**group, "params": [parameter], "lr": rate(parameter)}
        for group in groups
        for parameter in group["params"]
    ]
    return reduce_param_groups(per_parameter)


def freeze(model: nn.Module, names: Sequence[str] | str) -> None:
    """Freeze the parameters whose dotted names contain one of ``names``.

    Batch normalisation whose parameters are frozen uses its running statistics, which stay as well.

    Raises:
        InputError: a name that matches no parameter, or nothing left to train.
    """
    key = "train.freeze"
    parameters, names = _names(model), _as_list(key, names)
    for name in names:
        matching = [p for p, aliases in parameters.items() if _matches([name], aliases)]
        if not matching:
            raise _no_match(key, [name], parameters)
        for parameter in matching:
            parameter.requires_grad_(False)
    if not any(p.requires_grad for p in parameters):
        raise InputError(f"{key}={names} leaves nothing to train")
    if not names:
        return
    for module in model.modules():
        affine = [*module.parameters()] if isinstance(module, _BatchNorm) else []
        if affine and not any(p.requires_grad for p in affine):
            module.register_forward_pre_hook(_stay_in_eval)
    frozen = sum(p.numel() for p in parameters if not p.requires_grad)
    total = sum(p.numel() for p in parameters)
    logger.info("frozen: %.1f of %.1f million parameters", frozen / 1e6, total / 1e6)


def _stay_in_eval(module: nn.Module, inputs: tuple) -> None:
    module.eval()  # in every forward pass: model.train() may have been called since the last


def build_optimizer(cfg: DictConfig, model: nn.Module) -> Optimizer:
    """Build ``cfg.optimizer`` for a model, with a fused kernel if its class has one on every device
    and the config sets neither ``fused`` nor ``foreach``.

    Warn of a config that is not the recipe of the model's published scores.

    Raises:
        InputError: an argument that the optimizer refuses.
    """
    recipe, params = getattr(model, "published_optimizer", None), cfg.optimizer.params
    by_function = params.get("lr_factor_func") is not None
    from_detectron2 = by_function and target_of(params) is get_default_optimizer_params
    if recipe and from_detectron2 and cfg.optimizer.get("lr") == 1e-4:
        logger.warning(
            "the config's optimizer (lr 1e-4, get_default_optimizer_params) is used as written; "
            "upstream's train_net.py ignored it, and %s was published with: %s",
            type(model).__name__,
            recipe,
        )
    try:
        arguments = {"params": call_with(params, model=model)}
        if target_of(cfg.optimizer) in _FUSED and not cfg.optimizer.keys() & {"fused", "foreach"}:
            arguments["fused"] = True
        return call_with(cfg.optimizer, **arguments)
    except (TypeError, ValueError) as error:
        if not is_about_arguments(error):
            raise
        raise InputError(f"the config's optimizer cannot be built: {error}") from error


class LearningRates:
    """Sets an optimizer's learning rates for each step, also after a resume from the config.

    Args:
        optimizer: with the base learning rates.
        schedule: fvcore's, of factors on them; or torch's.
        max_iter: length of the run.
    """

    def __init__(
        self, optimizer: Optimizer, schedule: ParamScheduler | LRScheduler, max_iter: int
    ) -> None:
        if isinstance(schedule, ParamScheduler):
            schedule = LRMultiplier(optimizer, schedule, max_iter)
        self._optimizer, self._schedule = optimizer, schedule
        self._main_group = hooks.LRScheduler.get_best_param_group_id(optimizer)

    @property
    def main(self) -> float:
        """The rate to report: that of the largest group, as in detectron2."""
        return self._optimizer.param_groups[self._main_group]["lr"]

    def step(self) -> None:
        """Set the rates of the next step."""
        self._schedule.step()

    def state_dict(self) -> dict:
        """Return the schedule's position."""
        return self._schedule.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """Restore the schedule's position, and set the rates there."""
        self._schedule.last_epoch = state["last_epoch"]
        rates = self._schedule.get_lr()
        for group, rate in zip(self._optimizer.param_groups, rates, strict=True):
            group["lr"] = rate


def load_optimizer(optimizer: Optimizer, state: dict) -> None:
    """Load a saved state of whole tensors; hyperparameters stay this optimizer's.

    Other values in the groups (step counts, estimates) come from the state.

    Raises:
        ValueError: the state has other parameters.
    """
    settings = {*inspect.signature(type(optimizer)).parameters, "initial_lr"} - {"params"}
    groups = list(state["param_groups"])
    for i, group in enumerate(optimizer.param_groups[: len(groups)]):
        groups[i] = {**groups[i], **{key: group[key] for key in settings & group.keys()}}
    optimizer.load_state_dict({**state, "state": _shares(optimizer, state), "param_groups": groups})
    match_layout(optimizer)


def _shares(optimizer: Optimizer, state: dict) -> dict:
    """Return a saved state's averages by number of the parameter, divided as the parameters are."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    shares = {**state["state"]}
    for number, parameter in zip(numbers, parameters, strict=False):  # torch refuses other counts
        if number not in shares:  # no step has been made
            continue
        shares[number] = {
            name: share_of(value, parameter)
            if getattr(value, "shape", None) == parameter.shape
            else value
            for name, value in shares[number].items()
        }
    return shares


def match_layout(optimizer: Optimizer) -> None:
    """Give an optimizer's loaded averages the memory layout of their weights.

    Fused kernels read both in memory order; ``train.channels_last`` may have changed since.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if not isinstance(value, torch.Tensor) or value.shape != parameter.shape:
                continue  # some optimizers keep plain numbers
            if value.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _names(model: nn.Module) -> dict[nn.Parameter, list[str]]:
    """Return the dotted names of each parameter; a shared one has several."""
    names = defaultdict(list)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names[parameter].append(name)
    return names


def _as_list(key: str, names: object) -> list[str]:
    if isinstance(names, str):
        return [names]
    if not (isinstance(names, Sequence) and all(isinstance(name, str) for name in names)):
        raise InputError(f"{key}: names are texts, got {names!r:.60}")
    return list(names)


def _matches(patterns: Sequence[str], names: list[str]) -> bool:
    return any(pattern in name for pattern in patterns for name in names)


def _layer_decay(model: nn.Module, decay: float) -> dict[nn.Parameter, float]:
    """Return the learning rate's factor of each parameter of the backbone.

    The parameters of a layer share their name up to the first number, e.g. ``backbone.res4.2``;
    those between two such layers (a stem) are a layer as well. Norms after the last layer learn at
    the full rate, as in ViTDet and BEiT.
    """
    if decay == 1.0:
        return {}
    named = [(n, p) for n, p in model.named_parameters() if n.startswith("backbone.")]
    named = [(n, p) for n, p in named if n.startswith("backbone.net.")] or named
    while named and _layer_name(named[-1][0]) is None:
        named.pop()
    layers = [list(layer) for _, layer in groupby(named, key=lambda item: _layer_name(item[0]))]
    return {p: decay ** (len(layers) - i) for i, layer in enumerate(layers) for _, p in layer}


def _layer_name(name: str) -> str | None:
    match = re.match(r".*?\.\d+(?=\.)", name)
    return match and match[0]


def _no_match(key: str, patterns: list[str], names: dict[nn.Parameter, list[str]]) -> InputError:
    prefixes = {".".join(name.split(".")[:2]) for aliases in names.values() for name in aliases}
    shown = ", ".join(sorted(prefixes)[:8])
    return InputError(
        f"{key}: none of {patterns} is part of a parameter name; parameters start with {shown}"
    )
