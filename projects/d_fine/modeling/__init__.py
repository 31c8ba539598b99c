from .criterion import DFINECriterion
from .d_fine import DFINE, DFINETransformerDecoder

__all__ = ["DFINE", "DFINECriterion", "DFINETransformerDecoder"]
