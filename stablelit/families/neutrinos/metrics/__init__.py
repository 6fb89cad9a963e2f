"""How far predicted directions are from the true ones, whether they know it, and what a guess would score."""

from stablelit.families.neutrinos.metrics.angular_resolution import AngularResolution
from stablelit.families.neutrinos.metrics.collection import DirectionMetrics, direction_findings
from stablelit.families.neutrinos.metrics.direction_bias import DirectionBias
from stablelit.families.neutrinos.metrics.kappa_calibration import KappaCalibration, cap_radius, probability_integral
from stablelit.families.neutrinos.metrics.mean_angular_error import MeanAngularError
from stablelit.families.neutrinos.metrics.pulse_count import AngularErrorByPulseCount

__all__ = [
    "AngularErrorByPulseCount",
    "AngularResolution",
    "DirectionBias",
    "DirectionMetrics",
    "KappaCalibration",
    "MeanAngularError",
    "cap_radius",
    "direction_findings",
    "probability_integral",
]
