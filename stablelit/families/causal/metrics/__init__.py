"""How far an estimated graph is from the true one.

Definitions agree with those of dagma's `count_accuracy` and gcastle's `MetricsDAG` on DAGs, and differ where those
guess: what has no value (precision without predictions, recall without true edges) is NaN here and 0 there; two
predicted edges that point at each other are two edges here and in dagma's counting refused, in gcastle one undirected
edge that is counted in favour of the estimate.
"""

from stablelit.families.causal.metrics.adjustment import ancestor_adjustment_distance, structural_intervention_distance
from stablelit.families.causal.metrics.collection import graph_scores
from stablelit.families.causal.metrics.cpdag import cpdag_distance, cpdag_of
from stablelit.families.causal.metrics.dag_distances import CPDAGDistance, StructuralInterventionDistance
from stablelit.families.causal.metrics.dag_penalty import DagPenalty
from stablelit.families.causal.metrics.edge_auprc import EdgeAUPRC
from stablelit.families.causal.metrics.edge_counts import EdgeF1, EdgeFalseDiscoveryRate, EdgePrecision, EdgeRecall
from stablelit.families.causal.metrics.hamming import StructuralHammingDistance
from stablelit.families.causal.metrics.varsortability import Varsortability

__all__ = [
    "CPDAGDistance",
    "DagPenalty",
    "EdgeAUPRC",
    "EdgeF1",
    "EdgeFalseDiscoveryRate",
    "EdgePrecision",
    "EdgeRecall",
    "StructuralHammingDistance",
    "StructuralInterventionDistance",
    "Varsortability",
    "ancestor_adjustment_distance",
    "cpdag_distance",
    "cpdag_of",
    "graph_scores",
    "structural_intervention_distance",
]
