r"""At which times a batch is corrupted: numbers u in [0, 1), to be mapped to [eps, 1].

Every u by itself is uniform, so that each choice gives the same mean; they differ in how evenly a batch covers [0, 1).
With n numbers in all ranks and all micro-batches of an optimizer step,

===============  ================================================  ===================================================
`iid`            :math:`u_i`                                       a batch may have no small time at all
`stratified`     :math:`(i + u_i) / n` over the whole step         one number a stratum; MDLM calls it antithetic
`low_discrepancy`  :math:`(u_0 + i / n) \bmod 1` over the whole step  evenly spaced; u_0 must be the same on all ranks
`decoupled`      :math:`(i + u_i) / B` in the micro-batch alone    what ranks do is independent; RADD's name
===============  ================================================  ===================================================

Strata are dealt out so that every micro-batch of every rank spans the whole of [0, 1), and in random order, because a
batch may be sorted (by length). What strata cannot take away is the noise in the number of masks at small times.

Sources: Kingma et al. 2021 (arXiv:2107.00630), appendix I.1; Sahoo et al. 2024 (arXiv:2406.07524); Ou et al. 2024
(arXiv:2406.03736).
"""

from __future__ import annotations

import torch
from torch import Tensor

from stablelit.errors import ConfigurationError, bad_argument, did_you_mean
from stablelit.families.proteins.diffusion.randomness import RandomSource, uniform
from stablelit.functional.schedules import check_count, check_number

TIME_SAMPLERS = ("iid", "stratified", "low_discrepancy", "decoupled")


def sample_uniform(
    method: str,
    batch_size: int,
    generator: RandomSource,
    device: torch.device | None = None,
    part: int = 0,
    n_parts: int = 1,
    shift: Tensor | float | None = None,
) -> Tensor:
    """Numbers in [0, 1), one a sequence.

    Args:
        method: a name in `TIME_SAMPLERS`.
        batch_size: B, sequences of this micro-batch; the same in every part, or strata overlap.
        generator: of this rank.
        device: where they are wanted.
        part: which micro-batch of the optimizer step this is: micro-batch * ranks + rank.
        n_parts: micro-batches times ranks.
        shift: u_0 of `low_discrepancy`, the same in all parts; None draws it, which one part alone can do.

    Returns:
        ``(B,)`` float32.

    Raises:
        ConfigurationError: an unknown method, a part outside its range, no shift for several parts.
    """
    if method not in TIME_SAMPLERS:
        hint = did_you_mean(str(method), TIME_SAMPLERS)
        raise bad_argument("sample_uniform", "method", method, ", ".join(TIME_SAMPLERS), hint)
    check_count("sample_uniform", "batch_size", batch_size, least=0)
    check_count("sample_uniform", "n_parts", n_parts, least=1)
    if check_count("sample_uniform", "part", part, least=0) >= n_parts:
        raise bad_argument("sample_uniform", "part", part, f"an int from 0 to {n_parts - 1} (n_parts - 1)")
    device = torch.device("cpu") if device is None else device
    if method == "iid":
        return uniform((batch_size,), generator, device)
    if method == "decoupled":
        part, n_parts = 0, 1
    n = batch_size * n_parts
    stratum = torch.arange(batch_size, device=device) * n_parts + part
    if method == "low_discrepancy":
        u = (stratum / max(n, 1) + _shift(shift, generator, device, n_parts)) % 1
    else:
        u = (stratum + uniform((batch_size,), generator, device)) / max(n, 1)
    order = uniform((batch_size,), generator, device).argsort()
    # float32 rounds up to 1 just below the end of the last stratum
    return u[order].clamp(max=1 - 2.0**-24)


def times(u: Tensor, eps: float = 1e-3) -> Tensor:
    r""":math:`t = \varepsilon + (1 - \varepsilon) u`: the smallest times, whose weights are largest, are left out.

    No factor makes up for what is left out: with log-linear noise the mean of a cost that does not depend on t is right
    as it is.

    Args:
        u: in [0, 1].
        eps: in [0, 1).

    Raises:
        ConfigurationError: an eps outside its range.
    """
    if check_number("times", "eps", eps, at_least=0.0) >= 1:
        raise bad_argument("times", "eps", eps, "a number of at least 0 and below 1")
    return eps + (1 - eps) * u


def _shift(shift: Tensor | float | None, generator: RandomSource, device: torch.device, n_parts: int) -> Tensor | float:
    if shift is not None:
        return shift
    if n_parts > 1:
        raise ConfigurationError(
            f"sample_uniform: low_discrepancy needs shift= with n_parts={n_parts}: one number in [0, 1) that all ranks "
            "and micro-batches of the step share, drawn for instance from a generator seeded with the step."
        )
    return uniform((1,), generator, device)
