"""Training and evaluation: one trainer, whose loop says what happens when, and the command line."""

from .cli import default_argument_parser, main
from .evaluate import evaluate
from .launch import launch
from .optim import param_groups
from .run import run
from .settings import choose_device, load_config
from .trainer import StepOptions, Trainer

__all__ = [
    "StepOptions",
    "Trainer",
    "choose_device",
    "default_argument_parser",
    "evaluate",
    "launch",
    "load_config",
    "main",
    "param_groups",
    "run",
]
