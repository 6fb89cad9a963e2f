"""What a data set says of itself: how many samples it has, in which chunks, and how many of them it keeps."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import IterableDataset

from stablelit.errors import ConfigurationError, bad_argument


def length_of(data_source: Any, owner: str) -> int:
    """The number of samples of a map-style data set.

    Raises:
        ConfigurationError: it has no length or no order, or no sample.
    """
    kind = type(data_source).__name__
    try:
        n = None if isinstance(data_source, IterableDataset) else len(data_source)
    except TypeError:
        n = None
    if n is None:
        raise ConfigurationError(
            f"{owner}: {kind} has no length or no order (an IterableDataset?); it can only order a map-style "
            f"data set. Shuffle inside the data set instead, and give it to torch's DataLoader."
        )
    if n < 1:
        raise ConfigurationError(f"{owner}: {kind} is empty; it needs a sample.")
    return n


def cache_size_of(data_source: Any) -> int | None:
    """The chunks that a data set keeps, of its `cache_size`; None where that is no number of chunks."""
    value = getattr(data_source, "cache_size", None)
    try:
        # an attribute that merely has this name must not stop a run
        size = 0 if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None
    return size if size > 0 else None


def chunk_sizes_of(data_source: Any, n: int, needed: bool, given: Sequence[int] | None) -> NDArray[np.int64] | None:
    """The samples in each chunk: those given, or the data set's own.

    Raises:
        ConfigurationError: those given, or needed, are not positive ints that sum to `n`; none where they are needed.
    """
    if given is not None:
        return checked_chunk_sizes(given, n)
    own = getattr(data_source, "chunk_sizes", None)
    if not needed:
        # only a description would use them: an attribute that merely has this name must not stop a run
        with contextlib.suppress(ConfigurationError):
            return None if own is None else checked_chunk_sizes(own, n)
        return None
    if own is None:
        raise ConfigurationError(
            f"ShuffleSampler: mode='block' needs chunk_sizes (samples in each file or row group, in the data's "
            f"order); none were given and {type(data_source).__name__} has no `chunk_sizes`."
        )
    return checked_chunk_sizes(own, n)


def checked_chunk_sizes(sizes: Any, n: int) -> NDArray[np.int64]:
    """The sizes as an array, shape (C,).

    Raises:
        ConfigurationError: not a flat sequence of positive ints that sum to `n`.
    """
    try:
        raw = np.asarray(sizes)
    except ValueError:  # rows of different lengths
        raw = np.empty((0, 0))
    if raw.ndim != 1 or not np.issubdtype(raw.dtype, np.integer):
        raise bad_argument("ShuffleSampler", "chunk_sizes", sizes, "a flat sequence of ints")
    if (raw < 1).any():
        at = int(np.argmax(raw < 1))
        raise bad_argument("ShuffleSampler", f"chunk_sizes[{at}]", int(raw[at]), "1 or more", "Leave out empty chunks.")
    if raw.sum() != n:
        raise ConfigurationError(
            f"ShuffleSampler: the {len(raw)} chunk_sizes sum to {int(raw.sum())}, but the data have {n} samples. "
            f"Give one size for each file or row group, in the data's order."
        )
    return raw.astype(np.int64)
