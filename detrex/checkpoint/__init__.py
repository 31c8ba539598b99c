"""Reading, writing and loading checkpoints."""

from detrex.utils.lazy import lazy_names

__all__, __getattr__ = lazy_names(
    __name__,
    {
        "files": "check_archive existing_checkpoint last_checkpoint read_checkpoint"
        " save_checkpoint",
        "loading": "LoadReport compare load_weights",
    },
)
