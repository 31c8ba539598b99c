from .criterion import DFINECriterion
from .d_fine import DFINE, DFINETransformerDecoder
from .hybrid_encoder import DFINEHybridEncoder

__all__ = ["DFINE", "DFINECriterion", "DFINEHybridEncoder", "DFINETransformerDecoder"]
