"""How long sequences are to be that are generated."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from stablelit.errors import bad_argument
from stablelit.families.proteins.diffusion import SampleKeys
from stablelit.functional.permutation import mix
from stablelit.functional.schedules import check_count

_RANGE = re.compile(r"^\s*(\d+)\s*-\s*(\d+)\s*$")


def draw_lengths(
    n: int, seed: int, length: int | str | Sequence[int] | None, length_counts: Mapping[int, int]
) -> Tensor:
    """The lengths of n sequences, ``(n,)`` int64, the i-th by its own key.

    Args:
        n: how many.
        seed: chooses them.
        length: a number, a range ("50-80"), one for each sequence, or None: as in `length_counts`.
        length_counts: how many training sequences had each length.

    Raises:
        ConfigurationError: anything else; None where no training data are known.
    """
    allowed = "a number of residues, a range such as '50-80', one number a sequence, or none (as in training)"
    if length is None:
        if not length_counts:
            raise bad_argument("sample", "length", None, allowed, "This model has seen no training data: give one.")
        values = torch.tensor(sorted(length_counts))
        share = torch.tensor([length_counts[int(v)] for v in values], dtype=torch.float64)
        return values[_by_key(n, seed, share)]
    if isinstance(length, str):
        found = _RANGE.match(length)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise bad_argument("sample", "length", length, allowed)
        first, last = int(found[1]), int(found[2])
        return first + _by_key(n, seed, torch.ones(last - first + 1, dtype=torch.float64))
    if isinstance(length, Sequence):
        if len(length) != n or any(isinstance(one, bool) or not isinstance(one, int) or one < 1 for one in length):
            raise bad_argument("sample", "length", list(length)[:5], f"{n} whole numbers of at least 1")
        return torch.tensor(list(length))
    return torch.full((n,), check_count("sample", "length", length, 1))


def _by_key(n: int, seed: int, weights: Tensor) -> Tensor:
    """Places ``(n,)`` drawn in proportion to weights ``(K,)``, the i-th by its own key."""
    # by a seed of their own: the sampler draws from the keys of `seed`
    u = SampleKeys(torch.arange(n), seed=mix(seed, n_choices := len(weights))).uniform((n,))
    cumulative = (weights / weights.sum()).cumsum(0)
    return torch.searchsorted(cumulative, u, right=True).clamp(max=n_choices - 1)
