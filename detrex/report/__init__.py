"""Runs side by side as one self-contained HTML page."""

from detrex.utils.lazy import lazy_names

__all__, __getattr__ = lazy_names(
    __name__,
    {
        "page": "write_report",
    },
)
