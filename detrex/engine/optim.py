"""Parameter groups by rules that a config can state without code."""

from __future__ import annotations

import functools
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
    """Build optimizer parameter groups, as few as possible.

    Args:
        model: its trainable parameters are taken, each once.
        base_lr: learning rate of parameters that no rule matches.
        lr_factors: rules ``{"names": [...], "factor": x}``, a single name also without a list; the
            first rule one of whose names is part of the parameter's dotted name gives it the
            learning rate ``x * base_lr``.
        weight_decay: of every parameter; None leaves it to the optimizer.
        weight_decay_norm: of normalisation layers; None treats them as any other.
        weight_decay_bias: of biases; None treats them as any other parameter.
        backbone_layer_decay: the last of the backbone's layers learns at this part of its learning
            rate, the one before at this part of that, and so on (BEiT, Bao et al. 2022, appendix).

    Raises:
        InputError: a rule that matches no parameter, e.g. because of a misspelt name.
    """
    names = _names(model)
    lr_factors = [{**rule, "names": _as_list(rule.get("names"))} for rule in lr_factors]
    for rule in lr_factors:
        if not any(_matches(rule["names"], aliases) for aliases in names.values()):
            raise _no_match("optimizer.params.lr_factors", rule["names"], names)
    groups = get_default_optimizer_params(
        model,
        base_lr=base_lr,
        weight_decay=weight_decay,
        weight_decay_norm=weight_decay_norm,
        weight_decay_bias=weight_decay_bias,
    )
    decay = _layer_decay(model, backbone_layer_decay)
    per_parameter = [
        {**group, "params": [parameter], "lr": base_lr * factor * decay.get(parameter, 1.0)}
        for group in groups
        for parameter in group["params"]
        for factor in [_factor(names[parameter], lr_factors)]
    ]
    return reduce_param_groups(per_parameter)


def freeze(model: nn.Module, names: Sequence[str] | str) -> None:
    """Keep parameters as they are: those of whose dotted name one of ``names`` is part. Batch
    normalisation with such parameters uses its running statistics, which stay, too.

    Raises:
        InputError: a name that matches no parameter, or nothing left to train.
    """
    known, names = _names(model), _as_list(names)
    for part in names:
        found = [p for p, aliases in known.items() if _matches([part], aliases)]
        if not found:
            raise _no_match("train.freeze", [part], known)
        for parameter in found:
            parameter.requires_grad_(False)
    for module in model.modules() if names else ():
        own = [*module.parameters()]
        if isinstance(module, _BatchNorm) and own and not any(p.requires_grad for p in own):
            module.register_forward_pre_hook(_stay_in_eval)
    if not any(parameter.requires_grad for parameter in known):
        raise InputError(f"train.freeze={names} leaves nothing to train")
    if names:
        frozen = sum(p.numel() for p in known if not p.requires_grad)
        total = sum(p.numel() for p in known)
        logger.info("frozen: %.1f of %.1f million parameters", frozen / 1e6, total / 1e6)


def _stay_in_eval(module: nn.Module, inputs: tuple) -> None:
    module.eval()  # whatever model.train() has said since


def build_optimizer(cfg: DictConfig, model: nn.Module) -> Optimizer:
    """Build ``cfg.optimizer`` for a model, and say so if its values are known to be inert.

    Where its class has a fused kernel on every device (one pass over the weights) and the config
    chooses no other (``fused``, ``foreach``), that is used.
    """
    recipe = getattr(model, "published_optimizer", None)
    if recipe and _is_inert(cfg.optimizer):
        logger.warning(
            "the config's optimizer (lr 1e-4, get_default_optimizer_params) is used as written; "
            "upstream's train_net.py ignored it, and %s was published with: %s",
            type(model).__name__,
            recipe,
        )
    try:
        given = {"params": call_with(cfg.optimizer.params, model=model)}
        if target_of(cfg.optimizer) in _FUSED and not cfg.optimizer.keys() & {"fused", "foreach"}:
            given["fused"] = True
        return call_with(cfg.optimizer, **given)
    except (TypeError, ValueError) as error:
        if not is_about_arguments(error):
            raise
        raise InputError(f"the config's optimizer cannot be built: {error}") from error


class LearningRates:
    """Sets an optimizer's learning rates for each step: the config's, also where a checkpoint has
    others.

    Args:
        optimizer: with the rates that are multiplied.
        schedule: fvcore's, of factors; or torch's.
        max_iter: length of the run.
    """

    def __init__(
        self, optimizer: Optimizer, schedule: ParamScheduler | LRScheduler, max_iter: int
    ) -> None:
        if isinstance(schedule, ParamScheduler):
            schedule = LRMultiplier(optimizer, schedule, max_iter)
        self._optimizer, self._schedule = optimizer, schedule

    @property
    def main(self) -> float:
        """The rate to report: that of the largest group, as detectron2 chooses it."""
        return self._optimizer.param_groups[self._main_group]["lr"]

    @functools.cached_property
    def _main_group(self) -> int:
        return hooks.LRScheduler.get_best_param_group_id(self._optimizer)

    def step(self) -> None:
        """Set the rates of the next step."""
        self._schedule.step()

    def state_dict(self) -> dict:
        """Return where the schedule is."""
        return self._schedule.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """Go on where the schedule was."""
        self._schedule.last_epoch = state["last_epoch"]
        rates = self._schedule.get_lr()
        for group, rate in zip(self._optimizer.param_groups, rates, strict=True):
            group["lr"] = rate


def load_optimizer(optimizer: Optimizer, state: dict) -> None:
    """Continue from a saved state, with this optimizer's hyperparameters: the config's.

    What an optimizer itself keeps in its groups (step counts, estimates) comes from the state.

    Raises:
        ValueError: the state has other parameters.
    """
    own = {*inspect.signature(type(optimizer)).parameters, "initial_lr"} - {"params"}
    groups = list(state["param_groups"])
    for i, group in enumerate(optimizer.param_groups[: len(groups)]):
        groups[i] = {**groups[i], **{key: group[key] for key in own & group.keys()}}
    optimizer.load_state_dict({**state, "param_groups": groups})
    match_layout(optimizer)


def match_layout(optimizer: Optimizer) -> None:
    """Give loaded averages the memory layout of their weights.

    Fused kernels walk through both in memory order, and a checkpoint may be of a run with another
    ``train.channels_last``.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if not isinstance(value, torch.Tensor) or value.shape != parameter.shape:
                continue  # some optimizers keep plain numbers
            if value.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _names(model: nn.Module) -> dict[nn.Parameter, list[str]]:
    """All names of every parameter: a shared one has several."""
    names = defaultdict(list)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names[parameter].append(name)
    return names


def _as_list(names: object) -> list[str]:
    if isinstance(names, str):
        return [names]
    if not (isinstance(names, Sequence) and all(isinstance(name, str) for name in names)):
        raise InputError(f"optimizer.params.lr_factors: names are texts, got {names!r:.60}")
    return list(names)


def _matches(parts: Sequence[str], names: list[str]) -> bool:
    return any(part in name for part in parts for name in names)


def _factor(names: list[str], rules: Sequence[dict]) -> float:
    return next((rule["factor"] for rule in rules if _matches(rule["names"], names)), 1.0)


def _layer_decay(model: nn.Module, decay: float) -> dict[nn.Parameter, float]:
    """Factor of every parameter of the backbone. A layer is what shares its name up to the first
    number, e.g. ``backbone.res4.2``; what stands between two of them (a stem) is one, too."""
    if decay == 1.0:
        return {}
    inside = [(n, p) for n, p in model.named_parameters() if n.startswith("backbone.")]
    layers = [list(layer) for _, layer in groupby(inside, key=lambda item: _layer_name(item[0]))]
    return {p: decay ** (len(layers) - i) for i, layer in enumerate(layers) for _, p in layer}


def _layer_name(name: str) -> str | None:
    match = re.match(r".*?\.\d+(?=\.)", name)
    return match and match[0]


def _no_match(key: str, given: list[str], names: dict[nn.Parameter, list[str]]) -> InputError:
    prefixes = {".".join(name.split(".")[:2]) for aliases in names.values() for name in aliases}
    shown = ", ".join(sorted(prefixes)[:8])
    return InputError(
        f"{key}: none of {given} is part of a parameter name; parameters start with {shown}"
    )


def _is_inert(optimizer: DictConfig) -> bool:
    of_detectron2 = target_of(optimizer.params) is get_default_optimizer_params
    has_factor = optimizer.params.get("lr_factor_func") is not None
    return of_detectron2 and has_factor and optimizer.get("lr") == 1e-4
