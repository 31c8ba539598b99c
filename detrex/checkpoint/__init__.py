"""Reading, writing and loading checkpoints."""

from .files import (
    check_archive,
    existing_checkpoint,
    last_checkpoint,
    read_checkpoint,
    save_checkpoint,
)
from .loading import LoadReport, compare, load_weights

__all__ = [
    "LoadReport",
    "check_archive",
    "compare",
    "existing_checkpoint",
    "last_checkpoint",
    "load_weights",
    "read_checkpoint",
    "save_checkpoint",
]
