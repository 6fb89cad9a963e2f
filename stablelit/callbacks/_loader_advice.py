"""What to change about a loader that a run waits for."""

from __future__ import annotations

import os
from typing import Any

from torch.utils.data import IterableDataset, Subset

# a worker hands a batch over in about a millisecond: where reading one takes less, workers make it slower. Where there
# are workers the wait is not the time of reading, and a few milliseconds may be nothing but their handing over.
CHEAP_BATCH_S, CHEAP_WITH_WORKERS_S = 1e-3, 5e-3
_FEW = 4
_AT_ONCE = "one vectorised read a batch (__getitems__ that slices arrays) instead of one a sample"


def loader_hint(trainer: Any, seconds_per_batch: float) -> str:
    """The settings to try where the loader is what a run waits for, the most promising first.

    Args:
        trainer: in whose fit it was seen.
        seconds_per_batch: waited, on average.
    """
    cores = cores_per_rank(trainer)
    hints: list[str] = []
    for loader in trainer.fit_loop._combined_loader.flattened:
        workers = getattr(loader, "num_workers", None)
        cheap = seconds_per_batch < (CHEAP_WITH_WORKERS_S if workers else CHEAP_BATCH_S)
        hints += _of_workers(workers, cores, cheap)
        source = getattr(loader, "dataset", None)
        if hasattr(source, "chunk_sizes"):
            hints.append("a cache that holds all chunks, or ShuffleSampler(mode='block') with a window that it holds")
        if not _reads_batches(loader):
            hints.insert(
                0 if cheap else len(hints),
                "one vectorised read a batch (__getitems__ that slices arrays) instead of one a sample",
            )
    return "; ".join(dict.fromkeys(hints)) or "data that take less work to read: decoded and stored as arrays"


def cores_per_rank(trainer: Any) -> int:
    """The cores that this process may use, shared among the ranks of its machine."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        cores = os.cpu_count() or 1
    return cores // max(1, int(getattr(trainer, "num_devices", 1)))


def _of_workers(workers: int | None, cores: int, cheap: bool) -> list[str]:
    if workers is None:
        return []
    if workers > max(cores, 1):
        return [f"num_workers={max(cores, 1)}: {workers} workers share {cores or 'less than 1'} cores of this rank"]
    if workers == 0:
        # with one core there is nobody to run beside the training
        settings = f"DataLoader(num_workers={min(_FEW, cores)}, persistent_workers=True)"
        return [settings] if cores > 1 and not cheap else []
    compare = ["num_workers=0, to compare: it waits little longer than a worker takes to hand a batch over"]
    more = [f"num_workers={min(2 * workers, cores)} instead of {workers}"] if workers < cores else []
    return [*(compare if cheap else []), *more, "a larger prefetch_factor"]


def _reads_batches(loader: Any) -> bool:
    source = getattr(loader, "dataset", None)
    while isinstance(source, Subset):  # it has the method and asks its data set
        source = source.dataset
    unbatched = getattr(loader, "batch_size", None) is None and getattr(loader, "batch_sampler", None) is None
    return hasattr(source, "__getitems__") or isinstance(source, IterableDataset) or unbatched
