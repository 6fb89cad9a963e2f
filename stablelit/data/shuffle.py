"""ShuffleSampler: the order of an epoch as a pure function of seed, epoch and position."""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from collections.abc import Callable, Iterator, Sequence, Sized
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DistributedSampler, IterableDataset

from stablelit.data.shuffle_description import ShuffleDescription, describe_order
from stablelit.errors import ConfigurationError, bad_argument
from stablelit.functional.permutation import EXACT_BELOW, BlockPermutation, Indices, Permutation, mix

Mode = Literal["full", "block", "sequential"]
Order = Callable[[range], Indices]

# the first batch must not wait for a whole slab; a slab of 2^15 stays in the processor's second-level cache
_FIRST_SLAB, _SLAB = 2**12, 2**15


class ShuffleSampler(DistributedSampler):  # type: ignore[type-arg]
    """Visits every sample once an epoch in an order that depends on (seed, epoch) alone.

    Up to 2^20 samples the order is an exact random permutation, above a keyed pseudorandom one that is computed in
    slabs: a thousand million samples need no more memory, and no longer a wait, than ten million. A DistributedSampler,
    so that Lightning neither wraps nor re-shuffles it; the number of ranks is asked for when an epoch begins, so that
    it may be built before the process group. No global random state is read or changed.

    Ranks take turns: of an epoch's order p(0), p(1), ... rank r of W gets p(r), p(r + W), ... A global batch of G
    samples is therefore the same set of samples on 1, 2 or 4 ranks, as long as G stays the same.

    Args:
        data_source: anything with a length. Its `chunk_sizes`, where it has them, are taken for ``mode="block"``, and
            its `cache_size` (in chunks) for `describe`.
        seed: of the order.
        epoch: the epoch to begin with; Lightning calls `set_epoch` from then on. With a plain DataLoader and workers,
            pass ``trainer.fit_loop.epoch_progress.current.processed``: on a resume Lightning creates the iterator
            before it calls `set_epoch` (Lightning #21938). `ShuffleDataLoader` does not need it.
        drop_last: ranks get equal shares either by dropping the tail (True) or by repeating the first samples.
        num_replicas: number of ranks; None asks the process group.
        rank: None asks the process group.
        mode: "full", "block" (chunks in a random order, `window_chunks` of them mixed at a time, for data of which
            only some chunks fit in memory; memory grows with the number of chunks) or "sequential" (not shuffled).
        chunk_sizes: samples in each file or row group, in the data's order.
        window_chunks: chunks mixed at a time. `describe` says what a small window costs.
        strict: what a state of other data or settings does: an error (True), or a warning and a fresh epoch (False).

    Raises:
        ConfigurationError: no length, an empty data source, a number outside its range, chunk sizes that are not
            positive or do not sum to the length.
    """

    def __init__(
        self,
        data_source: Sized,
        seed: int = 0,
        epoch: int = 0,
        drop_last: bool = False,
        num_replicas: int | None = None,
        rank: int | None = None,
        mode: Mode = "full",
        chunk_sizes: Sequence[int] | None = None,
        window_chunks: int = 64,
        strict: bool = True,
    ) -> None:
        # DistributedSampler's own __init__ demands a process group; all it would set is set here
        n = _length(data_source)
        for name, value, least in (("seed", seed, 0), ("epoch", epoch, 0), ("window_chunks", window_chunks, 1)):
            _check_int(name, value, least)
        if mode not in get_args(Mode):
            raise bad_argument("ShuffleSampler", "mode", mode, " or ".join(repr(m) for m in get_args(Mode)))
        if (num_replicas is None) != (rank is None):
            raise ConfigurationError("ShuffleSampler: give both num_replicas and rank, or neither.")
        if num_replicas is not None and rank is not None:
            _check_int("num_replicas", num_replicas, 1)
            if not 0 <= rank < num_replicas:
                raise bad_argument("ShuffleSampler", "rank", rank, f"0 to {num_replicas - 1}")
        self.dataset = data_source  # type: ignore[assignment]
        self.seed = seed
        self.epoch = epoch
        self.drop_last = drop_last
        self.shuffle = mode != "sequential"
        self.mode = mode
        self.window_chunks = window_chunks
        self.chunk_sizes = _chunk_sizes(data_source, n, mode, chunk_sizes)
        self.strict = strict
        self._ranks = (num_replicas, rank)
        self.start = 0
        self._resume: tuple[int, int] | None = None

    @property
    def num_replicas(self) -> int:  # type: ignore[override]
        """Number of ranks."""
        return self._ranks[0] if self._ranks[0] is not None else _world()[0]

    @property
    def rank(self) -> int:  # type: ignore[override]
        """This process among them."""
        return self._ranks[1] if self._ranks[1] is not None else _world()[1]

    @property
    def num_samples(self) -> int:  # type: ignore[override]
        """Samples of one rank in an epoch."""
        n = len(self.dataset)  # type: ignore[arg-type]
        return n // self.num_replicas if self.drop_last else -(-n // self.num_replicas)

    @property
    def total_size(self) -> int:  # type: ignore[override]
        """Samples of all ranks in an epoch."""
        return self.num_samples * self.num_replicas

    def __len__(self) -> int:
        return self.num_samples

    def __iter__(self) -> Iterator[int]:
        """Yields this rank's indices from `start` (samples of this rank); `start` holds for one epoch."""
        resumed = self._resumed_start()
        begin, self.start = self.start or resumed, 0
        rank, world, total = self.rank, self.num_replicas, self.total_size
        n = len(self.dataset)  # type: ignore[arg-type]
        order = self.order()
        mine = range(rank, total, world)[begin:]
        # at most the last position of a rank lies behind the data's end, where the order begins anew
        repeated = mine[-1:] if len(mine) and mine[-1] >= n else mine[:0]
        mine = mine[: len(mine) - len(repeated)]
        at, size = 0, _FIRST_SLAB
        while at < len(mine):
            yield from order(mine[at : at + size]).tolist()
            at, size = at + size, _SLAB
        for position in repeated:
            yield from order(range(position % n, position % n + 1)).tolist()

    def order(self) -> Order:
        """The epoch's order as a function from an ascending range of positions to sample indices."""
        n = len(self.dataset)  # type: ignore[arg-type]
        if self.mode == "sequential":
            return lambda positions: np.arange(positions.start, positions.stop, positions.step)
        key = mix(self.seed, self.epoch)
        if self.mode == "block":
            assert self.chunk_sizes is not None
            return BlockPermutation(self.chunk_sizes, self.window_chunks, key, EXACT_BELOW)
        return Permutation(n, key, EXACT_BELOW)

    def samples(self, begin: int, end: int) -> list[int]:
        """This rank's samples from the `begin`-th to before the `end`-th of the epoch, as iterating gives them."""
        n, order = len(self.dataset), self.order()  # type: ignore[arg-type]
        mine = range(self.rank, self.total_size, self.num_replicas)[begin:end]
        # behind the data's end the order begins anew
        return [int(order(range(position % n, position % n + 1))[0]) for position in mine]

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch whose order the next iteration has."""
        _check_int("epoch", epoch, 0)
        self.epoch = epoch

    def describe(
        self, batch_size: int = 256, label_icc: float = 0.02, cache_size: int | None = None
    ) -> ShuffleDescription:
        """What this order costs: in the variance of a batch, and in loads where only some chunks are kept in memory.

        Args:
            batch_size: of all ranks together.
            label_icc: the labels' intra-class correlation with the chunk (`stablelit.functional.shuffle_quality.
                label_icc` measures it); 0 where chunks are alike.
            cache_size: chunks that the data set keeps; None asks its `cache_size`.
        """
        if cache_size is None:
            cache_size = getattr(self.dataset, "cache_size", None)
        return describe_order(
            n=len(self.dataset),  # type: ignore[arg-type]
            mode=self.mode,
            order=self.order() if self.mode == "block" else None,
            chunk_sizes=self.chunk_sizes,
            batch_size=batch_size,
            label_icc=label_icc,
            cache_size=cache_size,
        )

    def state_dict(self, samples: int = 0) -> dict[str, Any]:
        """Plain numbers, the same on every rank: what the order depends on, and how far it was used.

        Args:
            samples: samples of this epoch that all ranks together have trained on. Whoever counts what was trained on
                says so (`ShuffleDataLoader`, `ShuffleCallback`): the sampler itself only knows what was prefetched.
        """
        chunks = "" if self.chunk_sizes is None else hashlib.sha1(self.chunk_sizes.tobytes()).hexdigest()
        return {
            "seed": self.seed,
            "epoch": self.epoch,
            "n": len(self.dataset),  # type: ignore[arg-type]
            "mode": self.mode,
            "window_chunks": self.window_chunks if self.mode == "block" else 0,
            "chunk_sizes_sha1": chunks if self.mode == "block" else "",
            "samples": samples,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up the order of a checkpoint, seed and all; the next iteration of its epoch begins behind `samples`.

        Raises:
            ConfigurationError: the checkpoint was made with other data or another kind of order, or its position
                cannot be shared by the present number of ranks.
        """
        problem = self.mismatch(state)
        if problem and self.strict:
            raise ConfigurationError(
                f"ShuffleSampler: {problem} Resume with the same, start a new run from the checkpoint's weights, or "
                f"pass strict=False to begin the epoch anew."
            )
        self.seed, self.epoch = int(state["seed"]), int(state["epoch"])
        if problem:
            warnings.warn(f"ShuffleSampler: {problem} The epoch begins anew (strict=False).", stacklevel=2)
            self._resume = None
        else:
            self._resume = (self.epoch, int(state.get("samples", 0)))

    def mismatch(self, state: dict[str, Any]) -> str:
        """What of a state does not fit this sampler, with both values; empty where it fits."""
        mine = self.state_dict()
        if state["n"] != mine["n"]:
            return f"the checkpoint was made with {state['n']} samples, the data now have {mine['n']}."
        for name in ("mode", "window_chunks", "chunk_sizes_sha1"):
            if name in state and state[name] != mine[name]:
                return f"the checkpoint was made with {name}={state[name]!r}, the sampler now has {mine[name]!r}."
        samples, world = int(state.get("samples", 0)), self.num_replicas
        if samples % world:
            good = ", ".join(str(w) for w in range(1, 65) if samples % w == 0)
            return f"{samples} samples were trained on in this epoch; {world} ranks cannot share them. Ranks: {good}."
        return ""

    def _resumed_start(self) -> int:
        resume, self._resume = self._resume, None
        if resume is None or resume[0] != self.epoch:
            return 0
        return resume[1] // self.num_replicas


def _length(data_source: Any) -> int:
    kind = type(data_source).__name__
    if isinstance(data_source, IterableDataset) or not hasattr(data_source, "__len__"):
        raise ConfigurationError(
            f"ShuffleSampler: {kind} has no length or no order (an IterableDataset?); it can only order a map-style "
            f"data set. Shuffle inside the data set instead."
        )
    n = len(data_source)
    if n < 1:
        raise ConfigurationError(f"ShuffleSampler: {kind} is empty; it needs a sample.")
    return n


def _check_int(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise bad_argument("ShuffleSampler", name, value, f"an int of {least} or more")


def _chunk_sizes(data_source: Sized, n: int, mode: str, given: Sequence[int] | None) -> NDArray[np.int64] | None:
    if given is not None:
        return _checked_chunk_sizes(given, n)
    own = getattr(data_source, "chunk_sizes", None)
    if mode != "block":
        # only a description would use them: an attribute that merely has this name must not stop a run
        with contextlib.suppress(ConfigurationError):
            return None if own is None else _checked_chunk_sizes(own, n)
        return None
    if own is None:
        raise ConfigurationError(
            f"ShuffleSampler: mode='block' needs chunk_sizes (samples in each file or row group, in the data's "
            f"order); none were given and {type(data_source).__name__} has no `chunk_sizes`."
        )
    return _checked_chunk_sizes(own, n)


def _checked_chunk_sizes(sizes: Any, n: int) -> NDArray[np.int64]:
    raw = np.asarray(sizes)
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


def _world() -> tuple[int, int]:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_world_size(), torch.distributed.get_rank()
    return 1, 0
