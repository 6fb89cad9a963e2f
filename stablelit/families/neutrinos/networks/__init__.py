"""The networks of directions: ``forward(batch) -> (B, width)``, and heads on what they give."""

from stablelit.families.neutrinos.networks.build import build_network
from stablelit.families.neutrinos.networks.direction_head import DirectionHead, EnergyHead, TrackHead
from stablelit.families.neutrinos.networks.dynedge import DynEdge
from stablelit.families.neutrinos.networks.flat_transformer import FlatTransformer
from stablelit.families.neutrinos.networks.hierarchical_transformer import HierarchicalTransformer
from stablelit.families.neutrinos.networks.sensor_transformer import SensorTransformer

__all__ = [
    "DirectionHead",
    "DynEdge",
    "EnergyHead",
    "FlatTransformer",
    "HierarchicalTransformer",
    "SensorTransformer",
    "TrackHead",
    "build_network",
]
