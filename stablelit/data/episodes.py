"""EpisodicSampler: few-shot episodes that are a pure function of seed, epoch and number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from stablelit.data._saved_state import require_keys, sha1
from stablelit.data.shuffle import ShuffleSampler
from stablelit.errors import ConfigurationError, DataError, bad_argument
from stablelit.functional.permutation import mix
from stablelit.functional.schedules import check_count, check_flag

_OWNER = "EpisodicSampler"
_SHOWN = 5
# the stream of keys for episodes
_EPISODES = 0x65706973
_SETTINGS = ("n_way", "n_shot", "n_query", "n_episodes", "fixed", "labels_sha1")


class EpisodicSampler(Sampler[list[int]]):
    """A batch sampler of which every batch is an episode: W classes, of each S support and Q query samples.

    An episode is a list of ``n_way * (n_shot + n_query)`` sample indices in class order, the support of a class before
    its queries; classes are distinct, and so are samples. Episode e of an epoch is drawn from (seed, epoch, e) alone:
    rank r of W ranks has the episodes r, r + W, ..., each whole, and a resumed run goes on with the one after the last.
    Where the ranks do not divide `n_episodes`, some more are drawn, so that all ranks make as many steps.

    Give it to a `ShuffleDataLoader` as ``batch_sampler``, which keeps its place in the checkpoint and which Lightning
    leaves alone under DDP; a plain DataLoader it would refuse there, asking for ``use_distributed_sampler=False``.

    Args:
        labels: ``(n,)``, the class of each sample; below 0 is unknown and is never drawn.
        n_way: W, classes of an episode.
        n_shot: S, support samples of a class.
        n_query: Q, query samples of a class.
        n_episodes: episodes of an epoch, all ranks together.
        seed: of the episodes.
        fixed: the same episodes in every epoch, for validation and test: what is chosen by their accuracy is then not
            chosen for its luck.
        epoch: the epoch to begin with; `set_epoch` from then on.
        num_replicas: number of ranks; None asks the process group.
        rank: None asks the process group.

    Attributes:
        sampler: the ShuffleSampler over the samples that has seed, epoch and ranks; it orders nothing here.
        start: this rank's episode at which the next iteration begins; it holds for one.

    Raises:
        ConfigurationError: a number outside its range, fewer classes than `n_way`.
        DataError: labels that are not one int a sample; classes of too few samples, with their sizes.

    Source: O. Vinyals et al., NeurIPS 2016 (matching networks).

    Example:
        >>> episodes = EpisodicSampler([0, 0, 0, 1, 1, 1, 2, 2, 2], n_way=2, n_shot=1, n_query=2, n_episodes=3)
        >>> [[i // 3 for i in episode] for episode in episodes][:1]
        [[2, 2, 2, 1, 1, 1]]
    """

    def __init__(
        self,
        labels: Sequence[int] | NDArray[Any] = (),
        n_way: int = 20,
        n_shot: int = 1,
        n_query: int = 5,
        n_episodes: int = 100,
        seed: int = 0,
        fixed: bool = False,
        epoch: int = 0,
        num_replicas: int | None = None,
        rank: int | None = None,
    ) -> None:
        self.n_way = check_count(_OWNER, "n_way", n_way, 2)
        self.n_shot = check_count(_OWNER, "n_shot", n_shot, 1)
        self.n_query = check_count(_OWNER, "n_query", n_query, 1)
        self.n_episodes = check_count(_OWNER, "n_episodes", n_episodes, 1)
        self.fixed = check_flag(_OWNER, "fixed", fixed)
        self.labels = _checked(labels)
        # sample indices class after class, and where each class begins among them
        known = self.labels[self.labels >= 0]
        self._classes, counts = np.unique(known, return_counts=True)
        self._members = np.argsort(self.labels, kind="stable")[len(self.labels) - len(known) :]
        self._begins = np.cumsum(counts) - counts
        self._counts = counts
        self._refuse_what_cannot_be_drawn()
        mode: Any = "sequential" if self.fixed else "full"
        self.sampler = ShuffleSampler(self.labels, seed, epoch, num_replicas=num_replicas, rank=rank, mode=mode)
        self.start = 0
        self._resume: tuple[int, int] | None = None

    @property
    def global_batch(self) -> int:
        """Samples of one step of all ranks."""
        return self.n_way * (self.n_shot + self.n_query) * self.sampler.num_replicas

    def __len__(self) -> int:
        return -(-self.n_episodes // self.sampler.num_replicas)

    def __iter__(self) -> Iterator[list[int]]:
        """Yields this rank's episodes from the `start`-th; `start` holds for one epoch."""
        resume, self._resume = self._resume, None
        resumed = resume[1] if resume is not None and resume[0] == self.sampler.epoch else 0
        begin, self.start = self.start or resumed, 0
        for number in range(begin, len(self)):
            yield self.batch(number)

    def batch(self, number: int) -> list[int]:
        """This rank's episode of that number in the epoch, as iterating gives it; empty where there is none."""
        if not 0 <= number < len(self):
            return []
        return self.episode(self.sampler.rank + number * self.sampler.num_replicas)

    def episode(self, number: int) -> list[int]:
        """Episode `number` of the epoch, counted over all ranks."""
        epoch = 0 if self.fixed else self.sampler.epoch
        # NumPy's generator: the episodes last as long as it draws in the same way
        rng = np.random.default_rng(mix(mix(self.sampler.seed, epoch), _EPISODES + number))
        classes = rng.random(len(self._classes)).argsort()[: self.n_way]
        of_class = _drawn(rng, self._counts[classes], self.n_shot + self.n_query)
        episode: list[int] = self._members[self._begins[classes][:, None] + of_class].ravel().tolist()
        return episode

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch whose episodes the next iteration has."""
        self.sampler.set_epoch(epoch)

    def settings(self) -> dict[str, Any]:
        """What the episodes depend on besides seed and epoch, plain and the same on every rank."""
        return {
            "n_way": self.n_way,
            "n_shot": self.n_shot,
            "n_query": self.n_query,
            "n_episodes": self.n_episodes,
            "fixed": self.fixed,
            "labels_sha1": self._fingerprint,
            "ranks": self.sampler.num_replicas,
        }

    def mismatch(self, saved: dict[str, Any]) -> str:
        """What of saved settings does not fit these, with both values; empty where they fit."""
        mine = self.settings()
        if "n_way" not in saved:
            return "the checkpoint lies inside an epoch without episodes, now there are some."
        for name in (*_SETTINGS, "ranks"):
            if saved[name] != mine[name]:
                what = "other labels" if name == "labels_sha1" else f"{name}={saved[name]!r}, now it has {mine[name]!r}"
                return f"the checkpoint's EpisodicSampler had {what}."
        return ""

    def state_dict(self, steps: int = 0) -> dict[str, Any]:
        """Plain numbers, the same on every rank: what the episodes depend on, and how far they were used.

        Args:
            steps: of this epoch that were trained on. Whoever counts them says so; a `ShuffleDataLoader` does, and
                keeps its own state.
        """
        return {**self.settings(), "seed": self.sampler.seed, "epoch": self.sampler.epoch, "steps": steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up the episodes of a checkpoint, seed and all; its epoch goes on behind `steps`.

        Raises:
            ConfigurationError: other labels or settings, inside an epoch another number of ranks; or it is no state.
        """
        require_keys(_OWNER, state, (*_SETTINGS, "ranks", "seed", "epoch", "steps"))
        # at an epoch's edge nothing depends on how it was shared
        inside = 0 < state["steps"] < -(-state["n_episodes"] // state["ranks"])
        problem = self.mismatch(state if inside else {**state, "ranks": self.sampler.num_replicas})
        if problem:
            raise ConfigurationError(f"{_OWNER}: {problem} Resume with the same, or begin a new run.")
        self.sampler.seed, self.sampler.epoch = int(state["seed"]), int(state["epoch"])
        self._resume = (int(state["epoch"]), int(state["steps"])) if inside else None

    @cached_property
    def _fingerprint(self) -> str:
        return sha1(self.labels)

    def _refuse_what_cannot_be_drawn(self) -> None:
        needed = self.n_shot + self.n_query
        if len(self._classes) < self.n_way:
            found = f"2 to {len(self._classes)}, the classes that there are"
            raise bad_argument(_OWNER, "n_way", self.n_way, found, "Take fewer, or more data.")
        short = np.flatnonzero(self._counts < needed)
        if not len(short):
            return
        sizes = [f"{self._classes[c]} has {self._counts[c]}" for c in short[:_SHOWN]]
        more = f" and {len(short) - _SHOWN} more" if len(short) > _SHOWN else ""
        most = int(self._counts.min()) - self.n_shot
        remedy = f"n_query={most} uses all classes; or leave these out." if most > 0 else "Leave these out."
        raise DataError(
            f"{_OWNER}: {len(short)} of {len(self._classes)} classes have fewer samples than n_shot + n_query = "
            f"{self.n_shot} + {self.n_query} = {needed}: class {', '.join(sizes)}{more}. {remedy}"
        )


def _drawn(rng: np.random.Generator, sizes: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """For each size n, k different numbers of 0 .. n-1 in a random order, ``(len(sizes), k)``.

    Floyd's algorithm for all at once: its time and memory do not know n.
    """
    drawn = np.full((len(sizes), k), -1)
    u = rng.random((k, len(sizes)))
    for i in range(k):
        last = sizes - k + i
        candidate = (u[i] * (last + 1)).astype(np.int64)
        taken = (drawn[:, :i] == candidate[:, None]).any(1)
        drawn[:, i] = np.where(taken, last, candidate)
    # of the set that it finds every order must be equally likely: some are the support
    return np.take_along_axis(drawn, rng.random((len(sizes), k)).argsort(1), 1)


def _checked(labels: Sequence[int] | NDArray[Any]) -> NDArray[np.int64]:
    try:
        array: NDArray[Any] = np.asarray(labels)
    except ValueError:  # rows of different lengths
        raise DataError(f"{_OWNER}: labels are rows of different lengths; it needs one int a sample.") from None
    if array.ndim != 1 or not len(array) or not np.issubdtype(array.dtype, np.integer):
        raise DataError(
            f"{_OWNER}: labels has shape {array.shape} and type {array.dtype}; it needs one int for each sample."
        )
    return array.astype(np.int64)
