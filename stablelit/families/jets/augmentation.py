"""Random changes of training jets that leave their physics as it is. Pure functions; the caller draws the numbers."""

from __future__ import annotations

import torch
from torch import Tensor

# Below a calorimeter's and a tracker's resolution at any pT (the toy detector's: 2 % (+) 10 % / sqrt(pT), 3 mrad)
LN_PTREL_SMEARING, ANGLE_SMEARING_RAD = 0.02, 0.003


def reflect(particles: Tensor, is_reflected: Tensor) -> Tensor:
    """``phirel -> -phirel`` in the jets ``(B,)`` where `is_reflected`; distances and mass stay."""
    sign = torch.where(is_reflected, -1.0, 1.0).to(particles.dtype)[:, None]
    eta, phi, ptrel = particles.unbind(-1)
    return torch.stack([eta, sign * phi, ptrel], dim=-1)


def permute(particles: Tensor, mask: Tensor, keys: Tensor) -> Tensor:
    """Puts the particles of each jet in the order of their keys; absent ones stay where they are.

    A set has no order: this changes nothing for `JetVAE`, and what a model of somebody else learns from the order.

    Args:
        particles: ``(B, N, 3)``.
        mask: ``(B, N)`` bool.
        keys: ``(B, N)`` random numbers; equal chances for all orders where they are independent and uniform.
    """
    absent = ~mask
    source = keys.masked_fill(absent, torch.inf).argsort(dim=1)
    place = absent.to(torch.uint8).argsort(dim=1, stable=True)
    # both lists have the present ones first, and the same number of them
    source = torch.where(mask.gather(1, place), source, place)
    index = torch.empty_like(source).scatter_(1, place, source)
    return particles.gather(1, index[..., None].expand_as(particles))


def smear(particles: Tensor, mask: Tensor, noise: Tensor) -> Tensor:
    """Adds ``0.02 n_1`` to ln ptrel and ``0.003 rad (n_2, n_3)`` to the position of every particle that is there.

    Steps in ln ptrel keep ptrel positive, which steps in pT do not.

    Args:
        particles: ``(B, N, 3)`` etarel, phirel (rad), ptrel.
        mask: ``(B, N)`` bool.
        noise: ``(B, N, 3)`` of mean 0 and variance 1: n_2, n_3, n_1.
    """
    angles = particles[..., :2] + ANGLE_SMEARING_RAD * noise[..., :2]
    ptrel = particles[..., 2:] * torch.exp(LN_PTREL_SMEARING * noise[..., 2:])
    return torch.cat([angles, ptrel], dim=-1).masked_fill(~mask[..., None], 0.0)
