from .dac_detr import DACDETR, CrossDecoder, DACCriterion

__all__ = ["CrossDecoder", "DACCriterion", "DACDETR"]
