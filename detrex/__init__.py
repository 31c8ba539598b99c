"""Detection transformers whose scores rank well."""

import sys
import warnings

from detrex.compat.names import UpstreamModules

# fvcore, through detectron2, uses a function that torch deprecates: nothing a user can act on.
warnings.filterwarnings("ignore", "`torch.jit.script`", FutureWarning)
sys.warnoptions.append("ignore:`torch.jit.script`:FutureWarning")  # in started processes too

sys.meta_path.insert(0, UpstreamModules())

__all__ = ["Predictor"]


def __getattr__(name: str) -> object:
    if name != "Predictor":
        raise AttributeError(f"module 'detrex' has no attribute {name!r}")
    from detrex.engine.predictor import Predictor  # at first use: it imports everything

    return Predictor
