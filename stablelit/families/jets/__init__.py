"""Jets of particles: a hypergraph variational autoencoder with an exchangeable likelihood, on toy or your own jets.

>>> from stablelit.families.jets import toy_shower
>>> len(toy_shower(n_jets=10, seed=0))
10
"""

from __future__ import annotations

import importlib
from typing import Any

_EXPORTS = {
    "HypergraphVAE": "network",
    "JetArrays": "jet_arrays",
    "JetDataModule": "datamodule",
    "JetMassW1": "metrics",
    "JetMetrics": "metrics",
    "JetScaler": "scaler",
    "JetVAE": "module",
    "anomaly_auc": "anomaly",
    "read_jets": "readers",
    "score_jets": "metrics",
    "toy_shower": "generator",
    "write_jets": "readers",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(f"{__name__}.{_EXPORTS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
