"""Drawing jets from the decoder's density p(X | z), and writing them down."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stablelit.families.jets.jet_arrays import JetArrays
from stablelit.families.jets.metrics import jet_mass
from stablelit.families.jets.network import HypergraphVAE
from stablelit.families.jets.readers import format_of


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
def draw_jets(network: HypergraphVAE, z: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """Draws one jet for every z from the decoder's p(X | z).

    Args:
        network: whose decoder and coordinates are used.
        z: ``(B, d)``.
        generator: on the device of z.

    Returns:
        ``particles`` ``(B, N, 3)`` with ptrel > 0, hardest first, zeros where `mask` is False; ``mask``; ``jet``
        ``(B, 4)``:
        the median pT of the training jets (GeV), eta = 0, mass (GeV), number of particles; ``label``, zeros.
    """
    n_jets = len(z)
    pt = network.jet_pt_gev.expand(n_jets)
    with evaluating(network):
        x, mask = network.decoder.draw(z, generator, network, pt)
    # hardest first, absent last; ln ptrel is the first coordinate
    order = x[..., 0].masked_fill(~mask, -torch.inf).argsort(dim=1, descending=True)
    mask = mask.gather(1, order)
    particles = network.destandardise(x.gather(1, order[..., None].expand(-1, -1, 3)), mask)
    mass = pt * jet_mass(particles, mask).float()
    return {
        "particles": particles,
        "mask": mask,
        "jet": torch.stack([pt, torch.zeros_like(pt), mass, mask.sum(dim=1).to(pt.dtype)], dim=1),
        "label": torch.zeros(n_jets, dtype=torch.long, device=z.device),
    }


def write_drawn_jets(path: str | Path, drawn: dict[str, Tensor]) -> dict[str, Any]:
    """Writes jets of `draw_jets` in the format of the suffix, replacing a file that is there.

    Returns:
        What was written: path, counts, and means a reader can compare with the training jets.

    Raises:
        DataError: an unknown suffix.
    """
    file_format = format_of(path)
    arrays = {name: values.cpu().numpy() for name, values in drawn.items()}
    file_format.write(path, JetArrays(**arrays, classes=("generated",)))
    ptrel, jet = arrays["particles"][..., 2], arrays["jet"]
    return {
        "path": str(path),
        "format": file_format.name,
        "n_jets": len(jet),
        "mean_n_particles": float(jet[:, 3].mean()),
        "mean_ptrel_sum": float(ptrel.sum(axis=1).mean()),
        "median_relative_mass": float(np.median(jet[:, 2] / jet[:, 0])),
        "jets_with_ptrel_above_1": int((ptrel > 1).any(axis=1).sum()),
    }
