"""Free bits: a KL term that lets every latent dimension keep some information for nothing."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

FreeBitsReduce = Literal["batch", "sample"]


def free_bits_kl(
    kl_per_dim: Tensor, free_bits: float, reduce: FreeBitsReduce = "batch", batch_mean: Tensor | None = None
) -> Tensor:
    r"""The KL of each sample, with the dimensions below their floor put at the floor.

    .. math::
        \text{batch: } \tilde K_b = \sum_j \begin{cases} KL_{bj} & \overline{KL}_j > \lambda \\
            \lambda & \text{else} \end{cases}
        \qquad \text{sample: } \tilde K_b = \sum_j \max(\lambda, KL_{bj})

    The mean over the batch of the first is :math:`\sum_j \max(\lambda, \overline{KL}_j)`, in value and in gradient;
    written so, it keeps a value for every sample, and ranks that agree on :math:`\overline{KL}_j` average to the
    gradient of the whole batch. Below the floor the gradient is zero: a dimension is not pushed out of use, and
    nothing keeps it from carrying more. This is a lower bound on information, never an upper one.

    Args:
        kl_per_dim: nats, shape (B, d), live.
        free_bits: :math:`\lambda`, nats per dimension.
        reduce: whose KL is compared with the floor: the batch's mean, or each sample's own.
        batch_mean: :math:`\overline{KL}_j`, shape (d,), where the batch is spread over ranks; None is the mean here.

    Returns:
        Nats, shape (B,), float32 under autocast too.

    Source: Kingma et al. 2016 (arXiv:1606.04934), eq. 15, each dimension a group; per sample as in Li et al. 2019
    (arXiv:1909.00868).
    """
    kl = kl_per_dim.float() if kl_per_dim.dtype in (torch.float16, torch.bfloat16) else kl_per_dim
    if reduce == "sample":
        return kl.clamp_min(free_bits).sum(dim=-1)
    mean = kl.detach().mean(dim=0) if batch_mean is None else batch_mean
    # written so that a mean that is not a number is not hidden behind the floor
    return torch.where(mean <= free_bits, free_bits, kl).sum(dim=-1)
