"""What are the scores worth? Calibration, duplicates, thresholds and kinds of error."""

from detrex.utils.lazy import lazy_names

__all__, __getattr__ = lazy_names(
    __name__,
    {
        "meter": "CalibrationMeter",
        "report": "CalibrationReport GroupCalibration load_calibration",
        "summary": "summarise",
        "tables": "format_calibration",
    },
)
