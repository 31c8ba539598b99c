"""Upstream's methods that a part of a detector overrides: which are called, which are errors.

A method in ``CALLED`` is called wherever it is defined: in a subclass, in an unrelated class, or
set on a class or an object. Where it needs dicts of outputs, the detector computes its losses as
upstream, layer by layer. A method in ``REFUSED`` works on tuples that do not exist here:
overriding it is an error when the detector is built.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FunctionType

from torch import nn

from detrex.utils.errors import InputError

# Methods of a criterion that are called when losses are computed layer by layer.
LAYER_METHODS = (
    "get_loss",
    "loss_labels",
    "loss_boxes",
    "_get_src_permutation_idx",
    "_get_tgt_permutation_idx",
)
CALLED = {
    "criterion": ("forward", *LAYER_METHODS, "compute_dn_loss", "calculate_dn_loss"),
    "matcher": ("forward", "match"),
    "detector": (
        "forward",
        "preprocess_image",
        "prepare_targets",
        "_set_aux_loss",
        "inference",
    ),
}
# method: the seam to use instead
REFUSED = {
    "model": {
        "train_hybrid": "a QueryGroup says its copies and weight",
        "prepare_for_cdn": "override extend(), which adds denoising queries",
        "dn_post_process": "override supervised_sets(), which cuts predictions into groups",
    },
    "model.transformer": {
        "forward": "override encode() of the transformer, or make_queries() of the model",
        "gen_encoder_output_proposals": "override propose()",
        "get_proposal_pos_embed": "override embed_boxes()",
        "get_reference_points": "override encode() or Memory.pixel_centres",
        "get_valid_ratio": "override encode(), which makes the Memory",
    },
    "model.denoising_generator": {"forward": "override noised()"},
    "model.transformer.encoder": {"forward": "write forward(memory, position)"},
    "model.transformer.decoder": {
        "forward": "override position(), readout() or after_layer() of the decoder",
    },
}

PACKAGE = f"{Path(__file__).parents[1]}{os.sep}"
_BUILT_IN: set[FunctionType] = set()


def built_in(method: FunctionType) -> FunctionType:
    """Mark a method of a project in ``projects/`` that has a name of upstream's: it overrides
    nothing. Methods in the package ``detrex`` need no mark."""
    _BUILT_IN.add(method)
    return method


def refuses(place: str) -> Callable[[type], type]:
    """Decorate a class: upstream's methods of this place raise an error that names the seam."""

    def decorate(cls: type) -> type:
        for name, seam in REFUSED[place].items():
            setattr(cls, name, _refusal(name, seam))
        return cls

    return decorate


def _refusal(name: str, seam: str) -> FunctionType:
    def refused(self: object, *args, **kwargs) -> None:
        raise InputError(f"{type(self).__name__}.{name}() of detrex is not offered: {seam}")

    return refused


def overridden(part: object, names: Iterable[str]) -> list[str]:
    """The methods of these names that a user's code gives the part, as "MyCriterion.get_loss"."""
    return [f"{type(part).__name__}.{name}" for name in names if _is_foreign(part, name)]


def _is_foreign(part: object, name: str) -> bool:
    method = getattr(part, name, None)
    method = getattr(method, "__func__", method)
    if method is None or method in _BUILT_IN or method is nn.Module.forward:
        return False
    code = getattr(method, "__code__", None)
    return code is None or not code.co_filename.startswith(PACKAGE)


def followed(detector: nn.Module) -> list[str]:
    """The overridden methods that make the detector compute its losses layer by layer, if any.

    A criterion that overrides ``losses_of_sets`` calls its other methods itself.

    Raises:
        InputError: see :func:`refuse_unused`.
    """
    refuse_unused(detector)
    criterion = detector.criterion
    methods = overridden(detector, ("_set_aux_loss",))
    if hasattr(criterion, "losses_of_sets") and _is_foreign(criterion, "losses_of_sets"):
        return methods
    matcher = getattr(criterion, "matcher", None)
    methods += overridden(criterion, CALLED["criterion"])
    return methods + overridden(matcher, CALLED["matcher"])


def refuse(detector: nn.Module, runs: bool = False) -> None:
    """Refuse parts with a method that would not be called.

    A detector that overrides ``forward`` may have any parts, unless its ``forward`` calls this
    toolbox's (``runs``).

    Raises:
        InputError: a part has a method of ``REFUSED``; names it, and the seam to use instead.
    """
    if not runs and _is_foreign(detector, "forward"):
        return
    for place, methods in REFUSED.items():
        part = _at(detector, place)
        for name, seam in methods.items():
            if part is not None and _is_foreign(part, name) and not _fits(detector, place, part):
                raise InputError(
                    f"{place}: {type(part).__name__}.{name}() would not be called: {seam};"
                    " or give the model a forward() of its own"
                )


def refuse_unused(detector: nn.Module) -> None:
    """:func:`refuse` for a detector that overrides ``forward`` and calls this toolbox's from it."""
    if overridden(detector, ("forward",)):
        refuse(detector, runs=True)


def _at(detector: nn.Module, place: str) -> nn.Module | None:
    part: nn.Module | None = detector
    for name in place.split(".")[1:]:
        part = getattr(part, name, None)
    return part


def takes_upstreams_arguments(stack: nn.Module) -> bool:
    """Whether an encoder or decoder has upstream's ``forward``: (query, key, value, ...)."""
    return "key" in inspect.signature(stack.forward).parameters


def _fits(detector: nn.Module, place: str, part: nn.Module) -> bool:
    """Whether an encoder's or decoder's ``forward`` has arguments that this detector passes."""
    if not place.endswith("coder"):
        return False
    followed_decoder = place.endswith("decoder") and detector.follows_decoder
    return followed_decoder or not takes_upstreams_arguments(part)
