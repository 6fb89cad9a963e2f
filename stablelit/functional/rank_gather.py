"""What ranks have together: rows and sums, with the gradient sent back to where they came from, and counts."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from stablelit.errors import DataError

_sizes_agreed: set[Any] = set()


def rank_and_world() -> tuple[int, int]:
    """This process's number and how many there are; 0 of 1 without torch.distributed."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def gather_rows(rows: Tensor) -> Tensor:
    r"""Rows of every rank, in order of rank: (B, d) becomes (W B, d).

    Backward adds up what all ranks send to a row, :math:`\sum_r \partial L_r / \partial z`. If each rank's loss is the
    mean over its own rows, that is W times the gradient of the mean over all; the mean that DDP takes of parameters'
    gradients divides by W, and the two cancel. Nothing else needs a factor.

    Every rank must call it, forward and backward, with the same number of rows. On the CPU this is checked at every
    call; on a device at the first, since it would have to be waited for.

    Args:
        rows: (B, d).

    Raises:
        DataError: ranks have different numbers of rows.
    """
    world = rank_and_world()[1]
    if world == 1:
        return rows
    _check_sizes(rows, world)
    return _GatherRows.apply(rows)  # type: ignore[no-any-return, no-untyped-call]


def sum_over_ranks(part: Tensor) -> Tensor:
    r"""The sum of every rank's tensor, such as a sum over its rows; any shape, the same on all ranks.

    Backward adds up what all ranks send, :math:`\sum_r \partial L_r / \partial S`, which is that of `gather_rows`: if
    every rank's loss is the loss of all rows, the mean that DDP takes of parameters' gradients is its gradient.

    Every rank must call it, forward and backward.
    """
    if rank_and_world()[1] == 1:
        return part
    return _SumOverRanks.apply(part)  # type: ignore[no-any-return, no-untyped-call]


def mean_over_ranks(count: Tensor) -> Tensor:
    r"""How many of something this rank has, or where there are several ranks the mean of theirs, float32; 0-dim.

    What a sum of losses is to be divided by: DDP takes the mean of gradients over W ranks, and

    .. math:: \frac{1}{W} \sum_r \frac{\sum_i L_{ri}}{\bar n} = \frac{\sum_{ri} L_{ri}}{\sum_r n_r}, \qquad
              \bar n = \frac{1}{W} \sum_r n_r.

    Divided by each rank's own number, what a rank has few of would weigh more. Every rank must call it.

    Args:
        count: 0-dim; without a gradient.
    """
    world = rank_and_world()[1]
    if world == 1:
        return count
    mean = count.detach().to(torch.float32, copy=True)
    dist.all_reduce(mean)
    return mean / world


class _SumOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        del ctx
        total = part.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        del ctx
        # a copy: autograd may hand the same tensor to somebody else
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        rank, world = rank_and_world()
        ctx.rank, ctx.rows = rank, len(rows)
        whole = rows.new_empty((world * len(rows), *rows.shape[1:]))
        dist.all_gather(list(whole.chunk(world)), rows.contiguous())
        return whole

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        # a copy: autograd may hand the same tensor to somebody else
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total[ctx.rank * ctx.rows : (ctx.rank + 1) * ctx.rows]


def _check_sizes(rows: Tensor, world: int) -> None:
    group = dist.group.WORLD
    on_host = rows.device.type == "cpu"
    if not on_host and group in _sizes_agreed:
        return
    own = torch.tensor([len(rows)], device=rows.device)
    all_sizes = own.new_empty(world)
    dist.all_gather(list(all_sizes.chunk(world)), own)
    sizes = all_sizes.tolist()
    if min(sizes) != max(sizes):
        raise DataError(
            f"Ranks have different numbers of rows to gather: {sizes}. Give every rank batches of one size "
            "(drop_last=True, or a sampler that pads), or do not gather (gather=False)."
        )
    if not on_host:
        _sizes_agreed.add(group)
