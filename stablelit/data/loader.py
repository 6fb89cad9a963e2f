"""ShuffleDataLoader: a DataLoader that a resumed run continues at the batch after the last one trained on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler, SequentialSampler

from stablelit.data.shuffle import ShuffleSampler
from stablelit.errors import ConfigurationError


class ShuffleDataLoader(DataLoader):  # type: ignore[type-arg]
    """A DataLoader over a `ShuffleSampler` that implements Lightning's `state_dict` protocol for loaders.

    Lightning saves and restores the state of any train loader that has `state_dict` and `load_state_dict`. The state
    is the epoch and the number of batches *handed out*, counted where they leave the loader: what workers have
    prefetched does not count as trained on.

    The iterator begins its work at the first batch, not when it is made. Lightning makes it before it calls
    `set_epoch` on a resume (Lightning #21938), and workers would draw the wrong epoch's order.

    Takes every argument of `torch.utils.data.DataLoader`. Workers are seeded from the sampler's seed and epoch, never
    from the global random state, so that iterating changes no other draw.

    Raises:
        ConfigurationError: the sampler is neither a `ShuffleSampler` nor a `SequentialSampler` (which Lightning puts
            in for `overfit_batches`).
    """

    def __init__(self, dataset: Any, *, sampler: Sampler[int], **kwargs: Any) -> None:
        if not isinstance(sampler, ShuffleSampler | SequentialSampler):
            raise ConfigurationError(
                f"ShuffleDataLoader: sampler is a {type(sampler).__name__}; allowed: a ShuffleSampler. "
                f"Use ShuffleSampler(dataset, seed=...)."
            )
        kwargs.setdefault("generator", torch.Generator())
        super().__init__(dataset, sampler=sampler, **kwargs)
        self._batches_out = 0
        self._resume: tuple[int, int] | None = None

    @property
    def _epoch(self) -> int:
        return int(getattr(self.sampler, "epoch", 0))

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        return self._batches()

    def _batches(self) -> Iterator[Any]:
        resume, self._resume = self._resume, None
        # a state saved at the end of its epoch meets a later epoch here, which begins at its beginning
        skip = resume[1] if resume is not None and resume[0] == self._epoch and resume[1] < len(self) else 0
        if isinstance(self.sampler, ShuffleSampler):
            self.sampler.start = skip * (self.batch_size or 1)
            if self.generator is not None:
                self.generator.manual_seed(self.sampler.seed * 1_000_003 + self._epoch)
        self._batches_out = skip
        for batch in super().__iter__():
            self._batches_out += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Where this epoch stands: the sampler's state and the batches handed out."""
        sampler = self.sampler.state_dict() if isinstance(self.sampler, ShuffleSampler) else {}
        return {"sampler": sampler, "epoch": self._epoch, "batches": self._batches_out}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Makes the next iteration of the same epoch begin at the batch after those of the state."""
        if isinstance(self.sampler, ShuffleSampler) and state["sampler"]:
            self.sampler.load_state_dict(state["sampler"])
        self._resume = (int(state["epoch"]), int(state["batches"]))
