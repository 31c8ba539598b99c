"""Does the best box get the best score? Diagnostics for any detector."""

from .report import AlignmentReport, GroupAlignment, LayerAlignment, load_report

__all__ = ["AlignmentReport", "GroupAlignment", "LayerAlignment", "load_report"]
