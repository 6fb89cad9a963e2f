"""What looks at a run from inside."""

from __future__ import annotations

from stablelit.doctor.probes.batches import BatchProbe
from stablelit.doctor.probes.layers import LayerProbe
from stablelit.doctor.probes.modes import ModeProbe
from stablelit.doctor.probes.operations import OperationProbe
from stablelit.doctor.probes.parameters import ParameterProbe
from stablelit.doctor.probes.probe import Probe

__all__ = ["Probe", "all_probes"]


def all_probes() -> list[Probe]:
    """One of each, new."""
    # which leaf is the input and which the target is known from operations: what tells of these comes first
    return [OperationProbe(), BatchProbe(), ParameterProbe(), ModeProbe(), LayerProbe()]
