"""Puts the loaders of a resumed run where the run stopped. What it touches in Lightning is named where it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset

from stablelit.data.shuffle import ShuffleSampler
from stablelit.errors import ConfigurationError
from stablelit.functional.permutation import mix


def train_loaders(trainer: Any) -> list[Any]:
    """The train loaders as Lightning uses them, ranks' samplers and all."""
    combined = trainer.fit_loop._combined_loader
    return [] if combined is None else list(combined.flattened)


def evaluation_loaders(trainer: Any) -> list[Any]:
    """Those of the validation or the test that is running, likewise."""
    combined = trainer._evaluation_loop._combined_loader
    return [] if combined is None else list(combined.flattened)


def keeps_its_own_place(loader: Any) -> bool:
    """Whether Lightning saves and restores the loader's state, as it does with a ShuffleDataLoader's."""
    return callable(getattr(loader, "state_dict", None)) and callable(getattr(loader, "load_state_dict", None))


def is_plain(loader: Any) -> bool:
    """Whether it is a DataLoader over samples with numbers, whose place is ours to keep."""
    if not isinstance(loader, DataLoader) or keeps_its_own_place(loader):
        return False
    # of an unknown number of batches Lightning has fetched the first already
    return not isinstance(loader.dataset, IterableDataset) and _has_a_length(loader)


def _has_a_length(loader: Any) -> bool:
    try:
        return len(loader) >= 0
    except TypeError:
        return False


def innermost_sampler(loader: Any) -> Any:
    """What gives the samples' numbers, under as many batch samplers as there are."""
    sampler: Any = getattr(loader, "batch_sampler", None)
    if sampler is None:
        sampler = getattr(loader, "sampler", None)
    while hasattr(sampler, "sampler"):
        sampler = sampler.sampler
    return sampler


def global_batch(loader: Any, world_size: int) -> int:
    """Samples of a batch of all ranks; 0 where it varies, or nobody says."""
    return _batch_of_a_rank(loader) * world_size


def _batch_of_a_rank(loader: Any) -> int:
    # a loader of batches knows no size of its own: the batch sampler has it, or a sampler that yields lists
    makes_batches = loader.sampler if loader.batch_sampler is None else loader.batch_sampler
    size = loader.batch_size or getattr(makes_batches, "batch_size", None)
    return size if isinstance(size, int) else 0


def batching(loader: Any, world_size: int) -> dict[str, Any]:
    """What a number of batches depends on, as plain data."""
    about: dict[str, Any] = {
        "samples": len(loader.dataset),
        "global_batch": global_batch(loader, world_size),
        "batches": len(loader),
    }
    if callable(settings := getattr(loader.batch_sampler, "settings", None)):
        about["planned"] = settings()
    return about


def epoch_to_train(trainer: Any) -> int:
    """The epoch of which Lightning tells the samplers."""
    return int(trainer.fit_loop.epoch_progress.current.processed)


def resumed_at(trainer: Any) -> tuple[int, int] | None:
    """The epoch that a resumed run goes on with and its batches already trained on; None for a new run."""
    loop = trainer.fit_loop
    if not loop.is_resuming:
        return None
    # with reload_dataloaders_every_n_epochs Lightning would build loaders anew that it has built a moment ago
    loop._last_train_dl_reload_epoch = trainer.current_epoch
    epochs, batches = loop.epoch_progress.current, loop.epoch_loop.batch_progress
    # not by how many batches there are now: of larger ones there are fewer, and the place is to be refused
    inside = epochs.processed < epochs.started and not batches.is_last_batch
    return epoch_to_train(trainer), int(batches.current.ready) if inside else 0


def load_pending_states(trainer: Any) -> bool:
    """Gives the loaders the states that Lightning has read and not handed on; returns whether there were any.

    Whoever asks for `estimated_stepping_batches` in `configure_optimizers` makes Lightning build the train loaders
    before it reads the checkpoint's loops, and it hands states on only while it builds (2.6.6, `FitLoop.setup_data`).
    """
    loop = trainer.fit_loop
    if not loop.restarting or not loop._combined_loader_states_to_load:
        return False
    loop._load_combined_loader_states()
    for index, loader in enumerate(train_loaders(trainer)):
        if keeps_its_own_place(loader):
            _iterate_anew(trainer, index, loader)
    return True


def own_generator(loader: Any, seed: int, rank: int, epoch: int) -> bool:
    """Makes a sampler that draws (RandomSampler and its like) a function of these numbers; says whether it draws."""
    sampler = innermost_sampler(loader)
    if not hasattr(sampler, "generator"):
        return False
    # a new one: an iteration that runs keeps the one that it has
    sampler.generator = torch.Generator().manual_seed(mix(mix(seed, rank), epoch))
    return True


def set_epoch(loader: Any, epoch: int) -> bool:
    """Tells whatever orders the samples which epoch it is; says whether anything wanted to know."""
    batch_sampler = getattr(loader, "batch_sampler", None)
    found: list[Any] = [getattr(loader, "sampler", None), batch_sampler, innermost_sampler(loader)]
    takers = {id(s): s for s in found if callable(getattr(s, "set_epoch", None))}.values()
    for taker in takers:
        taker.set_epoch(epoch)
    return bool(takers)


def begin_at(trainer: Any, index: int, loader: Any, batches: int, prepare: Callable[[], object] | None = None) -> None:
    """Makes the loader's running iteration one that begins behind so many batches, without reading them.

    `prepare` is called when an iteration really begins, at its first batch: a sampler that draws would give another
    order if somebody had looked at the loader in between.
    """
    name = "sampler" if loader.batch_sampler is None else "batch_sampler"
    sampler = getattr(loader, name)
    inner = innermost_sampler(loader)
    first = None
    if batches and isinstance(inner, ShuffleSampler) and isinstance(sampler, BatchSampler) and loader.batch_size:
        first, batches = partial(setattr, inner, "start", batches * loader.batch_size), 0
    # a DataLoader guards these attributes; an iterator takes its own reference to what stands there
    changed = batches or prepare or first
    object.__setattr__(loader, name, _Behind(sampler, batches, prepare, first) if changed else sampler)
    try:
        _iterate_anew(trainer, index, loader)
    finally:
        object.__setattr__(loader, name, sampler)


def check_same_data(loader: Any, saved: dict[str, Any], world_size: int) -> None:
    """A place inside an epoch holds for the same samples in the same batches only.

    Raises:
        ConfigurationError: another number of samples, another global batch, or batches that are planned otherwise; both
            values are named.
    """
    samples, batch = len(loader.dataset), global_batch(loader, world_size)
    if saved["samples"] != samples:
        raise ConfigurationError(
            f"ShuffleCallback: the checkpoint lies inside an epoch over {saved['samples']} samples, the data now have "
            f"{samples}. Resume with the same data, or from a checkpoint made at the end of an epoch."
        )
    if saved["global_batch"] != batch:
        raise ConfigurationError(
            f"ShuffleCallback: the checkpoint lies inside an epoch of global batches of {saved['global_batch']} "
            f"samples, they now have {batch} ({_batch_of_a_rank(loader)} on each of {world_size} ranks). Resume with "
            f"the same global batch, or from a checkpoint made at the end of an epoch."
        )
    mismatch = getattr(loader.batch_sampler, "mismatch", None)
    if callable(mismatch) and saved.get("planned") and (other := mismatch(saved["planned"])):
        raise ConfigurationError(f"ShuffleCallback: {other} {_AT_AN_EPOCHS_END}")
    if not batch and saved.get("batches", len(loader)) != len(loader):
        raise ConfigurationError(
            f"ShuffleCallback: the checkpoint lies inside an epoch of {saved['batches']} batches, it now has "
            f"{len(loader)}. {_AT_AN_EPOCHS_END}"
        )


_AT_AN_EPOCHS_END = "Resume with the same batches, or from a checkpoint made at the end of an epoch."


class _Behind:
    """A sampler of which the first iteration that is begun leaves out its beginning."""

    def __init__(
        self, sampler: Any, skip: int, prepare: Callable[[], object] | None, first: Callable[[], object] | None
    ) -> None:
        self._sampler, self._skip, self._prepare, self._first = sampler, skip, prepare, first

    def __iter__(self) -> Iterator[Any]:
        # a generator: a DataLoader with workers makes two iterators as it begins, and uses the second
        skip, self._skip = self._skip, 0
        first, self._first = self._first, None
        # persistent workers come here in every epoch: `prepare` holds for all of them, `first` for this one
        for due in (self._prepare, first):
            if due is not None:
                due()
        yield from islice(self._sampler, skip, None)

    def __len__(self) -> int:
        return len(self._sampler)


def _iterate_anew(trainer: Any, index: int, loader: Any) -> None:
    if getattr(loader, "_iterator", None) is not None:  # persistent workers, which hold what they began with
        loader._iterator._shutdown_workers()
        loader._iterator = None
    iterators = trainer.fit_loop._combined_loader._iterator.iterators
    # a DataLoader draws a seed for its workers as it begins; the uninterrupted run has not drawn here
    state = torch.get_rng_state()
    iterators[index] = iter(loader)
    torch.set_rng_state(state)
