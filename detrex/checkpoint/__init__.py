"""Reading, writing and loading checkpoints."""

from .files import last_checkpoint, read_checkpoint, save_checkpoint
from .loading import LoadReport, compare, load_weights

__all__ = [
    "LoadReport",
    "compare",
    "last_checkpoint",
    "load_weights",
    "read_checkpoint",
    "save_checkpoint",
]
