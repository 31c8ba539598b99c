"""Detections of a trained model, and the model as files for other programs."""

from detrex.utils.lazy import lazy_names

__all__, __getattr__ = lazy_names(
    __name__,
    {
        "graph": "DetectorGraph",
        "hub": "Pretrained portable_config",
        "predictor": "Predictor",
        "tiles": "Tiles",
        "writing": "trace write_onnx write_program",
    },
)
