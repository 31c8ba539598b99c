"""Training and evaluation: one trainer, whose loop says what happens when, and the command line."""

from .cli import default_argument_parser, main
from .evaluate import evaluate
from .launch import launch
from .optim import param_groups
from .run import run
from .settings import load_config
from .trainer import StepOptions, Trainer

__all__ = [
    "StepOptions",
    "Trainer",
    "default_argument_parser",
    "evaluate",
    "launch",
    "load_config",
    "main",
    "param_groups",
    "run",
]
