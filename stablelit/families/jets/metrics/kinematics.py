"""What a jet is as a whole: the sum of its particles' momenta, and how far they lie from its axis."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class JetMomentum(NamedTuple):
    """Momentum of whole jets, each ``(B,)`` float64, in units of the jet's pT where that is one."""

    pt: Tensor
    eta: Tensor
    phi: Tensor
    mass: Tensor


def jet_momentum(particles: Tensor, mask: Tensor) -> JetMomentum:
    """Sums massless particles to jets.

    ``p = sum_i z_i (cosh eta_i, cos phi_i, sin phi_i, sinh eta_i)`` with z = ptrel, ``m^2 = E^2 - |p|^2``, in float64
    because m^2 is a small difference of large numbers.

    Args:
        particles: ``(B, N, 3)`` etarel, phirel (rad), ptrel.
        mask: ``(B, N)`` bool.

    Returns:
        pT, and eta and phi (rad) relative to the axis of the coordinates, and mass. An empty jet is zero throughout.
    """
    eta, phi, z = torch.where(mask[..., None], particles.double(), 0.0).unbind(-1)
    energy, p_z = (z * torch.cosh(eta)).sum(-1), (z * torch.sinh(eta)).sum(-1)
    p_x, p_y = (z * torch.cos(phi)).sum(-1), (z * torch.sin(phi)).sum(-1)
    pt = torch.hypot(p_x, p_y)
    mass = (energy**2 - p_x**2 - p_y**2 - p_z**2).clamp_min(0.0).sqrt()
    return JetMomentum(pt, torch.asinh(p_z / pt.clamp_min(torch.finfo(pt.dtype).tiny)), torch.atan2(p_y, p_x), mass)


def jet_mass(particles: Tensor, mask: Tensor) -> Tensor:
    """Mass of jets of massless particles, in units of the jet's pT, ``(B,)`` float64; see `jet_momentum`."""
    return jet_momentum(particles, mask).mass


def axis_distance(particles: Tensor) -> Tensor:
    """``Delta R = sqrt(etarel^2 + phirel^2)`` of every particle to the axis of its coordinates, ``(B, N)``."""
    return torch.hypot(particles[..., 0], particles[..., 1])
