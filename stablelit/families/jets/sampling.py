"""Drawing jets from the decoder's density p(X | z, c), correcting what they add up to, and writing them down."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stablelit.families.jets.jet_arrays import JetArrays
from stablelit.families.jets.metrics import jet_mass
from stablelit.families.jets.network import HypergraphVAE
from stablelit.families.jets.readers import format_of, write_jets

MASS_ROUNDS = 2
# a jet whose angles would have to change by more is left nearer to what the decoder drew
MOST_STRETCH = 5.0


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode (no dropout) inside the block, the mode of before after it."""
    was_training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was_training)


@torch.no_grad()
def draw_jets(
    network: HypergraphVAE, z: Tensor, label: Tensor, jet_pt: Tensor, generator: torch.Generator, calibrate: bool
) -> dict[str, Tensor]:
    """Draws one jet for every z from the decoder's p(X | z, c).

    Args:
        network: whose decoder and coordinates are used.
        z: ``(B, d)``.
        label: ``(B,)`` class numbers; they matter to a network that is conditioned on them.
        jet_pt: ``(B,)`` GeV; likewise.
        generator: on the device of z.
        calibrate: whether mass and sum of ptrel are drawn by the network's heads for them, see `calibrated`.

    Returns:
        ``particles`` ``(B, N, 3)`` with ptrel > 0, hardest first, zeros where `mask` is False; ``mask``; ``jet``
        ``(B, 4)``: `jet_pt`, eta = 0, mass (GeV), number of particles; ``label``.
    """
    code = network.code(z, network.condition(label, jet_pt))
    with evaluating(network):
        x, mask = network.decoder.draw(code, generator, network, jet_pt)
        # hardest first, absent last; ln ptrel is the first coordinate
        order = x[..., 0].masked_fill(~mask, -torch.inf).argsort(dim=1, descending=True)
        mask = mask.gather(1, order)
        particles = network.destandardise(x.gather(1, order[..., None].expand(-1, -1, 3)), mask)
        if calibrate and network.jet_level is not None:
            mass, ptrel_sum = network.jet_level.draw(code, mask, network, generator)
            particles = calibrated(particles, mask, mass, ptrel_sum, network.max_delta_r)
    pt = jet_pt.float()
    mass = pt * jet_mass(particles, mask).float()
    jet = torch.stack([pt, torch.zeros_like(pt), mass, mask.sum(dim=1).to(pt.dtype)], dim=1)
    return {"particles": particles, "mask": mask, "jet": jet, "label": label}


def calibrated(particles: Tensor, mask: Tensor, mass: Tensor, ptrel_sum: Tensor, max_delta_r: Tensor) -> Tensor:
    """Jets moved onto a given mass and sum of ptrel, their axis to the origin, and into the cone of the jet.

    All ptrel are multiplied by one factor, the pT-weighted axis is subtracted, and all angles are multiplied by one
    factor, twice over because mass is linear in the angles only to second order; particles beyond the cone are brought
    to its edge. So n, the order of hardness and the shares of the momentum stay as they were drawn.

    What it does not do: the particles that result are no draw of the decoder's density, and what it changes has no
    place in the bound. Where the cone, one particle alone or a factor above 5 forbids it, a mass is missed.

    Args:
        particles: ``(B, N, 3)`` etarel, phirel (rad), ptrel.
        mask: ``(B, N)`` bool.
        mass: ``(B,)`` m / pT.
        ptrel_sum: ``(B,)``.
        max_delta_r: ``()`` radius of the cone (rad).

    Returns:
        ``(B, N, 3)``, zero where `mask` is False.
    """
    angles, ptrel = particles[..., :2], particles[..., 2] * mask
    drawn_sum = ptrel.sum(dim=1, keepdim=True)
    share = ptrel / drawn_sum
    ptrel = share * ptrel_sum[:, None]
    angles = angles - (share[..., None] * angles).sum(dim=1, keepdim=True)
    angles = _inside(angles, max_delta_r)
    for _ in range(MASS_ROUNDS):
        found = jet_mass(torch.cat([angles, ptrel[..., None]], dim=-1), mask).float()
        stretch = (mass / found.clamp_min(1e-6)).clamp(1.0 / MOST_STRETCH, MOST_STRETCH)
        angles = _inside(angles * stretch[:, None, None], max_delta_r)
    return torch.cat([angles, ptrel[..., None]], dim=-1).masked_fill(~mask[..., None], 0.0)


def _inside(angles: Tensor, max_delta_r: Tensor) -> Tensor:
    distance = angles.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    return angles * (max_delta_r / distance).clamp_max(1.0)


def write_drawn_jets(path: str | Path, drawn: dict[str, Tensor], classes: Sequence[str] = ()) -> dict[str, Any]:
    """Writes jets of `draw_jets` in the format of the suffix, replacing a file that is there.

    Args:
        path: where to.
        drawn: the jets.
        classes: the names of their labels; empty where the model knows none.

    Returns:
        What was written: path, counts, and means a reader can compare with the training jets.

    Raises:
        DataError: an unknown suffix.
    """
    arrays = {name: values.cpu().numpy() for name, values in drawn.items()}
    write_jets(path, JetArrays(**arrays, classes=tuple(classes) or ("generated",)))
    ptrel, jet = arrays["particles"][..., 2], arrays["jet"]
    return {
        "path": str(path),
        "format": format_of(path).name,
        "n_jets": len(jet),
        "mean_n_particles": float(jet[:, 3].mean()),
        "mean_ptrel_sum": float(ptrel.sum(axis=1).mean()),
        "median_relative_mass": float(np.median(jet[:, 2] / jet[:, 0])),
        "jets_with_ptrel_above_1": int((ptrel > 1).any(axis=1).sum()),
    }
