"""A network on a large batch in the memory of a small one, with the gradient of the large."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from stablelit.errors import DataError, bad_argument
from stablelit.functional.schedules import check_count

Outputs = TypeVar("Outputs", Tensor, tuple[Tensor, ...])


def chunked_forward(module: Callable[[Tensor], Outputs], x: Tensor, chunk_size: int) -> Outputs:
    r"""`module(x)`, chunk by chunk; what is inside is computed a second time where backward needs it.

    A loss that compares all rows of a batch does not add up over parts of it: gradients of micro-batches, accumulated,
    are another loss's. Here all rows are there for one loss and one backward, while activations are kept of one chunk
    at a time. It costs one more forward. Gradients are those of the whole batch, exact up to the order of sums.
    Precision scalers, clipping, hooks and DDP see an ordinary backward; random numbers (dropout) and autocast are the
    same both times. Augment before: whatever is drawn inside is drawn a chunk at a time.

    **Batch normalisation** takes its statistics of each chunk, as several devices do without synchronisation; then the
    gradient is *not* that of the whole batch (see `has_batch_norm`). Its running statistics move once a call, by its
    momentum, to the chunks' mean, and the second computation leaves them alone.

    Args:
        module: a module, or a method of one, that takes (b, ...) to rows: a tensor of b rows or a tuple of them.
        x: the batch, (B, ...).
        chunk_size: rows of a chunk at most; chunks are as even as can be.

    Returns:
        What `module(x)` would: (B, ...) or a tuple of them.

    Raises:
        ConfigurationError: a chunk size below 1, or a module that is none.
        DataError: an output that has not one row for each of its input's.

    Source: the aim and a form with two passes: Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under
    Memory Limited Setup" (arXiv:2101.06983); recomputation: Chen et al. 2016 (arXiv:1604.06174).

    Example:
        >>> network = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
        >>> chunked_forward(network, torch.zeros(10, 3), chunk_size=4).shape
        torch.Size([10, 4])
    """
    rows = check_count("chunked_forward", "chunk_size", chunk_size, 1)
    owner = module if isinstance(module, nn.Module) else getattr(module, "__self__", None)
    if not isinstance(owner, nn.Module):
        # whose batch normalisation would be computed twice, nobody could say
        raise bad_argument("chunked_forward", "module", module, "a torch.nn.Module or a method of one")
    if len(x) <= rows:
        return module(x)
    chunks = torch.tensor_split(x, -(-len(x) // rows))
    shares = [len(chunk) / len(x) for chunk in chunks]
    norms = [m for m in owner.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]
    parts = [
        _one_chunk(module, chunk, norms, share, sum(shares[i + 1 :]))
        for i, (chunk, share) in enumerate(zip(chunks, shares, strict=True))
    ]
    if isinstance(parts[0], Tensor):
        return torch.cat(parts)  # type: ignore[arg-type]
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))  # type: ignore[arg-type]


def has_batch_norm(module: nn.Module) -> bool:
    """Whether a row's output depends on the other rows of its batch, by BatchNorm or SyncBatchNorm."""
    return any(isinstance(m, _BatchNorm) for m in module.modules())


def _one_chunk(
    module: Callable[[Tensor], Outputs], chunk: Tensor, norms: list[_BatchNorm], share: float, behind: float
) -> Outputs:
    def contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        return nullcontext(), _without_tracking(norms)

    with _one_update(norms, share, behind):
        if torch.is_grad_enabled():
            part = checkpoint(module, chunk, use_reentrant=False, context_fn=contexts)
        else:
            part = module(chunk)
    for tensor in (part,) if isinstance(part, Tensor) else part:
        if tensor.dim() == 0 or len(tensor) != len(chunk):
            raise DataError(
                f"chunked_forward: {len(chunk)} rows became {tuple(tensor.shape)}. Allowed: a row for each row, since "
                "chunks are put together again."
            )
    return part  # type: ignore[no-any-return]


@contextmanager
def _one_update(norms: list[_BatchNorm], share: float, behind: float) -> Iterator[None]:
    """Momenta with which the updates of all chunks, one after another, are one by the mean of their statistics.

    A chunk's share w of the rows enters with m w, and each update behind it takes its own part away: so its momentum
    is m w over what the ones behind leave, 1 - m (sum of their shares).
    """
    before = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm, momentum, count in before:
        if momentum is None:
            # a plain mean of all steps, which torch too reads from its counter
            momentum = 1.0 / (float(count) + 1.0) if count is not None else 0.0
        norm.momentum = momentum * share / (1.0 - momentum * behind)
        norm.num_batches_tracked = None
    try:
        yield
    finally:
        for norm, momentum, count in before:
            norm.momentum, norm.num_batches_tracked = momentum, count
            if count is not None and behind == 0:
                count.add_(1)


@contextmanager
def _without_tracking(norms: list[_BatchNorm]) -> Iterator[None]:
    # not track_running_stats: as many tensors must be saved as the first time
    before = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, momentum, count in before:
            norm.momentum, norm.num_batches_tracked = momentum, count
