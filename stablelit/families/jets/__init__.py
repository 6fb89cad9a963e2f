"""Jets of particles: a hypergraph variational autoencoder with an exchangeable likelihood, on toy or your own jets.

>>> from stablelit.families.jets import toy_shower
>>> len(toy_shower(n_jets=10, seed=0))
10
"""

from __future__ import annotations

from stablelit.lazy_exports import lazy_exports

__all__, __getattr__, __dir__ = lazy_exports(
    __name__,
    {
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
    },
)
