from .rank_d_fine import RankDFINE, RankDFINECriterion, RankDFINETransformerDecoder

__all__ = ["RankDFINE", "RankDFINECriterion", "RankDFINETransformerDecoder"]
