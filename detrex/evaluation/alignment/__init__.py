"""Does the best box get the best score? A diagnosis for any detector."""

from detrex.utils.lazy import lazy_names

__all__, __getattr__ = lazy_names(
    __name__,
    {
        "collector": "Diagnosis",
        "definitions": "Definitions read_definitions",
        "evaluator": "AlignmentDiagnosis with_layers",
        "meter": "AlignmentMeter Truth",
        "report": "AlignmentReport GroupAlignment LayerAlignment load_report",
        "results": "alignment_of_results diagnosis_of_results",
    },
)
