"""The parton shower of the TOY jets: leading-log, collinear, ordered in angle. It is not Pythia.

All partons of all jets live in one array and evolve together by the veto algorithm, ordered in angle.

Emission probability of a parton of transverse momentum p, with gluon share z at opening angle theta (leading log)::

    dP = (dtheta / theta) (alpha_s(kT) / pi) P(z) dz,   kT = min(z, 1 - z) theta p > kT_cut,   theta < theta_parent

    P_q(z)    = C_F (1 + (1 - z)^2) / z              quark -> quark (1 - z) + gluon (z)
    P_gg(z)   = C_A (2 (1 - z) / z + z (1 - z))      gluon -> gluon gluon; z in (0, 1) with the symmetry factor absorbed
    P_gqq(z)  = T_R n_f (z^2 + (1 - z)^2)            gluon -> quark antiquark
    alpha_s(k) = 1 / (b_0 ln(k^2 / Lambda^2)),  b_0 = (33 - 2 n_f) / (12 pi), frozen below 0.5 GeV

so that the density of soft primary emissions in the Lund plane is ``d^2 N / (dln(1/theta) dln kT) = 2 alpha_s C / pi``.

Veto algorithm: the rate ``(alpha_max / pi) I`` with ``I = integral of 2 C / z (+ T_R n_f)`` from ``kT_cut / (theta p)``
to 1 over-estimates the true one; step ``ln theta -= Exp(1) / rate``, draw z from the over-estimate, accept with
``P / P_over * alpha_s / alpha_max * [kT > kT_cut]``.

Source: the textbook collinear shower (Ellis, Stirling, Webber, QCD and Collider Physics, chapter 5). What it lacks:
soft interference beyond angular ordering, recoil, colour, real hadronisation. Use it to try software, never as physics.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

C_F, C_A, T_R, N_FLAVOURS = 4.0 / 3.0, 3.0, 0.5, 5
ALPHA_S_FREEZE_GEV = 0.5


@dataclass(frozen=True)
class Partons:
    """Partons of many jets in one table: pT (GeV), position relative to the jet axis, jet index, gluon or quark."""

    pt: Floats
    eta: Floats
    phi: Floats
    jet: NDArray[np.int64]
    is_gluon: NDArray[np.bool_]

    def take(self, chosen: NDArray[np.bool_]) -> Partons:
        """The partons where `chosen` is True."""
        return Partons(self.pt[chosen], self.eta[chosen], self.phi[chosen], self.jet[chosen], self.is_gluon[chosen])

    @staticmethod
    def join(parts: Sequence[Partons]) -> Partons:
        """All tables in one."""
        fields = ("pt", "eta", "phi", "jet", "is_gluon")
        return Partons(*(np.concatenate([getattr(p, f) for p in parts]) for f in fields))


@dataclass(frozen=True)
class PrimaryEmissions:
    """Emissions off the lines that began the shower: the primary Lund plane. `kt` is in GeV."""

    theta: Floats
    kt: Floats
    share: Floats


def alpha_s(kt_gev: Floats | float, lambda_qcd_gev: float = 0.2) -> Floats:
    """One-loop coupling ``1 / (b_0 ln(k^2 / Lambda^2))`` with five flavours, frozen below 0.5 GeV."""
    b_0 = (33 - 2 * N_FLAVOURS) / (12 * math.pi)
    scale = np.maximum(kt_gev, ALPHA_S_FREEZE_GEV)
    return np.asarray(1.0 / (2.0 * b_0 * np.log(scale / lambda_qcd_gev)))


def split(parents: Partons, share: Floats, theta: Floats, azimuth: Floats) -> tuple[Partons, Partons]:
    """Splits each parent in two at opening angle `theta`, keeping its pT and its pT-weighted direction exactly.

    With unit vector n at `azimuth`: the daughter with share z moves by ``+(1 - z) theta n``, the one with 1 - z by
    ``-z theta n``. Flavours are those of the parents.

    Returns:
        The daughters with share z, and those with share 1 - z.
    """
    soft_pt = share * parents.pt
    d_eta, d_phi = theta * np.cos(azimuth), theta * np.sin(azimuth)
    rest = 1.0 - share
    soft = Partons(soft_pt, parents.eta + rest * d_eta, parents.phi + rest * d_phi, parents.jet, parents.is_gluon)
    # the difference, not (1 - z) p: so that the two add up to p exactly
    hard = Partons(
        parents.pt - soft_pt, parents.eta - share * d_eta, parents.phi - share * d_phi, parents.jet, parents.is_gluon
    )
    return soft, hard


def shower(
    partons: Partons, theta_max: Floats, rng: np.random.Generator, kt_cut: float = 1.0, lambda_qcd: float = 0.2
) -> tuple[Partons, PrimaryEmissions]:
    """Evolves all partons down to ``kT_cut``; formulas in the module docstring.

    Args:
        partons: the partons that begin the shower.
        theta_max: ``(n,)`` largest opening angle of each.
        rng: the source of randomness.
        kt_cut: smallest relative transverse momentum of an emission, GeV.
        lambda_qcd: Lambda, GeV.

    Returns:
        The final partons, and the emissions off the initial lines (a gluon line follows its share 1 - z).
    """
    alpha_max = float(alpha_s(kt_cut, lambda_qcd))
    active, theta, primary = partons, theta_max.astype(float), np.ones(len(partons.pt), dtype=bool)
    finished: list[Partons] = []
    emissions: list[tuple[Floats, Floats, Floats]] = []
    while len(active.pt):
        # below this angle even the even split has kT < kT_cut
        can_split = theta * active.pt > 2.0 * kt_cut
        finished.append(active.take(~can_split))
        active, theta, primary = active.take(can_split), theta[can_split], primary[can_split]
        if not len(active.pt):
            break
        log_range = np.log(theta * active.pt / kt_cut)
        to_gluons = 2.0 * np.where(active.is_gluon, C_A, C_F) * log_range
        to_quarks = np.where(active.is_gluon, T_R * N_FLAVOURS, 0.0)
        rate = alpha_max / math.pi * (to_gluons + to_quarks)
        theta = theta * np.exp(-rng.exponential(size=len(theta)) / rate)
        makes_quarks = rng.random(len(theta)) * (to_gluons + to_quarks) < to_quarks
        draw = rng.random(len(theta))
        share = np.where(makes_quarks, draw, np.exp(-draw * log_range))
        kt = np.minimum(share, 1.0 - share) * theta * active.pt
        shape = np.where(
            makes_quarks,
            share**2 + (1.0 - share) ** 2,
            np.where(active.is_gluon, (1.0 - share) * (1.0 + 0.5 * share**2), 0.5 * (1.0 + (1.0 - share) ** 2)),
        )
        accept = (kt > kt_cut) & (rng.random(len(theta)) < shape * alpha_s(kt, lambda_qcd) / alpha_max)
        if not accept.any():
            continue
        parents, angle, z, quarks = active.take(accept), theta[accept], share[accept], makes_quarks[accept]
        from_start = primary[accept]
        emissions.append((angle[from_start], kt[accept][from_start], z[from_start]))
        soft, hard = split(parents, z, angle, rng.uniform(0.0, 2.0 * math.pi, len(z)))
        soft = Partons(soft.pt, soft.eta, soft.phi, soft.jet, ~quarks)
        hard = Partons(hard.pt, hard.eta, hard.phi, hard.jet, hard.is_gluon & ~quarks)
        active = Partons.join([active.take(~accept), soft, hard])
        theta = np.concatenate([theta[~accept], angle, angle])
        primary = np.concatenate([primary[~accept], np.zeros(len(z), dtype=bool), from_start])
    columns = [np.concatenate(c) for c in zip(*emissions, strict=True)] if emissions else [np.zeros(0)] * 3
    return Partons.join(finished), PrimaryEmissions(*columns)
