"""Training runs of the tiny detector, and equality of what they leave behind."""

import dataclasses
from pathlib import Path

import torch

from detrex.train import default_argument_parser
from detrex.train.run import run

CONFIG = Path(__file__).parent / "tiny_config.py"


@dataclasses.dataclass
class TinyRuns:
    """Runs of the tiny detector in this process."""

    folder: Path
    data: list[str]

    def args(self, name, *options):
        """The command line of a run whose output folder has this name."""
        return [
            "--config-file",
            str(CONFIG),
            *self.data,
            f"train.output_dir={self.folder / name}",
            *options,
        ]

    def __call__(self, name, *options):
        return run(default_argument_parser().parse_intermixed_args(self.args(name, *options)))

    def checkpoint(self, name, file="model_final.pth"):
        return torch.load(self.folder / name / file, weights_only=True)


def assert_equal(actual, expected):
    """Bitwise equality of nested states."""
    if isinstance(expected, dict):
        assert actual.keys() == expected.keys()
        for key in expected:
            assert_equal(actual[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert len(actual) == len(expected)
        for a, b in zip(actual, expected, strict=True):
            assert_equal(a, b)
    elif isinstance(expected, torch.Tensor):
        assert torch.equal(actual, expected)
    else:
        assert actual == expected
