"""NT-Xent, the loss of SimCLR: exact in value and gradient over all ranks, in little memory."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from stablelit.errors import ConfigurationError, DataError, bad_argument
from stablelit.functional.embeddings import autocast_off, full_precision, unit_rows
from stablelit.functional.rank_gather import gather_rows, rank_and_world
from stablelit.functional.schedules import check_count, check_flag, check_number

ChunkSize = int | Literal["auto"] | None
# columns from which on blocks are faster than one matrix, on one core
_AUTO_COLUMNS = 256
# rows of a block that a CPU's cache holds, and scores of one that still fit anywhere: by measurement
_ROWS_ON_CPU, _SCORES_ON_CPU, _SCORES_ON_DEVICE = 256, 2**22, 2**26
# scores that are kept for the gradient instead of found again
_SCORES_KEPT = 2**20
# from this temperature on exp(s / T) is between exp(-20) and exp(20), and no maximum need be taken off
_LEAST_WITHOUT_SHIFT = 0.05


def nt_xent(
    z0: Tensor, z1: Tensor, temperature: float = 0.2, gather: bool = True, chunk_size: ChunkSize = "auto"
) -> Tensor:
    r"""The normalised, temperature-scaled cross entropy of two views of N samples.

    .. math::
        L = \frac{1}{2N} \sum_{i=1}^{2N} \Big[ -\frac{s_{i,p(i)}}{T} + \ln \sum_{j \ne i} e^{s_{ij} / T} \Big],
        \qquad s_{ij} = \hat z_i \cdot \hat z_j, \quad \hat z = \frac{z}{\max(\|z\|, 10^{-6})}

    with p(i) the other view of the same sample: an anchor has one positive and 2N - 2 negatives, and itself is left
    out. See `contrastive_levels` for what a value means.

    Half precision is taken to float32 and autocast is off: 1/T above 11 overflows the exponential of float16. Products
    of float32 are as `torch.set_float32_matmul_precision` has them.

    **Several ranks.** With `gather` anchors are the rank's own 2B rows, and columns the 2 B W rows of all; row i of
    rank r is column 2 B r + i. Each rank returns the mean over its own anchors, so the mean of ranks is the loss of
    the whole batch. `gather_rows` adds up the gradients that ranks send to a row, which makes W times the gradient of
    that mean; DDP's mean over ranks divides by W. So parameters get the gradient that one process with the whole batch
    would have, and no factor is needed here. All ranks need batches of one size.

    **Accumulation** does not do this: the mean of k losses of N pairs has 2N - 2 negatives an anchor, not 2kN - 2.

    **Memory.** In blocks, only (2N, d) is kept: each block of rows finds its logarithm and its gradient in the forward
    pass and is let go. A second derivative is then refused; with ``chunk_size=None`` there are.

    Rows that are not finite make the loss so. They are not looked for, as that would wait for the device at each step.

    Args:
        z0: projections of the first views, (N, d).
        z1: of the second views, (N, d).
        temperature: T.
        gather: whether samples of other ranks are negatives too; without torch.distributed it says nothing.
        chunk_size: rows of a block; None is one matrix of all scores; ``"auto"`` blocks where that is faster.

    Returns:
        Nats, a 0-dim tensor: float32, or float64 of float64.

    Raises:
        ConfigurationError: a temperature that is not above 0, or a chunk size that is no count.
        DataError: fewer than 2 pairs, not two axes, different shapes, or ranks with batches of different sizes.

    Source: Chen et al. 2020 (arXiv:2002.05709), eq. 1.

    >>> z = torch.eye(4)
    >>> round(float(nt_xent(z, z, temperature=0.5)), 4)  # -2 + ln(e^2 + 6)
    0.5944
    """
    check_number("nt_xent", "temperature", temperature, above=0.0)
    _check_chunk("nt_xent", chunk_size)
    _check_views(z0, z1)
    with autocast_off(z0):
        u = unit_rows(torch.cat([full_precision(z0), full_precision(z1)]))
    rank, world = rank_and_world() if gather else (0, 1)
    if len(z0) * world < 2:
        raise DataError("nt_xent: 1 pair has no negatives. Give a batch of 2 pairs or more.")
    columns = gather_rows(u) if world > 1 else None
    count = len(u) * world
    rows = _block_rows(u, count) if chunk_size == "auto" else chunk_size
    with autocast_off(u):
        if rows is not None:
            # a tuple of 1: what is returned by apply is a tensor
            return _InBlocks.apply(u, columns, rank * len(u), float(temperature), rows)  # type: ignore[no-any-return, no-untyped-call]
        scaled = u / temperature
        scores = scaled @ (u if columns is None else columns).T
        _without_self(scores, rank * len(u))
        positives = (scaled[: len(z0)] * u[len(z0) :]).sum(dim=1)
        return torch.logsumexp(scores, dim=1).mean() - positives.mean()


class NTXentLoss(nn.Module):
    """`nt_xent` as a module; `temperature` is a plain attribute that a schedule may set.

    Args:
        temperature: T.
        gather: whether samples of other ranks are negatives too.
        chunk_size: rows of a block, None or ``"auto"``.

    Raises:
        ConfigurationError: an argument out of range.
    """

    def __init__(self, temperature: float = 0.2, gather: bool = True, chunk_size: ChunkSize = "auto") -> None:
        super().__init__()
        owner = type(self).__name__
        self.temperature = check_number(owner, "temperature", temperature, above=0.0)
        self.gather = check_flag(owner, "gather", gather)
        self.chunk_size = _check_chunk(owner, chunk_size)

    def forward(self, z0: Tensor, z1: Tensor) -> Tensor:
        """The loss of the views `z0` and `z1`, each (N, d)."""
        return nt_xent(z0, z1, self.temperature, self.gather, self.chunk_size)

    def extra_repr(self) -> str:
        """What `repr` shows."""
        return f"temperature={self.temperature:g}, gather={self.gather}, chunk_size={self.chunk_size!r}"


class _InBlocks(torch.autograd.Function):
    """Value and gradient of the loss, block by block; `columns` None says that they are the anchors themselves."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, columns: Tensor | None, offset: int, temperature: float, rows: int) -> Tensor:
        partner = u.roll(len(u) // 2, dims=0)
        if columns is None and temperature >= _LEAST_WITHOUT_SHIFT:
            lse, of_anchors = _of_symmetric(u, temperature, rows, ctx.needs_input_grad[0])
            of_columns = None
        else:
            others = u if columns is None else columns
            lse, of_anchors, of_columns = _of_rectangle(u, others, offset, temperature, rows, any(ctx.needs_input_grad))
            if columns is None and of_anchors is not None and of_columns is not None:
                of_anchors, of_columns = of_anchors.add_(of_columns), None
        if of_anchors is not None:
            # a positive's score has both of its rows
            of_anchors.sub_(partner, alpha=2.0).div_(len(u) * temperature)
            if of_columns is not None:
                of_columns.div_(len(u) * temperature)
        ctx.save_for_backward(of_anchors, of_columns)
        return lse.mean() - (u * partner).sum(dim=1).mean() / temperature

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        if torch.is_grad_enabled():
            # to a graph of this pass the kept gradient is a constant, and what follows from it wrong in silence
            raise ConfigurationError("nt_xent: in blocks it has no second derivatives. Set chunk_size=None for them.")
        of_anchors, of_columns = ctx.saved_tensors
        return of_anchors * gradient, None if of_columns is None else of_columns * gradient, None, None, None


def _of_rectangle(
    u: Tensor, columns: Tensor, offset: int, temperature: float, rows: int, wants_gradient: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Logarithm of each anchor's denominator, and T times the gradient of their sum by anchors and by columns."""
    lse = u.new_empty(len(u))
    of_anchors = torch.empty_like(u) if wants_gradient else None
    of_columns = torch.zeros_like(columns) if wants_gradient else None
    for begin in range(0, len(u), rows):
        block = u[begin : begin + rows]
        here = slice(begin, begin + len(block))
        scores = (block / temperature) @ columns.T
        _without_self(scores, offset + begin)
        lse[here] = torch.logsumexp(scores, dim=1)
        if of_anchors is not None and of_columns is not None:
            shares = scores.sub_(lse[here, None]).exp_()
            of_anchors[here] = shares @ columns
            of_columns.addmm_(shares.T, block)
    return lse, of_anchors, of_columns


def _of_symmetric(u: Tensor, temperature: float, rows: int, wants_gradient: bool) -> tuple[Tensor, Tensor | None]:
    r"""The same where columns are the anchors: each pair is looked at once.

    With :math:`E_{ij} = e^{s_{ij}/T}` and :math:`l_i = \sum_j E_{ij}`, row i of the gradient is
    :math:`\sum_j E_{ij} (1/l_i + 1/l_j)\, u_j`: two thirds of the products, and half of the exponentials.
    """
    starts = range(0, len(u), rows)
    total, kept = u.new_zeros(len(u)), []
    for begin in starts:
        shares = _upper(u, begin, rows, temperature)
        size = len(shares)
        total[begin : begin + size] += shares.sum(dim=1)
        total[begin + size :] += shares[:, size:].sum(dim=0)
        if wants_gradient and len(u) ** 2 <= _SCORES_KEPT:
            kept.append(shares)
    if not wants_gradient:
        return total.log(), None
    inverse, gradient = total.reciprocal(), torch.zeros_like(u)
    for i, begin in enumerate(starts):
        shares = kept[i] if kept else _upper(u, begin, rows, temperature)
        size = len(shares)
        shares *= inverse[begin : begin + size, None] + inverse[begin:]
        gradient[begin : begin + size].addmm_(shares, u[begin:])
        gradient[begin + size :].addmm_(shares[:, size:].T, u[begin : begin + size])
    return total.log_(), gradient


def _upper(u: Tensor, begin: int, rows: int, temperature: float) -> Tensor:
    """exp(s / T) of a block of rows with itself and all rows behind it; 0 of a row with itself."""
    block = u[begin : begin + rows]
    shares = ((block / temperature) @ u[begin:].T).exp_()
    shares.diagonal().fill_(0.0)
    return shares


def _without_self(scores: Tensor, offset: int) -> None:
    """Row i no longer has itself, which is column `offset` + i."""
    scores.diagonal(offset).fill_(-math.inf)


def _block_rows(u: Tensor, columns: int) -> int | None:
    if columns < _AUTO_COLUMNS:
        return None
    if u.device.type == "cpu":
        return max(32, min(_ROWS_ON_CPU, _SCORES_ON_CPU // columns))
    return max(32, _SCORES_ON_DEVICE // columns)


def _check_chunk(owner: str, chunk_size: ChunkSize) -> ChunkSize:
    if chunk_size is None or chunk_size == "auto":
        return chunk_size
    if isinstance(chunk_size, str):
        raise bad_argument(owner, "chunk_size", chunk_size, "'auto', None or an int of 1 or more")
    return check_count(owner, "chunk_size", chunk_size, 1)


def _check_views(z0: Tensor, z1: Tensor) -> None:
    if z0.dim() != 2 or z0.shape != z1.shape:
        raise DataError(
            f"nt_xent: views of shapes {tuple(z0.shape)} and {tuple(z1.shape)}. Allowed: both (N, d), row i of the "
            "one belonging to row i of the other. Flatten what has more axes."
        )
