"""Does the best box get the best score? A diagnosis for any detector."""

from detrex.evaluation.matching import Truth

from .collector import Diagnosis
from .definitions import Definitions, read_definitions
from .evaluator import AlignmentDiagnosis, with_layers
from .meter import AlignmentMeter
from .report import AlignmentReport, GroupAlignment, LayerAlignment, load_report
from .results import alignment_of_results, diagnosis_of_results

__all__ = [
    "AlignmentDiagnosis",
    "AlignmentMeter",
    "AlignmentReport",
    "Definitions",
    "Diagnosis",
    "GroupAlignment",
    "LayerAlignment",
    "Truth",
    "alignment_of_results",
    "diagnosis_of_results",
    "load_report",
    "read_definitions",
    "with_layers",
]
