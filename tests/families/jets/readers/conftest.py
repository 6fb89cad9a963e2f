"""Jets as their detector saw them, and what becomes of them, derived one jet at a time in plain Python."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray


@dataclass(frozen=True)
class SeenJets:
    """Massless particles of some jets: `momenta` (n_i, 4) with E, px, py, pz for jet i (GeV), and a class of each."""

    momenta: list[NDArray[np.float64]]
    label: NDArray[np.int64]

    @property
    def counts(self) -> NDArray[np.int64]:
        return np.array([len(m) for m in self.momenta])

    @property
    def flat(self) -> NDArray[np.float64]:
        return np.concatenate(self.momenta)

    def padded(self, width: int | None = None) -> NDArray[np.float64]:
        values = np.zeros((len(self.momenta), width or int(self.counts.max()), 4))
        for i, m in enumerate(self.momenta):
            values[i, : len(m)] = m
        return values

    def angles(self, i: int) -> list[tuple[float, float, float]]:
        """pT, eta, phi of the particles of jet i."""
        return [
            (math.hypot(x, y), math.asinh(z / math.hypot(x, y)), math.atan2(y, x)) for _, x, y, z in self.momenta[i]
        ]

    def relative(self, i: int) -> tuple[list[tuple[float, float, float]], tuple[float, float, float]]:
        """(etarel, phirel, ptrel) of the particles of jet i in their order, and (pT, eta, mass) of the jet."""
        e, x, y, z = (float(v) for v in self.momenta[i].sum(axis=0))
        jet_pt = math.hypot(x, y)
        seen = self.angles(i)
        total = sum(pt for pt, _, _ in seen)
        eta_axis = sum(pt * eta for pt, eta, _ in seen) / total
        phi_axis = math.atan2(
            sum(pt * math.sin(phi) for pt, _, phi in seen), sum(pt * math.cos(phi) for pt, _, phi in seen)
        )
        rel = [(eta - eta_axis, math.remainder(phi - phi_axis, 2 * math.pi), pt / jet_pt) for pt, eta, phi in seen]
        mass = math.sqrt(max(e * e - x * x - y * y - z * z, 0.0))
        return rel, (jet_pt, math.asinh(z / jet_pt), mass)

    def assert_read_as(self, jets, mass_tolerance: float = 0.05) -> None:
        """Compares every number of `jets` (none dropped, hardest not sorted) with the one-by-one derivation."""
        assert len(jets) == len(self.momenta)
        assert jets.mask.sum(axis=1).tolist() == self.counts.tolist()
        for i in range(len(jets)):
            if not len(self.momenta[i]):
                continue
            rel, (pt, eta, mass) = self.relative(i)
            assert np.allclose(jets.particles[i][jets.mask[i]], rel, atol=2e-5), i
            assert np.allclose(jets.jet[i, :2], (pt, eta), rtol=1e-4, atol=1e-4)
            assert jets.jet[i, 2] == pytest.approx(mass, abs=mass_tolerance)
            assert jets.jet[i, 3] == len(self.momenta[i])


@pytest.fixture(scope="session")
def seen_jets() -> SeenJets:
    """Jets of 0, 1, 2, 3, ... particles all around the detector, some across phi = pi."""
    rng = np.random.default_rng(11)
    counts = [0, 1, 2, 3, *rng.integers(4, 40, 36).tolist()]
    momenta = []
    for i, n in enumerate(counts):
        pt = np.sort(rng.exponential(40.0, n) + 1.0)[::-1] if n else np.zeros(0)
        eta = rng.uniform(-1.8, 1.8) + 0.2 * rng.standard_normal(n)
        phi = (math.pi if i % 3 == 0 else rng.uniform(-math.pi, math.pi)) + 0.2 * rng.standard_normal(n)
        momenta.append(np.stack([pt * np.cosh(eta), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)], axis=1))
    return SeenJets(momenta, rng.integers(0, 2, len(counts)))
