"""Few-shot accuracy over many episodes, with its interval and beside chance."""

from __future__ import annotations

import torch
from torch import Tensor

from stablelit.functional.intervals import interval_of_sums
from stablelit.functional.schedules import check_count
from stablelit.nn.summed_metric import SummedMetric


class FewShotAccuracy(SummedMetric):
    """The mean accuracy of episodes, and the half-width of its 95 % interval, ``1.96 s / sqrt(E)``.

    Queries of one episode share its classes and its support, so that the spread that counts is the one between
    episodes. Papers report 600 episodes or more.

    Args:
        n_way: classes of an episode; chance is one of them.

    Raises:
        ConfigurationError: fewer than two classes.

    Example:
        >>> metric = FewShotAccuracy(n_way=5)
        >>> metric.update(torch.tensor([0.6, 0.8]))
        >>> {name: round(float(value), 3) for name, value in metric.compute().items()}
        {'accuracy': 0.7, 'interval': 0.196, 'episodes': 2.0, 'chance': 0.2}
    """

    total: Tensor
    squares: Tensor
    count: Tensor

    def __init__(self, n_way: int) -> None:
        super().__init__()
        self.n_way = check_count(type(self).__name__, "n_way", n_way, 2)
        self.add_sum("total")
        self.add_sum("squares")
        self.add_count("count")

    def update(self, accuracy: Tensor) -> None:
        """Adds episodes' accuracies ``(E,)``, or one."""
        accuracy = accuracy.detach().double().reshape(-1)
        self.total += accuracy.sum()
        self.squares += accuracy.square().sum()
        self.count += accuracy.numel()

    def compute(self) -> dict[str, Tensor]:
        """accuracy, interval (NaN of fewer than two episodes), episodes and chance; each 0-dim, float64."""
        mean, half = interval_of_sums(self.total, self.squares, self.count)
        return {
            "accuracy": mean,
            "interval": half,
            "episodes": self.count.double(),
            "chance": torch.full_like(self.total, 1.0 / self.n_way),
        }
