"""Detection transformers whose scores rank well."""

import importlib
import os
import sys
import warnings

from detrex.compat.names import UpstreamModules

# Threads that wait for work sleep: spinning beside other programs they take the time of those that
# work, and a step takes ten times as long. OpenMP reads it when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# fvcore, through detectron2, uses a function that torch deprecates: nothing a user can act on.
warnings.filterwarnings("ignore", "`torch.jit.script`", FutureWarning)
sys.warnoptions.append("ignore:`torch.jit.script`:FutureWarning")  # in started processes too

sys.meta_path.insert(0, UpstreamModules())

__all__ = ["Predictor", "check", "evaluate", "train"]
# Imported at first use: they import everything. detrex.train is a package that can be called.
_HOMES = {
    "Predictor": "detrex.predict.predictor",
    "check": "detrex.train.own_data",
    "evaluate": "detrex.train.api",
}


def __getattr__(name: str) -> object:
    if name == "train":
        return importlib.import_module("detrex.train")
    if name not in _HOMES:
        raise AttributeError(f"module 'detrex' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
