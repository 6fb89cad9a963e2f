"""Scores of a model of sequences: its bound beside what needs no model, and where along the noise it loses."""

from stablelit.families.proteins.metrics.mask_rate import MaskRateCrossEntropy
from stablelit.families.proteins.metrics.residue_bound import ResidueBound
from stablelit.families.proteins.metrics.residue_counts import ResidueCounts

__all__ = ["MaskRateCrossEntropy", "ResidueBound", "ResidueCounts"]
