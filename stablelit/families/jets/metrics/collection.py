"""Everything that generated jets are measured by, in one call and one table.

>>> from stablelit.families.jets.generator import toy_shower
>>> first, second = toy_shower(300, seed=0), toy_shower(300, seed=1)
>>> scores = score_jets(first.particles, first.mask, second.particles, second.mask, groups=["w1"])
>>> scores.estimates["mass_w1"].value < 0.1
True
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stablelit.errors import bad_argument, did_you_mean
from stablelit.families.jets.metrics import coverage, frechet, kernel
from stablelit.families.jets.metrics.energy_flow import energy_flow_polynomials
from stablelit.families.jets.metrics.one_quantity import (
    JetMassW1,
    JetPtW1,
    MultiplicityW1,
    ParticleW1,
    efp_quantities,
    mean_estimate,
)
from stablelit.families.jets.metrics.two_samples import Jets, TwoSampleMetric, flat
from stablelit.families.jets.metrics.wasserstein import (
    PUBLISHED_JETS,
    Estimate,
    PerJet,
    real_against_real,
    w1_estimate,
)
from stablelit.findings import Finding

GROUPS = ("w1", "fpd", "kpd", "coverage")
"""Cheapest first; `coverage` solves thousands of linear programmes and costs more than the others together."""

# jets of one kind below which a group cannot be measured
_LEAST = {"fpd": frechet.LEAST_JETS, "kpd": kernel.LEAST_JETS, "coverage": coverage.LEAST_JETS}


@dataclass(frozen=True)
class JetScores:
    """What generated jets scored.

    Args:
        estimates: value, standard error and floor by name.
        n_real: how many real jets.
        n_generated: how many generated ones.
        findings: what has to be known about the numbers.
    """

    estimates: dict[str, Estimate]
    n_real: int
    n_generated: int
    findings: list[Finding] = field(default_factory=list)

    def table(self) -> str:
        """A line for each quantity: its value, its error, and what real jets score against real ones."""
        lines = [f"{'quantity':<16} {'value':>10}    {'error':>8} {'real v real':>12}"]
        for name, (value, std, floor) in self.estimates.items():
            error = f"{std:.1g}" if std == std else ""
            against = f"{floor:.4g}" if floor == floor else ""
            lines.append(f"{name:<16} {value:>10.4g} {'+-' if error else '  '} {error:>8} {against:>12}")
        lines.append(f"{self.n_generated} generated against {self.n_real} real jets")
        return "\n".join([*lines, *map(str, self.findings)])

    def flat(self) -> dict[str, float]:
        """``{name, name_std, name_floor}``, without what is not known."""
        return flat(self.estimates)


class JetMetrics(TwoSampleMetric):
    """All comparisons of generated with real jets over one copy of the jets.

    `compute` returns ``{name, name_std, name_floor}``; `scores` holds the last ones with their findings.

    Args:
        groups: of "w1" (mass, pT, multiplicity, features of particles, polynomials), "fpd", "kpd" and "coverage".
        n_bootstrap: resamplings for the standard deviations of the W1 distances; 0 leaves them out.
        seed: of all draws.

    Raises:
        ConfigurationError: an unknown group, or none.
    """

    def __init__(self, groups: Sequence[str] = GROUPS, n_bootstrap: int = 10, seed: int = 42, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.groups = checked_groups(type(self).__name__, "groups", groups)
        if isinstance(n_bootstrap, bool) or not isinstance(n_bootstrap, int) or n_bootstrap < 0:
            raise bad_argument(type(self).__name__, "n_bootstrap", n_bootstrap, "an int of at least 0")
        self.n_bootstrap, self.seed = n_bootstrap, seed
        self.scores: JetScores | None = None
        self._known: _Quantities | None = None

    def estimates(self, real: Jets, generated: Jets) -> dict[str, Estimate]:
        """Every quantity of the groups that there are enough jets for."""
        # validation jets are the same at every epoch: what is known of them need not be found again
        if self._known is None or not self._known.are_of(real):
            self._known = _Quantities(real)
        mine, theirs = self._known, _Quantities(generated)
        few = min(real.n_jets, generated.n_jets)
        found: dict[str, Estimate] = {}
        if "w1" in self.groups:
            found.update(self._w1(mine, theirs))
        if "fpd" in self.groups and few >= _LEAST["fpd"]:
            found["fpd"] = frechet.frechet_physics_distance(mine.polynomials, theirs.polynomials, seed=self.seed)
        if "kpd" in self.groups and few >= _LEAST["kpd"]:
            found["kpd"] = kernel.kernel_physics_distance(mine.polynomials, theirs.polynomials, seed=self.seed)
        if "coverage" in self.groups and few >= _LEAST["coverage"]:
            found["coverage"], found["mmd"] = coverage.coverage_and_mmd(real, generated, seed=self.seed)
        findings = size_findings(self.groups, real.n_jets, generated.n_jets)
        self.scores = JetScores(found, real.n_jets, generated.n_jets, findings)
        return found

    def _w1(self, real: _Quantities, generated: _Quantities) -> dict[str, Estimate]:
        found = {
            name: w1_estimate(real.values[name], values, self.n_bootstrap, self.seed, real.floors[name])
            for name, values in generated.values.items()
        }
        single = {name: found.pop(name) for name in list(found) if name.startswith("efp_")}
        return {**found, "efp_w1": mean_estimate(list(single.values()))}


class _Quantities:
    """What is measured of a set of jets, each thing once."""

    _METRICS = (JetMassW1, JetPtW1, MultiplicityW1, ParticleW1)

    def __init__(self, jets: Jets) -> None:
        self.jets = jets
        self.polynomials = energy_flow_polynomials(*jets)
        self.values: dict[str, PerJet] = {}
        for metric in self._METRICS:
            self.values.update(metric.quantities(jets))
        self.values.update(efp_quantities(self.polynomials))
        self._floors: dict[str, float] = {}

    @property
    def floors(self) -> dict[str, float]:
        """What these jets score against themselves."""
        if not self._floors:
            self._floors = {name: float(real_against_real(values)) for name, values in self.values.items()}
        return self._floors

    def are_of(self, jets: Jets) -> bool:
        """Whether these are the quantities of the same jets."""
        pairs = zip(self.jets, jets, strict=True)
        return all(a.device == b.device and a.shape == b.shape and torch.equal(a, b) for a, b in pairs)


def score_jets(
    real_particles: Tensor | np.ndarray,
    real_mask: Tensor | np.ndarray,
    generated_particles: Tensor | np.ndarray,
    generated_mask: Tensor | np.ndarray,
    groups: Sequence[str] = GROUPS,
    n_bootstrap: int = 10,
    seed: int = 42,
) -> JetScores:
    """Compares generated with real jets; ``print(score_jets(...).table())``.

    Args:
        real_particles: ``(n, N, 3)`` etarel, phirel (rad), ptrel.
        real_mask: ``(n, N)`` bool.
        generated_particles: ``(m, M, 3)``.
        generated_mask: ``(m, M)`` bool.
        groups: of "w1", "fpd", "kpd" and "coverage".
        n_bootstrap: resamplings for the standard deviations of the W1 distances.
        seed: of all draws.

    Raises:
        ConfigurationError: an unknown group.
        DataError: wrong shapes, no jets, NaN or infinity, and for coverage a particle with negative pT.
    """
    metric = JetMetrics(groups, n_bootstrap, seed)
    sides = ((real_particles, real_mask, "real"), (generated_particles, generated_mask, "generated"))
    real, generated = (
        Jets(torch.as_tensor(particles), torch.as_tensor(mask)).require_usable(name) for particles, mask, name in sides
    )
    metric.estimates(real, generated)
    assert metric.scores is not None
    return metric.scores


def checked_groups(owner: str, name: str, groups: Sequence[str]) -> tuple[str, ...]:
    """The groups as a tuple, in the order of `GROUPS`.

    Raises:
        ConfigurationError: an unknown group, or none.
    """
    asked = [groups] if isinstance(groups, str) else [str(group) for group in groups or ()]
    for group in asked:
        if group not in GROUPS:
            raise bad_argument(owner, name, group, ", ".join(GROUPS), did_you_mean(group, GROUPS))
    if not asked:
        raise bad_argument(owner, name, groups, f"at least one of {', '.join(GROUPS)}")
    return tuple(group for group in GROUPS if group in asked)


def size_findings(groups: Sequence[str], n_real: int, n_generated: int) -> list[Finding]:
    """What too few jets mean for the numbers of these groups."""
    few = min(n_real, n_generated)
    there = f"{n_real} real and {n_generated} generated jets"
    numbers: dict[str, float | int | str] = {"n_real": n_real, "n_generated": n_generated}
    findings = []
    for group in groups:
        if few < (least := _LEAST.get(group, 1)):
            findings.append(
                Finding(
                    name=f"too-few-jets-for-{group}",
                    severity="warning",
                    message=f"{there}, where {group} needs {least} of each: it was left out.",
                    evidence={**numbers, "needed": least},
                    remedy="evaluate on more jets",
                )
            )
    extrapolated = [group for group in ("fpd", "kpd") if group in groups and few >= _LEAST[group]]
    if few < PUBLISHED_JETS:
        how = f" {' and '.join(extrapolated)} took every jet at most once ('subsample')." if extrapolated else ""
        findings.append(
            Finding(
                name="fewer-jets-than-published",
                severity="info",
                message=f"{there}, where published figures stand for {PUBLISHED_JETS} of each.{how}",
                evidence={**numbers, "published": PUBLISHED_JETS},
                remedy="compare with the real-against-real column, not with published figures",
            )
        )
    return findings
