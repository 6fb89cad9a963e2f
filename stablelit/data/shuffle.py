"""ShuffleSampler: the order of an epoch as a pure function of seed and epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from typing import Any

import torch
from torch.utils.data import DistributedSampler

from stablelit.errors import ConfigurationError, bad_argument

_CHUNK = 8192


class ShuffleSampler(DistributedSampler):  # type: ignore[type-arg]
    """Visits every sample once an epoch in an order that depends on (seed, epoch) alone.

    A DistributedSampler, so that Lightning neither wraps nor re-shuffles it; the number of ranks is asked for when an
    epoch begins, so that it may be built before the process group. No global random state is read or changed.

    Args:
        data_source: anything with a length.
        seed: of the order.
        epoch: the epoch to begin with; Lightning calls `set_epoch` from then on. On a resume with workers Lightning
            creates the iterator before it calls `set_epoch` (Lightning #21938), so pass
            ``trainer.fit_loop.epoch_progress.current.processed`` when you build the loader.
        drop_last: ranks get equal shares either by dropping the tail (True) or by repeating the first samples.
        num_replicas: number of ranks; None asks the process group.
        rank: None asks the process group.

    Raises:
        ConfigurationError: no length, an empty data source, a negative seed or epoch, a rank outside the ranks.
    """

    def __init__(
        self,
        data_source: Sized,
        seed: int = 0,
        epoch: int = 0,
        drop_last: bool = False,
        num_replicas: int | None = None,
        rank: int | None = None,
    ) -> None:
        # DistributedSampler's own __init__ demands a process group; all it would set is set here
        if not hasattr(data_source, "__len__"):
            raise ConfigurationError(
                f"ShuffleSampler: {type(data_source).__name__} has no length (an IterableDataset?); "
                f"it can only order a map-style data set. Shuffle inside the data set instead."
            )
        if len(data_source) < 1:
            raise ConfigurationError(f"ShuffleSampler: {type(data_source).__name__} is empty; it needs a sample.")
        for name, value in (("seed", seed), ("epoch", epoch)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise bad_argument("ShuffleSampler", name, value, "an int of 0 or more")
        if (num_replicas is None) != (rank is None):
            raise ConfigurationError("ShuffleSampler: give both num_replicas and rank, or neither.")
        if num_replicas is not None and rank is not None and not 0 <= rank < num_replicas:
            raise bad_argument("ShuffleSampler", "rank", rank, f"0 to {num_replicas - 1}")
        self.dataset = data_source  # type: ignore[assignment]
        self.seed = seed
        self.epoch = epoch
        self.drop_last = drop_last
        self.shuffle = True
        self._ranks = (num_replicas, rank)
        self.start = 0

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
        """Yields this rank's indices from `start`; `start` holds for one epoch."""
        start, self.start = self.start, 0
        n = len(self.dataset)  # type: ignore[arg-type]
        order = torch.randperm(n, generator=torch.Generator().manual_seed(_mix(self.seed, self.epoch)))
        if self.total_size > n:
            order = torch.cat([order, order.repeat(-(-self.total_size // n))[: self.total_size - n]])
        mine = order[self.rank : self.total_size : self.num_replicas][start:]
        # chunks: a list of a million Python ints at once costs 40 MB and a pause
        for chunk in torch.split(mine, _CHUNK):
            yield from chunk.tolist()

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch whose order the next iteration has."""
        self.epoch = epoch

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers: what the order depends on."""
        return {"seed": self.seed, "epoch": self.epoch, "n": len(self.dataset)}  # type: ignore[arg-type]

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up the order of a checkpoint.

        Raises:
            ConfigurationError: the checkpoint was made with another number of samples.
        """
        n = len(self.dataset)  # type: ignore[arg-type]
        if state["n"] != n:
            raise ConfigurationError(
                f"ShuffleSampler: the checkpoint was made with {state['n']} samples, the data now have {n}. "
                f"Resume with the same data, or start a new run from the checkpoint's weights."
            )
        self.seed, self.epoch = int(state["seed"]), int(state["epoch"])


def _mix(seed: int, epoch: int) -> int:
    """A 63-bit seed in which (seed, epoch) and (seed + 1, epoch - 1) have nothing in common (splitmix64)."""
    x = (seed * 0x9E3779B97F4A7C15 + epoch * 0xD1B54A32D192ED03 + 0x632BE59BD9B4E019) & 0xFFFFFFFFFFFFFFFF
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = ((x ^ (x >> shift)) * factor) & 0xFFFFFFFFFFFFFFFF
    return (x ^ (x >> 31)) >> 1


def _world() -> tuple[int, int]:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_world_size(), torch.distributed.get_rank()
    return 1, 0
