"""How many classes and sketches an episode of each split has, and how many episodes there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from stablelit.data import EpisodicSampler
from stablelit.errors import ConfigurationError
from stablelit.functional.schedules import check_count


@dataclass(frozen=True)
class EpisodePlan:
    """Episodes of training, which are new in every epoch, and those of validation and test, which are not.

    Args:
        owner: in whose name arguments are checked.
        n_way: classes of a training episode.
        eval_way: of one of validation or test.
        n_shot: support sketches of a class.
        n_query: query sketches of a class.
        n_episodes: of a training epoch.
        n_val_episodes: of a validation.
        n_test_episodes: of a test.

    Raises:
        ConfigurationError: an argument out of range.
    """

    owner: str
    n_way: int
    eval_way: int
    n_shot: int
    n_query: int
    n_episodes: int
    n_val_episodes: int
    n_test_episodes: int

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name != "owner":
                check_count(self.owner, name, value, 2 if name.endswith("way") else 1)

    def sampler(self, split: str, labels: NDArray[Any], seed: int, epoch: int, of: str) -> EpisodicSampler:
        """Draws the episodes of a split.

        Args:
            split: "train", "val" or "test".
            labels: ``(n,)`` of its sketches.
            seed: of the episodes.
            epoch: that training is in.
            of: what data these are, for the message.

        Raises:
            ConfigurationError: classes too few or too small for an episode.
        """
        is_train = split == "train"
        counts = {"train": self.n_episodes, "val": self.n_val_episodes, "test": self.n_test_episodes}
        way = self.n_way if is_train else self.eval_way
        try:
            return EpisodicSampler(
                labels, way, self.n_shot, self.n_query, counts[split], seed, fixed=not is_train, epoch=epoch
            )
        except ValueError as error:
            where = "" if is_train else " (data.eval_way is its n_way)"
            raise ConfigurationError(f"the {split} split of {of}{where}: {error}") from error
