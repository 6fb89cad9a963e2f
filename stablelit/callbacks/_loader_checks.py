"""What can be said of a train loader's shuffling by looking at it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, SequentialSampler, Subset

from stablelit.callbacks._loader_position import global_batch, innermost_sampler
from stablelit.data._chunk_sizes import cache_size_of
from stablelit.data.evaluation_batches import EvaluationBatches
from stablelit.data.shuffle import ShuffleSampler
from stablelit.findings import Finding


def check_loader(trainer: Any, loader: Any, expect_shuffle: bool) -> Iterator[Finding]:
    """The findings about one train loader; nothing of it is read or changed."""
    if not isinstance(loader, DataLoader):
        return
    if expect_shuffle and is_shuffled(loader) is False:
        yield Finding(
            "train-not-shuffled",
            "warning",
            f"the train loader reads {_size(loader)} samples in the same order in every epoch "
            f"({type(innermost_sampler(loader)).__name__}).",
            {"sampler": type(innermost_sampler(loader)).__name__},
            "DataLoader(shuffle=True), or sampler=ShuffleSampler(dataset); ShuffleCallback(expect_shuffle=False) if it "
            "is meant so",
        )
    yield from _replaced(trainer, loader)
    yield from _storage(trainer, loader)


def check_evaluation(trainer: Any, loaders: list[Any]) -> Iterator[Finding]:
    """What is evaluated twice, because ranks do not divide the number of samples."""
    for loader in loaders:
        sampler, batches = innermost_sampler(loader), getattr(loader, "batch_sampler", None)
        once = isinstance(batches, EvaluationBatches) or getattr(batches, "every_sample_once", False)
        if once or not isinstance(sampler, DistributedSampler):
            continue
        n = len(sampler.dataset)  # type: ignore[arg-type]
        repeated = sampler.total_size - n
        # a single one, such as all rows in a batch, is the same on every rank and so is its mean
        if repeated > 0 and n > 1:
            yield Finding(
                "evaluation-repeats-samples",
                "warning",
                f"{repeated} of {n} samples are evaluated twice, because {sampler.num_replicas} ranks do not divide "
                f"their number: metrics are not those of one process.",
                {"repeated": repeated, "samples": n, "ranks": sampler.num_replicas},
                "ShuffleDataLoader(dataset, batch_sampler=EvaluationBatches(ShuffleSampler(dataset, "
                "mode='sequential'), batch_size)) in val_dataloader and test_dataloader; or one device",
            )


def is_shuffled(loader: Any) -> bool | None:
    """Whether an epoch's order is not that of the data; None where nobody can tell."""
    sampler = innermost_sampler(loader)
    if type(sampler).__name__ == "DistributedSamplerWrapper":
        sampler = getattr(sampler.dataset, "_sampler", None)
    if isinstance(sampler, SequentialSampler):
        # a batch sampler of another kind may shuffle by itself
        return None if type(loader.batch_sampler) not in (BatchSampler, type(None)) else False
    if isinstance(sampler, DistributedSampler):
        return bool(sampler.shuffle)
    return True if hasattr(sampler, "generator") else None


def order_description(trainer: Any, loader: Any) -> dict[str, float]:
    """What a ShuffleSampler over chunks costs, under the names that are logged; empty where there is no such thing."""
    sampler = innermost_sampler(loader)
    if not isinstance(sampler, ShuffleSampler) or sampler.chunk_sizes is None:
        return {}
    described = sampler.describe(batch_size=max(1, global_batch(loader, trainer.world_size)))
    values = {"same_chunk_ratio": described.same_chunk_ratio, "design_effect": described.design_effect}
    return {f"shuffle/{name}": float(value) for name, value in values.items() if value is not None}


def _replaced(trainer: Any, loader: Any) -> Iterator[Finding]:
    sampler, batch_sampler = innermost_sampler(loader), getattr(loader, "batch_sampler", None)
    message = ""
    if type(sampler).__name__ == "DistributedSamplerWrapper":
        inner = type(getattr(sampler.dataset, "_sampler", None)).__name__
        message = (
            f"Lightning has wrapped the {inner} for several ranks: its order is shuffled once more "
            f"and held in memory as a whole on every rank."
        )
    elif (
        trainer.world_size > 1
        and trainer._accelerator_connector.use_distributed_sampler
        and type(batch_sampler) not in (BatchSampler, type(None))
        and type(sampler) is DistributedSampler
        # where the loader has a DistributedSampler of its own Lightning leaves the batch sampler alone
        and not isinstance(loader.sampler, DistributedSampler)
    ):
        message = f"Lightning has put a DistributedSampler of its own into the {type(batch_sampler).__name__}."
    if message:
        yield Finding(
            "sampler-replaced",
            "warning",
            message,
            {"ranks": trainer.world_size},
            "derive the sampler from torch's DistributedSampler, as ShuffleSampler does; "
            "or Trainer(use_distributed_sampler=False)",
        )


def _storage(trainer: Any, loader: Any) -> Iterator[Finding]:
    source, permuted = loader.dataset, False
    while isinstance(source, Subset):
        permuted = permuted or bool(np.any(np.diff(np.asarray(source.indices)) < 0))
        source = source.dataset
    cached = cache_size_of(source)
    if cached is None or getattr(source, "chunk_sizes", None) is None:
        return
    batch = max(1, int(getattr(loader, "batch_size", None) or 1))
    sampler = innermost_sampler(loader)
    ours = isinstance(sampler, ShuffleSampler) and not permuted and sampler.chunk_sizes is not None
    at_random = permuted or is_shuffled(loader) is not False
    if not ours and not at_random:
        return
    order = sampler if ours else ShuffleSampler(source)
    described = order.describe(batch_size=batch, cache_size=cached)
    if described.cache_holds_window is not False:
        return
    name, why = "cache-below-window", f"the {described.mode} order reads {described.chunks_mixed} chunks at a time"
    if permuted:
        name = "subset-read-at-random"
        why = f"a Subset with permuted indices (random_split) reads all {described.chunks_mixed} chunks at random"
    yield Finding(
        name,
        "warning",
        f"{why}, and the data set keeps {cached}: about {described.loads_per_batch:.0f} chunks are loaded for every "
        f"batch of {batch}.",
        {
            "chunks_mixed": described.chunks_mixed,
            "cache_size": cached,
            "loads_per_batch": round(float(described.loads_per_batch or 0.0), 2),
        },
        (
            "split by whole chunks, with each part's indices in ascending order; or "
            if permuted
            else f"ShuffleSampler(mode='block', window_chunks={cached}); or "
        )
        + f"cache_size={described.chunks_mixed}",
    )


def _size(loader: Any) -> int | str:
    try:
        return len(loader.dataset)
    except TypeError:
        return "all"
