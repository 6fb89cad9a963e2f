"""Neutrino directions from pulses: a hierarchical transformer, a flat one and a graph, on toy or your own events.

>>> from stablelit.families.neutrinos import hexagonal_detector
>>> len(hexagonal_detector())
5160
"""

from __future__ import annotations

import importlib
from typing import Any

_EXPORTS = {
    "DetectorGeometry": "geometry",
    "DynEdge": "networks",
    "FlatTransformer": "networks",
    "HierarchicalTransformer": "networks",
    "NeutrinoDataModule": "datamodule",
    "NeutrinoDirection": "module",
    "PulseEvents": "pulse_events",
    "angle_between": "angles",
    "generate_events": "generator",
    "hexagonal_detector": "geometry",
    "line_fit": "line_fit",
    "read_geometry": "geometry",
    "von_mises_fisher_nll": "losses",
    "write_event_files": "generator",
    "write_submission": "submission",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(f"{__name__}.{_EXPORTS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
