"""Directed acyclic graphs from sensor data with holes: differentiable structure learning, and a search over orders.

>>> from stablelit.families.causal import SyntheticSEM
>>> SyntheticSEM(nodes=3, rows=5, seed=0).draw().panel.values.shape
(5, 3)
"""

from __future__ import annotations

import importlib
from typing import Any

_EXPORTS = {
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
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(f"{__name__}.{_EXPORTS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
