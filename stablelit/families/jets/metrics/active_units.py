"""How many latent dimensions a posterior uses."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from stablelit.errors import DataError
from stablelit.functional.schedules import check_number
from stablelit.nn.summed_metric import SummedMetric


class ActiveUnits(SummedMetric):
    """``AU = #{ j : Var_x[ mu_j(x) ] > delta }``, the variance over jets and unbiased.

    `compute` returns ``active_units`` and ``active_units_share``, of all dimensions.

    Source: Burda, Grosse, Salakhutdinov 2016 (arXiv:1509.00519), section 5.2.

    Args:
        latent_dim: d.
        delta: variance above which a dimension counts as used.

    Raises:
        ConfigurationError: a delta that is not positive, fewer than one dimension.

    Example:
        >>> import torch
        >>> units = ActiveUnits(latent_dim=2)
        >>> units.update(torch.tensor([[0.0, 1.0], [0.01, -1.0]]))
        >>> int(units.compute()["active_units"])
        1
    """

    count: Tensor
    total: Tensor
    squares: Tensor

    def __init__(self, latent_dim: int, delta: float = 0.01, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_number(type(self).__name__, "latent_dim", latent_dim, at_least=1)
        check_number(type(self).__name__, "delta", delta, above=0.0)
        self.delta = delta
        self.add_count("count")
        for name in ("total", "squares"):
            self.add_sum(name, int(latent_dim))

    def update(self, mean: Tensor) -> None:
        """Adds posterior means ``(B, d)``."""
        values = mean.detach().double()
        self.count += len(values)
        self.total += values.sum(dim=0)
        self.squares += values.square().sum(dim=0)

    def variances(self) -> Tensor:
        """``Var_x[mu_j]``, ``(d,)``.

        Raises:
            DataError: fewer than two jets, NaN or infinity.
        """
        if self.count < 2:
            raise DataError(f"ActiveUnits: {int(self.count)} jets. Allowed: at least 2, a variance needs them.")
        found = (self.squares - self.total.square() / self.count) / (self.count - 1)
        if not bool(found.isfinite().all()):
            raise DataError("ActiveUnits: posterior means with NaN or infinity. The encoder has diverged.")
        return found

    def compute(self) -> dict[str, Tensor]:
        """The number, and its share of all dimensions."""
        active = (self.variances() > self.delta).double()
        return {"active_units": active.sum(), "active_units_share": active.mean()}
