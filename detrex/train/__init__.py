"""Training and evaluation: the command line, the processes of a run, and the training loop."""

from detrex.utils.lazy import lazy_names

__all__, __getattr__ = lazy_names(
    __name__,
    {
        "cli": "default_argument_parser load_config main",
        "optim": "param_groups",
        "trainer": "StepOptions Trainer",
    },
)
