"""The numbers of one look at a contrastive run, read from the device together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from stablelit.callbacks._batch import tensors_of
from stablelit.callbacks._contrastive_reader import Pairs
from stablelit.functional import embeddings

_PICTURES = 32
_PAGES = (torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64)


def measure(
    collected: Sequence[Pairs],
    seen: Tensor | None,
    page: Tensor | None,
    max_rows: int,
    rank_rows: int,
    with_rank: bool = True,
    with_agreement: bool = True,
) -> dict[str, Any]:
    """The geometry of the last of the collected batches, and rank and agreement over all; waits for the device.

    The rank wants more rows than a small batch has. Those of the few steps before are taken, and not those of the whole
    run: embeddings of several networks have more directions together than any of them.

    Args:
        collected: oldest first, at least one.
        seen: the encoder's input; None where it is not known.
        page: the batch before augmentation; likewise.
        max_rows: of both views together, that are compared with each other.
        rank_rows: most rows for the rank.
        with_rank: whether to take it, which costs as much as all else.
        with_agreement: whether to take it, which tells causes of a loss at chance apart and nothing else.

    Returns:
        Plain numbers by the names of :class:`stablelit.functional.contrastive_health.ContrastiveHealth`.
    """
    last = collected[-1]
    numbers: dict[str, Tensor] = {}
    # an eigenvalue solver raises at what is not finite
    z = torch.cat([_thinned(z, max_rows // 2) for z in (last.z0, last.z1)]).float().nan_to_num()
    numbers.update(embeddings.pair_geometry(z))
    numbers["align"] = 2.0 - 2.0 * numbers["pos_cos"]  # of rows of length 1
    numbers["least_z"] = z.min()
    n_rows = 0
    if with_rank:
        rows = torch.cat([_interleaved(pairs) for pairs in reversed(collected)])[:rank_rows].float().nan_to_num()
        numbers["rankme"], n_rows = embeddings.rankme(embeddings.unit_rows(rows)), len(rows)
    if with_agreement:
        numbers["agreement"] = torch.stack([_agreement(pairs, max_rows) for pairs in collected]).mean()
    # the sum of a batch is finite where all of it is
    sums = torch.stack([z.sum(dtype=torch.float32) for pairs in collected for z in (pairs.z0, pairs.z1)])
    numbers["all_finite"] = sums.isfinite().all()
    if last.h is not None:
        h = _thinned(last.h, max(max_rows // 2, 2)).float().nan_to_num()
        numbers["h_std_ratio"], numbers["dead_frac"] = embeddings.std_ratio(h), embeddings.dead_fraction(h)
    numbers.update(_page_numbers(seen, page))
    names, values = list(numbers), torch.stack([value.float() for value in numbers.values()]).tolist()
    found: dict[str, Any] = dict(zip(names, values, strict=True))
    dim = last.z0.shape[1]
    found["bad_rows"] = 0.0 if found.pop("all_finite") else float(_bad_rows(collected))
    if with_rank:
        found |= {"rankme_frac": found["rankme"] / min(n_rows, dim), "rank_rows": n_rows}
    return {**found, "dim": dim}


def pages_of(batch: Any) -> Tensor | None:
    """The first tensor of a batch that may be pictures or rows of features."""
    return next((t for t in tensors_of(batch) if t.dim() >= 2 and t.dtype in _PAGES), None)


def spread(pairs: Pairs) -> float:
    """`std_ratio` of a batch; waits for the device."""
    return float(embeddings.std_ratio(torch.cat([pairs.z0, pairs.z1]).float()))


def _page_numbers(seen: Tensor | None, page: Tensor | None) -> dict[str, Tensor]:
    """Range and spread of what the encoder sees, and the spread of the batch; one stands for the other."""
    page = seen if page is None else page
    seen = page if seen is None else seen
    if seen is None or page is None or min(len(seen), len(page)) < 2:
        return {}
    seen, page = (_thinned(rows, _PICTURES).float() for rows in (seen, page))
    least, largest = seen.aminmax()
    found = {"input_min": least, "input_max": largest, "input_std": _spread(seen)}
    return {**found, "page_std": found["input_std"] if page is seen else _spread(page)}


def _spread(rows: Tensor) -> Tensor:
    # about the first row, so that blank pages have exactly none; `std` along the first axis takes five times as long
    about = rows - rows[0]
    return (about.square().mean(dim=0) - about.mean(dim=0).square()).clamp_min(0.0).sqrt().mean()


def _agreement(pairs: Pairs, max_rows: int) -> Tensor:
    """Mean cosine of positives once the common mean is taken away, of the features where they are there.

    Those have more directions than the embeddings of a narrow cone, so that chance moves it less.
    """
    h = pairs.h
    both = h.chunk(2) if h is not None and len(h) == 2 * len(pairs.z0) else (pairs.z0, pairs.z1)
    first, second = (embeddings.unit_rows(_thinned(v, max_rows // 2).float().nan_to_num()) for v in both)
    mean = 0.5 * (first.mean(dim=0) + second.mean(dim=0))
    first, second = first - mean, second - mean
    size = first.norm(dim=1) * second.norm(dim=1)
    # what rounding leaves of one point is no direction
    known = size > 1e-10
    cosine = (first * second).sum(dim=1) / size.clamp_min(torch.finfo(size.dtype).tiny)
    return torch.where(known.any(), (cosine * known).sum() / known.sum().clamp_min(1), math.nan)


def _bad_rows(collected: Sequence[Pairs]) -> Tensor:
    # the sum of a row is finite where all of it is
    sums = torch.cat([z.sum(dim=1, dtype=torch.float32) for pairs in collected for z in (pairs.z0, pairs.z1)])
    return 1.0 - sums.isfinite().float().mean()


def _interleaved(pairs: Pairs) -> Tensor:
    return torch.stack([pairs.z0, pairs.z1], dim=1).flatten(0, 1)


def _thinned(rows: Tensor, most: int) -> Tensor:
    """At most so many rows, spread over all: a batch may be ordered by class, or by view."""
    stride = math.ceil(len(rows) / most)
    return rows if stride <= 1 else rows[::stride]
