"""ShuffleDataLoader: a DataLoader that a resumed run continues at the batch after the last one trained on."""

from __future__ import annotations

import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, Sampler, SequentialSampler

from stablelit.data._chunk_sizes import length_of
from stablelit.data._saved_state import require_keys
from stablelit.data.buckets import LengthBucketBatchSampler
from stablelit.data.episodes import EpisodicSampler
from stablelit.data.shuffle import ShuffleSampler
from stablelit.errors import ConfigurationError, bad_argument
from stablelit.functional.permutation import mix
from stablelit.functional.schedules import check_count

# batch samplers that know their place and what it depends on, and work out ranks' shares by themselves
_PLANNED = (LengthBucketBatchSampler, EpisodicSampler)


class _Place:
    """Lives as long as an iterator does, and knows whether it is over."""

    over = False


def _nobody() -> None:
    return None


class ShuffleDataLoader(DataLoader):  # type: ignore[type-arg]
    """A DataLoader over a `ShuffleSampler` that implements Lightning's `state_dict` protocol for loaders.

    Lightning saves and restores the state of any train loader that has `state_dict` and `load_state_dict`. The state
    is the epoch and the number of batches *handed out*, counted where they leave the loader: what workers have
    prefetched does not count as trained on. It is the same on every rank and holds on another number of ranks, as long
    as the global batch (batch size times ranks) stays the same; where the ranks do not divide the number of samples,
    the last batch of an epoch is a matter of their number. A batch that is being trained on while a checkpoint is
    written (only Lightning's OnExceptionCheckpoint does so) counts as seen.

    The iterator begins its work at the first batch, not when it is made. Lightning makes it before it calls
    `set_epoch` on a resume (Lightning #21938), and workers would draw the wrong epoch's order.

    Somebody whose `configure_optimizers` asks for `trainer.estimated_stepping_batches` (OneCycleLR) adds
    `ShuffleCallback`: Lightning then builds the loader before it reads the checkpoint, and does not give it its state.

    Takes every argument of `torch.utils.data.DataLoader`. Workers are seeded from the sampler's seed, the epoch, the
    position and the rank, never from the global random state, so that iterating changes no other draw. What workers
    draw at random themselves is not continued inside an epoch: derive it from the sample's index and the epoch.

    Args:
        dataset: a map-style data set.
        sampler: a `ShuffleSampler`; or give
        batch_sampler: a `LengthBucketBatchSampler`, an `EpisodicSampler`, or torch's BatchSampler of a
            `ShuffleSampler`.
        **kwargs: as in `torch.utils.data.DataLoader`.

    Attributes:
        wait_seconds: time that this epoch's consumer has waited for batches.

    Raises:
        ConfigurationError: another kind of sampler (a SequentialSampler passes: Lightning puts it in for
            `overfit_batches`); no batch would come out.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        sampler: Sampler[int] | None = None,
        batch_sampler: Sampler[list[int]] | None = None,
        **kwargs: Any,
    ) -> None:
        samples = length_of(dataset, "ShuffleDataLoader")
        if kwargs.get("shuffle"):
            raise bad_argument(
                "ShuffleDataLoader",
                "shuffle",
                kwargs["shuffle"],
                "nothing: the sampler shuffles",
                "Leave it out, and give sampler=ShuffleSampler(dataset, seed=...).",
            )
        if kwargs.get("batch_size") is not None:
            kwargs["batch_size"] = check_count("ShuffleDataLoader", "batch_size", kwargs["batch_size"], 1)
        inner = sampler if batch_sampler is None else getattr(batch_sampler, "sampler", None)
        if not isinstance(inner, ShuffleSampler | SequentialSampler) or (
            batch_sampler is not None and not isinstance(batch_sampler, (BatchSampler, *_PLANNED))
        ):
            name, given = ("sampler", sampler) if batch_sampler is None else ("batch_sampler", batch_sampler)
            around = "" if inner is given or inner is None else f" of a {type(inner).__name__}"
            raise ConfigurationError(
                f"ShuffleDataLoader: {name} is a {type(given).__name__}{around}; allowed: a ShuffleSampler, or as "
                f"batch_sampler a LengthBucketBatchSampler, an EpisodicSampler or torch's BatchSampler of a "
                f"ShuffleSampler. Use ShuffleSampler(dataset, seed=...)."
            )
        kwargs.setdefault("generator", torch.Generator())
        super().__init__(dataset, sampler=sampler, batch_sampler=batch_sampler, **kwargs)  # type: ignore[arg-type]
        if batch_sampler is not None:
            # Under DDP Lightning looks at `sampler` to see whether ranks get their shares. torch puts a
            # SequentialSampler there, whereupon Lightning would rebuild the batch sampler around a sampler of its own.
            object.__setattr__(self, "sampler", inner)
        if isinstance(inner, ShuffleSampler) and (ordered := len(inner.dataset)) != samples:  # type: ignore[arg-type]
            raise ConfigurationError(
                f"ShuffleDataLoader: the sampler orders {ordered} samples, the data set has {samples}. Give both the "
                f"same data set."
            )
        self._refuse_no_batches()
        self.wait_seconds = 0.0
        self._batches_out = 0
        self._resume: tuple[int, int] | None = None
        # the iterator whose batches count, and its epoch
        self._lead: tuple[Callable[[], _Place | None], int] = (_nobody, -1)

    @property
    def batches_delivered(self) -> int:
        """Batches of this epoch that have been handed out, those before a resume included."""
        return self._batches_out

    @property
    def _epoch(self) -> int:
        return int(getattr(self.sampler, "epoch", 0))

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        # the resume belongs to the iterator that is made next, which is the one that training has
        resume, self._resume = self._resume, None
        place = _Place()
        if resume is not None:
            self._lead = (weakref.ref(place), resume[0])
        return self._batches(place, resume)

    def _leads(self, place: _Place) -> bool:
        """Whether this iterator's batches count: another one is a look at the data while an epoch is running."""
        lead, epoch = self._lead
        running = lead()
        return running is None or running is place or running.over or epoch != self._epoch

    def _batches(self, place: _Place, resume: tuple[int, int] | None) -> Iterator[Any]:
        # a state saved at the end of its epoch meets a later epoch here, which begins at its beginning
        skip = resume[1] if resume is not None and resume[0] == self._epoch and resume[1] < len(self) else 0
        # the ranks may not have been known when the loader was built
        self._refuse_no_batches()
        if isinstance(self.sampler, ShuffleSampler):
            self._begin_at(skip)
            if self.generator is not None:
                of_workers = mix(mix(self.sampler.seed, self._epoch), mix(skip, self.sampler.rank))
                self.generator.manual_seed(of_workers)
        out = skip
        if self._leads(place):
            self._lead = (weakref.ref(place), self._epoch)
            self._batches_out, self.wait_seconds = skip, 0.0
        batches = super().__iter__()
        while True:
            asked = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                place.over = True
                return
            except (RuntimeError, OSError, EOFError) as error:
                if self._is_of_a_dead_worker(error):
                    raise self._worker_died(error) from error
                raise
            out += 1
            if self._lead[0]() is place:
                self.wait_seconds += time.perf_counter() - asked
                self._batches_out = out
            yield batch

    def _begin_at(self, batch: int) -> None:
        if isinstance(self.batch_sampler, _PLANNED):
            self.batch_sampler.start = batch
        else:
            self.sampler.start = batch * self._samples_per_batch()  # type: ignore[attr-defined]

    def _samples_per_batch(self) -> int:
        return int(getattr(self.batch_sampler, "batch_size", None) or self.batch_size or 1)

    def _global_batch(self) -> int:
        """Samples of one batch of all ranks; 0 where it varies."""
        if isinstance(self.batch_sampler, _PLANNED):
            return self.batch_sampler.global_batch
        return self._samples_per_batch() * int(getattr(self.sampler, "num_replicas", 1))

    def _refuse_no_batches(self) -> None:
        if len(self) < 1:
            raise ConfigurationError(
                f"ShuffleDataLoader: no batch comes out of {len(self.dataset)} samples "  # type: ignore[arg-type]
                f"({len(self.sampler)} on each rank): "  # type: ignore[arg-type]
                f"batch_size={self._samples_per_batch()} with drop_last=True. Use a smaller batch or drop_last=False."
            )

    def _is_of_a_dead_worker(self, error: Exception) -> bool:
        """Whether torch noticed that a worker is gone, or the connection that its tensors come through broke.

        What a data set raises inside a worker is raised again with the worker named, whatever its type.
        """
        if isinstance(error, RuntimeError):
            return "DataLoader worker (pid" in str(error)
        broken = isinstance(error, (ConnectionError, EOFError, FileNotFoundError))
        return broken and self.num_workers > 0 and "in DataLoader worker process" not in str(error)

    def _worker_died(self, error: Exception) -> RuntimeError:
        return RuntimeError(
            f"ShuffleDataLoader: a worker process died after batch {self._batches_out} of epoch {self._epoch} "
            f"({error or type(error).__name__}). Mostly it was killed for want of memory (fewer workers, smaller "
            f"batches) or by a crash in native code (num_workers=0 shows where). A run resumed from its last "
            f"checkpoint continues exactly."
        )

    def state_dict(self) -> dict[str, Any]:
        """Where this epoch stands: the sampler's state and the batches handed out; the same on every rank."""
        sampler = self.sampler.state_dict() if isinstance(self.sampler, ShuffleSampler) else {}
        planned = self.batch_sampler.settings() if isinstance(self.batch_sampler, _PLANNED) else {}
        return {
            "sampler": sampler,
            "epoch": self._epoch,
            "batches": self._batches_out,
            "of": len(self),
            "global_batch": self._global_batch(),
            # of either kind: the name is that of checkpoints written when there was one
            "buckets": planned,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Makes the next iteration of the same epoch begin at the batch after those of the state.

        Raises:
            ConfigurationError: the state is of other data, of another kind of order, or of another global batch. With
                ``strict=False`` in the sampler these are warnings, and the epoch begins anew. Or it is no state of a
                loader.
        """
        require_keys("ShuffleDataLoader", state, ("sampler", "epoch", "batches"))
        place = (int(state["epoch"]), int(state["batches"]))
        problem = ""
        if isinstance(self.sampler, ShuffleSampler) and state["sampler"]:
            problem = self.sampler.mismatch(state["sampler"])
            self.sampler.load_state_dict(state["sampler"])  # refuses another order, or warns of it
            if other_batches := self._mismatch(state):
                if self.sampler.strict:
                    raise ConfigurationError(f"ShuffleDataLoader: {other_batches}")
                problem = f"ShuffleDataLoader: {other_batches} The epoch begins anew (strict=False)."
                warnings.warn(problem, stacklevel=2)
        # a checkpoint written before the first batch after a resume keeps the place too
        self._resume, self._batches_out = (None, 0) if problem else (place, place[1])

    def _mismatch(self, state: dict[str, Any]) -> str:
        if not 0 < state["batches"] < state.get("of", len(self)):
            return ""  # at an epoch's edge nothing depends on how it was cut
        before, now = int(state.get("global_batch", self._global_batch())), self._global_batch()
        planned = self.batch_sampler if isinstance(self.batch_sampler, _PLANNED) else None
        mine = {} if planned is None else planned.settings()
        saved = state.get("buckets", mine)
        had, have = _kind_of(saved), _kind_of(mine)
        if had != have:
            told = (had, have or "none") if had else (f"no {have}", "some")
            return f"the checkpoint lies inside an epoch with {told[0]}, now there are {told[1]}."
        if planned is not None and (other := planned.mismatch(saved)):
            return other
        if before == now:
            return ""
        ranks = int(self.sampler.num_replicas)  # type: ignore[attr-defined]
        if before % ranks == 0:
            remedy = f"Set batch_size={before // ranks} on {ranks} ranks"
        else:
            good = [w for w in range(1, before + 1) if before % w == 0]
            remedy = f"{ranks} ranks do not divide it: use {', '.join(map(str, good))} ranks"
        return (
            f"the checkpoint lies inside an epoch of global batches of {before} samples, now they have {now} "
            f"({self._samples_per_batch()} on each of {ranks} ranks). {remedy}, or resume from a checkpoint made at "
            f"the end of an epoch."
        )


def _kind_of(settings: dict[str, Any]) -> str:
    return "episodes" if "n_way" in settings else "length buckets" if settings else ""
