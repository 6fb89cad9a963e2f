"""BYOL's loss; NT-Xent is in `stablelit.functional.contrastive`."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize


def byol_loss(prediction: Tensor, target: Tensor) -> Tensor:
    r"""One direction of BYOL's loss, the mean over the batch.

    .. math:: \mathcal L = \left\lVert \frac{p}{|p|} - \frac{z'}{|z'|} \right\rVert^2 = 2 - 2 \cos(p, z')

    0 where all outputs are one vector, 2 where they know nothing of each other, 4 at most. That the best value is that
    of a collapse is why this loss says nothing about progress: look at a nearest-neighbour accuracy.

    Args:
        prediction: p, of one view by the predictor, ``(B, d)``.
        target: z', of the other view by the averaged network, ``(B, d)``; no gradient reaches it.

    Source: Grill et al. 2020 (arXiv:2006.07733), equation 2.

    >>> import torch
    >>> p = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    >>> byol_loss(p, 3 * p).item(), byol_loss(p, p.flip(0)).item(), byol_loss(p, -p).item()
    (0.0, 2.0, 4.0)
    """
    with torch.autocast(prediction.device.type, enabled=False):
        dtype = torch.promote_types(prediction.dtype, torch.float32)
        p = normalize(prediction.to(dtype), dim=1, eps=1e-6)
        z = normalize(target.detach().to(dtype), dim=1, eps=1e-6)
        return (2.0 - 2.0 * (p * z).sum(dim=1)).mean()
