"""Training and evaluation: the command line, the processes of a run, and the training loop."""

import inspect
import sys
from importlib import import_module
from types import ModuleType

from detrex.utils.lazy import lazy_names

__all__, __getattr__ = lazy_names(
    __name__,
    {
        "api": "Run Scores",
        "cli": "default_argument_parser main",
        "optim": "param_groups",
        "own_data": "DataCheck check",
        "run": "load_config",
        "trainer": "StepOptions Trainer",
    },
)


class _Callable(ModuleType):
    """``detrex.train(...)`` is :func:`detrex.train.api.train`."""

    def __call__(self, *args: object, **options: object) -> object:
        return import_module("detrex.train.api").train(*args, **options)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(import_module("detrex.train.api").train)


sys.modules[__name__].__class__ = _Callable
