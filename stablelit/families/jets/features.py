"""Features of pairs and of hyperedges, computed on the fly from padded particles. Pure functions, no parameters.

Notation: z_i = pT_i / pT_jet is ptrel, Delta = sqrt(Delta eta^2 + Delta phi^2), particles are massless.
"""

from __future__ import annotations

import math
from itertools import combinations

import torch
from torch import Tensor

EDGE_FEATURES = ("ln_delta_r", "ln_kt", "ln_z", "ln_m2", "ln_w2")
HYPEREDGE_FEATURES = ("ln_r_l", "ln_w")
MIN_DELTA_R = 1e-8
MIN_PTREL = 1e-8
TWO_PI = 2.0 * math.pi


def wrap_angle(angle: Tensor) -> Tensor:
    """The same angle in [-pi, pi] (rad); exact for angles that are there already."""
    return angle - TWO_PI * torch.round(angle / TWO_PI)


def pair_indices(n_particles: int, device: torch.device | str | None = None) -> tuple[Tensor, Tensor]:
    """First and second members of the ``N (N - 1) / 2`` unordered pairs."""
    first, second = torch.triu_indices(n_particles, n_particles, offset=1, device=device)
    return first, second


def pair_features(particles: Tensor, mask: Tensor, jet_pt: Tensor) -> tuple[Tensor, Tensor]:
    """Five features of every unordered pair; all are symmetric in the pair and unchanged by a rotation about the axis.

    ``ln Delta``, ``ln kT`` with ``kT = min(pT) Delta`` (GeV), ``ln z`` with ``z = min(pT) / (pT_a + pT_b)``, ``ln m^2``
    (GeV^2) with ``m^2 = 2 pT_a pT_b (cosh Delta eta - cos Delta phi)`` and ``ln w_2 = ln(z_a z_b)``, the weight of the
    two-point energy correlator.

    Only three of the five are independent (``m^2 ~ w_2 pT_jet^2 Delta^2``): inputs of an encoder, no targets.

    Source: Qu, Li, Qian 2022 (arXiv:2202.03772) eq. 3 for the first four.

    Args:
        particles: ``(B, N, 3)`` etarel, phirel (rad), ptrel.
        mask: ``(B, N)`` bool.
        jet_pt: ``(B,)`` GeV.

    Returns:
        Features ``(B, N (N - 1) / 2, 5)``, zero for pairs that are not there, and the mask of pairs.
    """
    first, second = pair_indices(particles.shape[1], particles.device)
    pair_mask = mask[:, first] & mask[:, second]
    eta, phi, ptrel = particles.float().unbind(-1)
    d_eta = eta[:, first] - eta[:, second]
    d_phi = wrap_angle(phi[:, first] - phi[:, second])
    ln_pt = ptrel.clamp_min(MIN_PTREL).log()
    ln_a, ln_b = ln_pt[:, first], ln_pt[:, second]
    ln_delta = 0.5 * (d_eta.square() + d_phi.square()).clamp_min(MIN_DELTA_R**2).log()
    ln_jet_pt = jet_pt.float().clamp_min(1e-3).log()[:, None]
    ln_w2 = ln_a + ln_b
    ln_min = torch.minimum(ln_a, ln_b)
    # cosh x - cos y = 2 (sinh^2(x/2) + sin^2(y/2)), which does not cancel at small angles
    opening = torch.sinh(0.5 * d_eta).square() + torch.sin(0.5 * d_phi).square()
    features = torch.stack(
        [
            ln_delta,
            ln_min + ln_delta + ln_jet_pt,
            ln_min - torch.logaddexp(ln_a, ln_b),
            2.0 * math.log(2.0) + ln_w2 + 2.0 * ln_jet_pt + opening.clamp_min(MIN_DELTA_R**2).log(),
            ln_w2,
        ],
        dim=-1,
    )
    return features.masked_fill(~pair_mask[..., None], 0.0), pair_mask


def squared_distances(particles: Tensor) -> Tensor:
    """``Delta^2`` of all pairs, ``(B, N, N)``."""
    eta, phi, _ = particles.float().unbind(-1)
    d_eta = eta[:, :, None] - eta[:, None, :]
    d_phi = wrap_angle(phi[:, :, None] - phi[:, None, :])
    return d_eta.square() + d_phi.square()


def knn_hyperedges(particles: Tensor, mask: Tensor, n_neighbours: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """One hyperedge a particle: the particle and its nearest neighbours.

    A jet of fewer than three particles has no hyperedge (a pair is an edge); in small jets a hyperedge has as many
    neighbours as there are.

    Per hyperedge e of N members: ``ln R_L = ln max_{k,l in e} Delta_kl`` and ``ln w_N = sum_{i in e} ln z_i``, the
    variables of the projected N-point energy correlator (Chen, Moult, Zhang, Zhu 2020, arXiv:2004.11381).

    Args:
        particles: ``(B, N, 3)`` etarel, phirel (rad), ptrel.
        mask: ``(B, N)`` bool.
        n_neighbours: k.

    Returns:
        Incidence H ``(B, N, N)`` float with ``H[b, i, e] = 1`` where particle i is in hyperedge e, features
        ``(B, N, 2)`` (zero where there is no hyperedge), and the mask ``(B, N)`` of hyperedges.
    """
    n_particles = particles.shape[1]
    k = min(n_neighbours, n_particles - 1)
    hyperedge_mask = mask & (mask.sum(dim=1, keepdim=True) >= 3)
    distance = squared_distances(particles)
    absent = ~(mask[:, :, None] & mask[:, None, :])
    itself = torch.eye(n_particles, dtype=torch.bool, device=mask.device)
    # itself first, absent ones last
    keyed = distance.masked_fill(absent, torch.inf).masked_fill(itself, -1.0)
    nearest, members = keyed.topk(k + 1, dim=-1, largest=False)  # (B, e, k + 1)
    there = torch.isfinite(nearest) & hyperedge_mask[..., None]
    incidence = torch.zeros_like(distance).scatter_(2, members, there.to(distance.dtype)).transpose(1, 2)

    return incidence, hyperedge_features(particles, members, there), hyperedge_mask


def hyperedge_features(particles: Tensor, members: Tensor, there: Tensor) -> Tensor:
    """``(ln R_L, ln w_N)`` of hyperedges given by their members; see `knn_hyperedges`.

    Args:
        particles: ``(B, N, 3)`` etarel, phirel (rad), ptrel.
        members: ``(B, M, k)`` indices of particles.
        there: ``(B, M, k)`` bool: which of them belong to the hyperedge; none, where there is no hyperedge.

    Returns:
        ``(B, M, 2)``, zero where there is no hyperedge.
    """
    flat = members.flatten(1)[..., None].expand(-1, -1, 3)
    eta, phi, ptrel = particles.float().gather(1, flat).unflatten(1, members.shape[1:]).unbind(-1)  # (B, M, k) each
    widest = torch.zeros_like(eta[..., 0])
    for i, j in combinations(range(members.shape[2]), 2):
        apart = (eta[..., i] - eta[..., j]).square() + wrap_angle(phi[..., i] - phi[..., j]).square()
        widest = torch.maximum(widest, apart * (there[..., i] & there[..., j]))
    ln_r_l = 0.5 * widest.clamp_min(MIN_DELTA_R**2).log()
    ln_w = ptrel.clamp_min(MIN_PTREL).log().masked_fill(~there, 0.0).sum(-1)
    return torch.stack([ln_r_l, ln_w], dim=-1).masked_fill(~there.any(dim=-1, keepdim=True), 0.0)


def rotate_about_axis(particles: Tensor, angle: Tensor) -> Tensor:
    """Rotates each jet about its axis in the (eta, phi) plane by `angle` ``(B,)`` rad; exact to second order in R."""
    cosine, sine = torch.cos(angle)[:, None], torch.sin(angle)[:, None]
    eta, phi, ptrel = particles.unbind(-1)
    return torch.stack([cosine * eta - sine * phi, sine * eta + cosine * phi, ptrel], dim=-1)
