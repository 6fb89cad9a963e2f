"""Data without the samples that an earlier run skipped."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from stablelit.errors import DataError
from stablelit.run_files import from_json

SKIPPED_FILE = "skipped.jsonl"
_OWNER = "leave_out"


@dataclass(frozen=True)
class SkippedBatch:
    """One rank's batch of a step that NonFiniteGuard skipped: a line of `skipped.jsonl`.

    Args:
        epoch: in which it was met.
        batch: its number in the epoch.
        step: optimizer steps before it.
        rank: whose batch.
        reason: in words.
        quantity: what was not finite: `loss`, `gradient` or `buffer`.
        guilty: whether it was this batch; a step also takes with it the batches of other ranks, and those that were
            accumulated. Where nobody can tell it is true of all.
        ids: of its samples; empty where nobody knows them.
        culprits: of those, the samples that hold values which are not finite.
    """

    epoch: int
    batch: int
    step: int
    rank: int
    reason: str
    quantity: str
    guilty: bool
    ids: tuple[int, ...] = ()
    culprits: tuple[int, ...] = ()

    def line(self) -> str:
        """As a line of JSON."""
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def parse(cls, text: str) -> SkippedBatch:
        """From a line of JSON.

        Raises:
            ValueError: not JSON, or without a field, or with something else than sample numbers.
        """
        plain = from_json(text)
        if not isinstance(plain, dict):
            raise ValueError("not an object")
        try:
            for name in ("ids", "culprits"):
                plain[name] = tuple(plain[name])
                if any(isinstance(i, bool) or not isinstance(i, int) or i < 0 for i in plain[name]):
                    raise ValueError(f"{name} holds something else than numbers of samples")
            return cls(**plain)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not what a skipped batch has: {error}") from error


def read_skipped(path: str | Path) -> list[SkippedBatch]:
    """The lines of a `skipped.jsonl`, or of the one in a run directory.

    Raises:
        DataError: no such file, or a line that is not one of its lines; the message has file and line number.
    """
    file = Path(path)
    file = file / SKIPPED_FILE if file.is_dir() else file
    if not file.is_file():
        raise DataError(f"{file}: there is no list of skipped batches here. NonFiniteGuard writes one when it skips.")
    lines = []
    for number, text in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        try:
            lines.append(SkippedBatch.parse(text))
        except ValueError as error:
            raise DataError(f"{file}:{number}: not a skipped batch: {error}. Mend or delete the line.") from error
    return lines


class LeftOut(Dataset[Any]):
    """A data set without some of its samples; the others keep their order and their chunks.

    Args:
        dataset: a map-style data set.
        ids: the samples that are left out, ascending, each once.
    """

    def __init__(self, dataset: Any, ids: NDArray[np.int64]) -> None:
        self.dataset = dataset
        self.left_out = ids
        # of the k-th one left out, the number of samples kept before it
        self._kept_before = ids - np.arange(len(ids))
        for name in ("cache_size", "chunk_sizes", "lengths"):
            if getattr(dataset, name, None) is not None:
                setattr(self, name, getattr(self, f"_{name}")())

    def __len__(self) -> int:
        return len(self.dataset) - len(self.left_out)

    def __getitem__(self, index: int) -> Any:
        if not -len(self) <= index < len(self):
            raise IndexError(f"{index} of {len(self)} samples")
        return self.dataset[int(self.original([index % len(self)])[0])]

    def __getitems__(self, indices: list[int]) -> Any:
        several = self.original(indices).tolist()
        together = getattr(self.dataset, "__getitems__", None)
        return together(several) if callable(together) else [self.dataset[index] for index in several]

    def original(self, indices: Sequence[int] | NDArray[Any] | range) -> NDArray[np.int64]:
        """The numbers that samples of this data set have in the one behind it."""
        kept = np.asarray(indices, dtype=np.int64)
        return kept + np.searchsorted(self._kept_before, kept, side="right")

    @property
    def chunk_loads(self) -> int:
        """Chunks that the data set behind has loaded, where it counts them."""
        return int(self.dataset.chunk_loads)

    def _cache_size(self) -> int:
        return int(self.dataset.cache_size)

    def _chunk_sizes(self) -> list[int]:
        sizes = np.asarray(self.dataset.chunk_sizes, dtype=np.int64)
        chunk = np.searchsorted(np.cumsum(sizes), self.left_out, side="right")
        left = sizes - np.bincount(chunk, minlength=len(sizes))
        return left[left > 0].tolist()  # type: ignore[no-any-return]

    def _lengths(self) -> NDArray[Any]:
        return np.delete(np.asarray(self.dataset.lengths), self.left_out)


def leave_out(dataset: Any, skipped: str | Path | Iterable[int], only_culprits: bool = True) -> LeftOut:
    """A data set without the samples that an earlier run skipped, or without those named.

    It keeps what a sampler and a loader of this suite ask of a data set: `chunk_sizes` (of chunks of which something is
    left), `cache_size`, `lengths` and `__getitems__`, where the data set has them. NonFiniteGuard writes down the
    samples' numbers in the data set *behind* it, so that the lists of one run after the other may be put together.

    Args:
        dataset: a map-style data set, the same that the earlier run was trained on.
        skipped: a `skipped.jsonl`, a run directory with one, or numbers of samples.
        only_culprits: of a file, take only samples that were found to hold values which are not finite; False takes
            the whole batch where no sample was singled out.

    Raises:
        DataError: a file that cannot be used, a number of a sample that is not there, or nothing left.

    Example:
        >>> kept = leave_out(["a", "b", "c", "d"], [1])
        >>> [kept[i] for i in range(len(kept))]
        ['a', 'c', 'd']
    """
    n = len(dataset)
    if isinstance(skipped, str | Path):
        where, ids = str(skipped), _from_file(skipped, only_culprits)
    else:
        where, ids = "the given ids", list(skipped)
    for index in ids:
        if isinstance(index, bool) or not isinstance(index, int | np.integer) or not 0 <= index < n:
            raise DataError(
                f"{_OWNER}: {where}: there is no sample {index!r} among {n} (allowed: 0 to {n - 1}). Is it the list of "
                f"a run on other data, or on another split of them?"
            )
    chosen = np.unique(np.asarray(ids, dtype=np.int64))
    if len(chosen) == n:
        raise DataError(f"{_OWNER}: {where}: all {n} samples would be left out, and none is left to train on.")
    return LeftOut(dataset, chosen)


def _from_file(path: str | Path, only_culprits: bool) -> list[int]:
    batches = [batch for batch in read_skipped(path) if batch.guilty]
    silent = [b for b in batches if not b.culprits and (only_culprits or not b.ids)]
    if silent:
        why = "no single sample was found to blame" if only_culprits else "their samples are not known"
        way = " only_culprits=False leaves out whole batches." if only_culprits and any(b.ids for b in silent) else ""
        warnings.warn(
            f"{_OWNER}: {path}: of {len(batches)} batches {len(silent)} stay in, since {why}.{way}", stacklevel=3
        )
    return [i for batch in batches for i in batch.culprits or (() if only_culprits else batch.ids)]
