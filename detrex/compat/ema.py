"""Upstream's averaged weights: kept on the model as ``model.ema_state``, moved by a hook.

Our own trainer needs none of it (``train.model_ema``); train scripts of forks call it.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

import torch
from detectron2.engine import HookBase
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from detrex.modeling.ema import copy_weights, named_weights, update_averages

logger = logging.getLogger(__name__)


class EMAState:
    """Weights by name; ``state`` is empty until the first ``save_from``."""

    def __init__(self) -> None:
        self.state: dict[str, Tensor] = {}

    @classmethod
    def FromModel(cls, model: nn.Module, device: torch.device | str = "") -> EMAState:
        """A copy of the model's weights on a device, "" = where they are."""
        state = cls()
        state.save_from(model, device)
        return state

    def save_from(self, model: nn.Module, device: torch.device | str = "") -> None:
        for name, tensor in named_weights(model):
            self.state[name] = tensor.detach().to(device or tensor.device, copy=True)

    def apply_to(self, model: nn.Module) -> None:
        """Raises KeyError if a weight of the model is missing here."""
        copy_weights(self.state, model)

    @contextmanager
    def apply_and_restore(self, model: nn.Module) -> Iterator[EMAState]:
        """Inside, the model has these weights; afterwards its own again."""
        before = EMAState.FromModel(model)
        self.apply_to(model)
        try:
            yield before
        finally:
            before.apply_to(model)

    def get_ema_model(self, model: nn.Module) -> nn.Module:
        """A copy of the model with these weights."""
        model = copy.deepcopy(model)
        self.apply_to(model)
        return model

    def get_model_state_iterator(self, model: nn.Module) -> Iterator[tuple[str, Tensor]]:
        return named_weights(model)

    @property
    def device(self) -> torch.device | None:
        return next(iter(self.state.values())).device if self.state else None

    def to(self, device: torch.device | str) -> EMAState:
        self.state = {name: tensor.to(device) for name, tensor in self.state.items()}
        return self

    def has_inited(self) -> bool:
        return bool(self.state)

    def clear(self) -> EMAState:
        self.state.clear()
        return self

    def state_dict(self) -> dict[str, Tensor]:
        return self.state

    def load_state_dict(self, state_dict: Mapping[str, Tensor], strict: bool = True) -> object:
        self.state = dict(state_dict)
        return nn.modules.module._IncompatibleKeys(missing_keys=[], unexpected_keys=[])


class EMAUpdater:
    """``average <- decay * average + (1 - decay) * weight``."""

    def __init__(self, state: EMAState, decay: float = 0.999, device: str = "") -> None:
        self.state, self.decay, self.device = state, decay, device

    def init_state(self, model: nn.Module) -> None:
        self.state.clear()
        self.state.save_from(model, self.device)

    def update(self, model: nn.Module) -> None:
        update_averages(self.state.state, model, self.decay)


class EMAHook(HookBase):
    """Moves ``model.ema_state`` after every step; the averages live on
    ``train.model_ema.device``, "" = beside the model's weights."""

    def __init__(self, cfg: DictConfig, model: nn.Module) -> None:
        options = cfg.train.model_ema
        self.model, self.device = _without_ddp(model), options.device
        self.ema = get_model_ema_state(model)
        self.ema_updater = EMAUpdater(self.ema, decay=options.decay, device=options.device)

    def before_train(self) -> None:
        if not self.ema.has_inited():
            self.ema_updater.init_state(self.model)
        elif device := self.device or next(self.model.parameters()).device:
            self.ema.to(device)

    def after_step(self) -> None:
        self.ema_updater.update(self.model)


def may_build_model_ema(cfg: DictConfig, model: nn.Module) -> None:
    """Give the model an ``ema_state``, if ``train.model_ema.enabled``."""
    if cfg.train.model_ema.enabled:
        _without_ddp(model).ema_state = EMAState()
        logger.info("averaged weights: decay %s", cfg.train.model_ema.decay)


def may_get_ema_checkpointer(cfg: DictConfig, model: nn.Module) -> dict[str, EMAState]:
    """What ``DetectionCheckpointer(model, folder, **checkpointables)`` saves beside the model."""
    return {"ema_state": get_model_ema_state(model)} if cfg.train.model_ema.enabled else {}


def get_model_ema_state(model: nn.Module) -> EMAState:
    """Raises AttributeError without :func:`may_build_model_ema`."""
    return _without_ddp(model).ema_state


def apply_model_ema(
    model: nn.Module, state: EMAState | None = None, save_current: bool = False
) -> EMAState | None:
    """Give the model its averaged weights; returns its own ones if ``save_current``."""
    before = EMAState.FromModel(_without_ddp(model)) if save_current else None
    (state or get_model_ema_state(model)).apply_to(_without_ddp(model))
    return before


def apply_model_ema_and_restore(
    model: nn.Module, state: EMAState | None = None
) -> AbstractContextManager[EMAState]:
    """A context in which the model has its averaged weights."""
    return (state or get_model_ema_state(model)).apply_and_restore(_without_ddp(model))


def _without_ddp(model: nn.Module) -> nn.Module:
    return model.module if isinstance(model, DistributedDataParallel) else model
