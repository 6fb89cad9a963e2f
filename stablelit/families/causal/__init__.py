"""Directed acyclic graphs from sensor data with holes: differentiable structure learning, and a search over orders.

>>> from stablelit.families.causal import SyntheticSEM
>>> SyntheticSEM(nodes=3, rows=5, seed=0).draw().panel.values.shape
(5, 3)
"""

from __future__ import annotations

from stablelit.lazy_exports import lazy_exports

__all__, __getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "EdgeKnowledge": "knowledge",
        "EdgeList": "edges",
        "GraphEstimate": "polish",
        "SensorDataModule": "datamodule",
        "SensorPanel": "panel",
        "StructureLearner": "module",
        "SufficientStatistics": "sufficient_statistics",
        "SyntheticSEM": "sem",
        "graph_scores": "metrics",
        "learn_graph": "polish",
        "read_truth": "truth",
        "statistics_of_rows": "row_statistics",
    },
)
