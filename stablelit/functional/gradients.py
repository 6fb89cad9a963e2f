"""Norms of gradients, in whole and by groups, and what a clip does with them; nothing here waits for the device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

_HALF = (torch.float16, torch.bfloat16)
# torch adds up the squares of one float32 tensor on a CPU in few accumulators: 1e-5 off at a million elements, 4e-4 at
# ten million. In rows of _ROW the error stays at 1e-8, for the same time.
_LARGE, _ROW = 1 << 14, 1 << 11
_CHUNK = 1 << 24
_PLAIN = {torch.Tensor, torch.nn.Parameter}


def total_norm(tensors: Iterable[Tensor], norm_type: float = 2.0) -> Tensor:
    r"""The norm of all tensors as if they were one vector.

    .. math:: \|g\|_p = \Big(\sum_i |g_i|^p\Big)^{1/p}

    Half precision is accumulated in float32, whose largest number is not reached where float16's is: 1e5 entries of
    300 have norm 94862, and infinity in float16.

    Args:
        tensors: of any shapes, on one device or several; sharded ones (DTensor) count whole, on every rank.
        norm_type: p, above 0; infinity is the largest magnitude.

    Returns:
        Shape (), float32 (float64 where a tensor is); 0 where there are none.
    """
    norms = tensor_norms(tensors, norm_type)
    return torch.linalg.vector_norm(norms, norm_type) if len(norms) else torch.zeros(())


def tensor_norms(tensors: Iterable[Tensor], norm_type: float = 2.0) -> Tensor:
    """The norm of each tensor, on the device of the first.

    Args:
        tensors: as for :func:`total_norm`.
        norm_type: p.

    Returns:
        Shape (number of tensors,), float32 (float64 where a tensor is).
    """
    held = list(tensors)
    if not held:
        return torch.zeros(0)
    with torch.no_grad():
        return _norms(held, norm_type)


def group_norms(tensors: Sequence[Tensor], groups: Sequence[int], n_groups: int) -> Tensor:
    """The 2-norm of each group of tensors, such as the parameters of one layer.

    Args:
        tensors: of any shapes.
        groups: for each tensor the number of its group, in [0, n_groups).
        n_groups: how many there are; one without tensors has norm 0.

    Returns:
        Shape (n_groups,), float32 (float64 where a tensor is).
    """
    norms = tensor_norms(tensors)
    if not len(norms):
        return torch.zeros(n_groups)
    # the largest is taken out, so that the squares neither overflow nor vanish
    largest = torch.nan_to_num(norms, nan=1.0, posinf=1.0).amax().clamp_min(torch.finfo(norms.dtype).tiny)
    squares = norms.new_zeros(n_groups)
    squares.index_add_(0, torch.as_tensor(groups, device=norms.device), (norms / largest).square())
    return squares.sqrt() * largest


def clip_coefficient(norm: Tensor, max_norm: float | Tensor) -> Tensor:
    r"""What a clip by norm multiplies gradients with, as torch computes it.

    .. math:: \min\Big(1, \frac{c}{\|g\| + 10^{-6}}\Big)

    Args:
        norm: before the clip, any shape.
        max_norm: c, above 0.

    Returns:
        Of the shape of `norm`; NaN where the norm is, 0 where it is infinite.
    """
    return torch.clamp(max_norm / (norm + 1e-6), max=1.0)


def share_above(tensors: Iterable[Tensor], threshold: float) -> Tensor:
    """The share of elements whose magnitude is above a threshold: what a clip by value changes.

    Args:
        tensors: of any shapes; of sharded ones this rank's part counts.
        threshold: at least 0.

    Returns:
        Shape (), in [0, 1]; a NaN is not above, and 0 is returned where there are no elements.
    """
    plain = [_local(_values(tensor.detach())) for tensor in tensors]
    elements = sum(tensor.numel() for tensor in plain)
    if elements == 0:
        return torch.zeros(())
    above: list[Tensor] = []
    for chunk in _chunks([tensor for tensor in plain if tensor.numel()]):
        beyond = torch._foreach_abs(chunk)
        torch._foreach_sub_(beyond, threshold)
        torch._foreach_sign_(beyond)
        torch._foreach_clamp_min_(beyond, 0.0)
        # ones and zeros: their sum is their 1-norm
        above.append(tensor_norms(beyond, 1.0).sum())
    return torch.stack([count.to(above[0].device, torch.float32) for count in above]).sum() / elements


def _norms(tensors: list[Tensor], norm_type: float) -> Tensor:
    device, one_kind = tensors[0].device, same_kind(tensors)
    plain = tensors if one_kind else [_values(tensor) for tensor in tensors]
    sizes = [tensor.numel() for tensor in plain]
    norms: list[Tensor | None] = [None] * len(tensors)
    together: dict[Any, list[int]] = {}
    for place, (tensor, size) in enumerate(zip(plain, sizes, strict=True)):
        mesh = None if one_kind else getattr(tensor, "device_mesh", None)
        if size == 0:
            norms[place] = torch.zeros((), dtype=_accumulate_in(tensor.dtype) or tensor.dtype, device=device)
        else:
            key = (one_kind or (tensor.device, tensor.dtype, mesh), size > _LARGE and mesh is None and tensor.is_cpu)
            together.setdefault(key, []).append(place)
    for (_, by_rows), places in together.items():
        group = [plain[place] for place in places]
        dtype = _accumulate_in(group[0].dtype)
        if by_rows:
            group = [_norms_of_rows(tensor, norm_type, dtype) for tensor in group]
        found = torch._foreach_norm(group, norm_type, dtype=dtype)
        if hasattr(found[0], "full_tensor"):  # one collective for all of them
            found = torch.stack(found).full_tensor().unbind()  # type: ignore[attr-defined]
        for place, norm in zip(places, found, strict=True):
            norms[place] = norm if norm.device == device else norm.to(device)
    return torch.stack([norm for norm in norms if norm is not None])


def same_kind(tensors: Sequence[Tensor]) -> bool:
    """Whether all are dense, plain tensors of one device and type, which one foreach call takes."""
    # asking a tensor for an attribute that only sharded ones have takes longer than asking all of them for their type
    return (
        set(map(type, tensors)) <= _PLAIN
        and len({t.dtype for t in tensors}) == 1
        and len({t.get_device() for t in tensors}) == 1
        and not any(t.is_sparse for t in tensors)
    )


def _norms_of_rows(tensor: Tensor, norm_type: float, dtype: torch.dtype | None) -> Tensor:
    flat = tensor.reshape(-1)
    rest = flat.numel() % _ROW
    whole = flat if rest == 0 else flat[:-rest]
    rows: Tensor = torch.linalg.vector_norm(whole.view(-1, _ROW), norm_type, dim=1, dtype=dtype)
    if rest == 0:
        return rows
    return torch.cat([rows, torch.linalg.vector_norm(flat[-rest:], norm_type, dtype=dtype).view(1)])


def _accumulate_in(dtype: torch.dtype) -> torch.dtype | None:
    return torch.float32 if dtype in _HALF else None


def _values(tensor: Tensor) -> Tensor:
    """A sparse gradient's values, which are all that is not zero."""
    return torch.Tensor.values(tensor.coalesce()) if tensor.layout == torch.sparse_coo else tensor


def _local(tensor: Tensor) -> Tensor:
    local: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return local


def _chunks(tensors: list[Tensor]) -> Iterable[list[Tensor]]:
    """Lists of one device and type, small enough that a copy of one costs little memory."""
    running: dict[tuple[torch.device, torch.dtype], tuple[list[Tensor], int]] = {}
    for tensor in tensors:
        key = (tensor.device, tensor.dtype)
        chunk, size = running.get(key, ([], 0))
        if chunk and size + tensor.numel() > _CHUNK:
            yield chunk
            chunk, size = [], 0
        running[key] = ([*chunk, tensor], size + tensor.numel())
    yield from (chunk for chunk, _ in running.values())
