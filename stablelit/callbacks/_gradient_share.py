"""The gradient of a weighted KL over that of the reconstruction, where both meet."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from stablelit.functional.gradient_reach import component_gradients


def gradient_share(pl_module: Any, recon: Tensor, kl: Tensor, weight: Any) -> float | None:
    r""":math:`\lVert \nabla_\phi\, \beta KL \rVert / \lVert \nabla_\phi\, recon \rVert`, phi being what the KL reaches.

    To a fixed prior the KL reaches the encoder and nothing else, so no name of it is needed.

    Args:
        pl_module: of a live step.
        recon: nats, shape () or (B,), live.
        kl: likewise.
        weight: beta, a number or a 0-dim tensor.

    Returns:
        The ratio; None where one of them has no graph, or the reconstruction sends no gradient there.
    """
    if not (recon.requires_grad and kl.requires_grad):
        return None
    parameters = [p for p in pl_module.parameters() if p.requires_grad]
    of_kl = component_gradients(kl.mean(), parameters)
    encoder = [p for p, g in zip(parameters, of_kl, strict=True) if g is not None]
    of_recon = component_gradients(recon.mean(), encoder)
    below = _norm(of_recon)
    return abs(float(weight)) * _norm(of_kl) / below if below > 0.0 else None


def _norm(gradients: list[Tensor | None]) -> float:
    norms = [torch.linalg.vector_norm(g.detach(), dtype=torch.float64) for g in gradients if g is not None]
    return float(torch.linalg.vector_norm(torch.stack(norms))) if norms else 0.0
