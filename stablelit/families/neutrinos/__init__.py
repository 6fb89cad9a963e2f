"""Neutrino directions from pulses: a hierarchical transformer, a flat one and a graph, on toy or your own events.

>>> from stablelit.families.neutrinos import hexagonal_detector
>>> len(hexagonal_detector())
5160
"""

from __future__ import annotations

from stablelit.lazy_exports import lazy_exports

__all__, __getattr__, __dir__ = lazy_exports(
    __name__,
    {
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
    },
)
