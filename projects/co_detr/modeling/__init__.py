from .atss import ATSSHead, atss_assign
from .co_detr import AuxiliaryHeads, CoDeformableDETR, CoDINO, PositiveQueries
from .faster_rcnn import FasterRCNNHead

__all__ = [
    "ATSSHead",
    "AuxiliaryHeads",
    "CoDINO",
    "CoDeformableDETR",
    "FasterRCNNHead",
    "PositiveQueries",
    "atss_assign",
]
