"""What are the scores worth? Calibration, duplicates, thresholds and kinds of error."""

from .meter import CalibrationMeter
from .report import CalibrationReport, GroupCalibration, load_calibration
from .summary import summarise
from .tables import format_calibration

__all__ = [
    "CalibrationMeter",
    "CalibrationReport",
    "GroupCalibration",
    "format_calibration",
    "load_calibration",
    "summarise",
]
