"""Rows of all ranks, with the gradient sent back to the rank they came from."""

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
