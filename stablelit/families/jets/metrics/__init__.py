"""How far generated jets are from real ones, always beside what real jets score against real jets."""

from stablelit.families.jets.metrics.active_units import ActiveUnits
from stablelit.families.jets.metrics.collection import GROUPS, JetMetrics, JetScores, checked_groups, score_jets
from stablelit.families.jets.metrics.coverage import JetCoverageMMD, coverage_and_mmd
from stablelit.families.jets.metrics.energy_flow import EFP_GRAPHS, EFP_PRIME_4_4, energy_flow_polynomials
from stablelit.families.jets.metrics.energy_movers import energy_movers_distance
from stablelit.families.jets.metrics.frechet import FrechetPhysicsDistance, frechet_physics_distance
from stablelit.families.jets.metrics.kernel import KernelPhysicsDistance, kernel_physics_distance
from stablelit.families.jets.metrics.kinematics import axis_distance, jet_mass, jet_momentum
from stablelit.families.jets.metrics.one_quantity import EFPW1, JetMassW1, JetPtW1, MultiplicityW1, ParticleW1
from stablelit.families.jets.metrics.residuals import JetResiduals
from stablelit.families.jets.metrics.two_samples import Jets, TwoSampleMetric
from stablelit.families.jets.metrics.wasserstein import (
    PUBLISHED_JETS,
    Estimate,
    PerJet,
    bootstrap_w1,
    real_against_real,
    w1_estimate,
    wasserstein_1d,
)

__all__ = [
    "EFPW1",
    "EFP_GRAPHS",
    "EFP_PRIME_4_4",
    "GROUPS",
    "PUBLISHED_JETS",
    "ActiveUnits",
    "Estimate",
    "FrechetPhysicsDistance",
    "JetCoverageMMD",
    "JetMassW1",
    "JetMetrics",
    "JetPtW1",
    "JetResiduals",
    "JetScores",
    "Jets",
    "KernelPhysicsDistance",
    "MultiplicityW1",
    "ParticleW1",
    "PerJet",
    "TwoSampleMetric",
    "axis_distance",
    "bootstrap_w1",
    "checked_groups",
    "coverage_and_mmd",
    "energy_flow_polynomials",
    "energy_movers_distance",
    "frechet_physics_distance",
    "jet_mass",
    "jet_momentum",
    "kernel_physics_distance",
    "real_against_real",
    "score_jets",
    "w1_estimate",
    "wasserstein_1d",
]
