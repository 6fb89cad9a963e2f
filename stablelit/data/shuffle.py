"""ShuffleSampler: the order of an epoch as a pure function of seed, epoch and position."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence, Sized
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch.utils.data import DistributedSampler

from stablelit.data._chunk_sizes import cache_size_of, chunk_sizes_of, length_of
from stablelit.data._saved_state import extent, extents_in_words, require_keys, sha1
from stablelit.data.shuffle_description import ShuffleDescription, describe_order
from stablelit.errors import ConfigurationError, bad_argument
from stablelit.functional.permutation import EXACT_BELOW, BlockPermutation, Indices, Permutation, mix
from stablelit.functional.schedules import check_count, check_flag

_OWNER = "ShuffleSampler"
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
        n = length_of(data_source, _OWNER)
        self.seed = check_count(_OWNER, "seed", seed, 0)
        self.epoch = check_count(_OWNER, "epoch", epoch, 0)
        self.window_chunks = check_count(_OWNER, "window_chunks", window_chunks, 1)
        if mode not in get_args(Mode):
            raise bad_argument(_OWNER, "mode", mode, " or ".join(repr(m) for m in get_args(Mode)))
        if (num_replicas is None) != (rank is None):
            raise ConfigurationError("ShuffleSampler: give both num_replicas and rank, or neither.")
        if num_replicas is not None and rank is not None:
            num_replicas = check_count(_OWNER, "num_replicas", num_replicas, 1)
            rank = check_count(_OWNER, "rank", rank, 0)
            if rank >= num_replicas:
                raise bad_argument(_OWNER, "rank", rank, f"0 to {num_replicas - 1}")
        self.dataset = data_source  # type: ignore[assignment]
        self.drop_last = check_flag(_OWNER, "drop_last", drop_last)
        self.shuffle = mode != "sequential"
        self.mode = mode
        self.chunk_sizes = chunk_sizes_of(data_source, n, mode == "block", chunk_sizes)
        self.strict = check_flag(_OWNER, "strict", strict)
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
        self.epoch = check_count(_OWNER, "epoch", epoch, 0)

    def describe(
        self, batch_size: int = 256, label_icc: float = 0.02, cache_size: int | None = None
    ) -> ShuffleDescription:
        """What this order costs: in the variance of a batch, and in loads where only some chunks are kept in memory.

        Args:
            batch_size: of all ranks together; more than there are samples is all of them.
            label_icc: the labels' intra-class correlation with the chunk (`stablelit.functional.shuffle_quality.
                label_icc` measures it); 0 where chunks are alike.
            cache_size: chunks that the data set keeps; None asks its `cache_size`.
        """
        if cache_size is None:
            cache_size = cache_size_of(self.dataset)
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
        chunks = self.chunk_sizes if self.mode == "block" else None
        return {
            "seed": self.seed,
            "epoch": self.epoch,
            "n": len(self.dataset),  # type: ignore[arg-type]
            "mode": self.mode,
            "window_chunks": self.window_chunks if self.mode == "block" else 0,
            "chunk_sizes_sha1": "" if chunks is None else sha1(chunks),
            "chunks": [] if chunks is None else extent(chunks),
            "samples": samples,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up the order of a checkpoint, seed and all; the next iteration of its epoch begins behind `samples`.

        Raises:
            ConfigurationError: the checkpoint was made with other data or another kind of order, or its position
                cannot be shared by the present number of ranks; or it is no state of a sampler.
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
        require_keys(_OWNER, state, ("seed", "epoch", "n"))
        mine = self.state_dict()
        if state["n"] != mine["n"]:
            return f"the checkpoint was made with {state['n']} samples, the data now have {mine['n']}."
        for name in ("mode", "window_chunks"):
            if name in state and state[name] != mine[name]:
                return f"the checkpoint was made with {name}={state[name]!r}, the sampler now has {mine[name]!r}."
        if state.get("chunk_sizes_sha1", mine["chunk_sizes_sha1"]) != mine["chunk_sizes_sha1"]:
            told = extents_in_words("chunks", "samples", state.get("chunks"), mine["chunks"])
            return f"the checkpoint was made with {told}."
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


def _world() -> tuple[int, int]:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_world_size(), torch.distributed.get_rank()
    return 1, 0
