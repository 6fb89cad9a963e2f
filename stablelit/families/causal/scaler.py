"""Centre and scale of each sensor, of observed training cells alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stablelit.errors import DataError, bad_argument, did_you_mean
from stablelit.families.causal.panel import Bools, Floats

SCALES = ("standard", "robust", "center", "none")
# the interquartile range of a Gaussian in standard deviations
_IQR_OF_GAUSSIAN = 1.3489795003921634


@dataclass(frozen=True)
class ColumnScaler:
    """``(x - mean) / scale``, column by column.

    Args:
        mean: ``(d,)`` in the columns' own units.
        scale: ``(d,)`` likewise, positive.
    """

    mean: Tensor
    scale: Tensor

    @classmethod
    def fit(cls, values: Floats, mask: Bools, names: Sequence[str], scale: str = "standard") -> ColumnScaler:
        """Takes the statistics of observed cells; a cell that was not observed does not enter, as 0 or otherwise.

        Args:
            values: ``(n, d)`` of the training rows.
            mask: ``(n, d)`` True where observed.
            names: of the columns, for messages.
            scale: "standard" (mean and standard deviation), "robust" (median and interquartile range over 1.349, which
                spikes do not move), "center" (mean and 1, which keeps the proportions of variances) or "none" (0 and
                1).

        Raises:
            ConfigurationError: another `scale`.
            DataError: a column of which no training cell was observed, or that does not vary in them; it is named.
        """
        if scale not in SCALES:
            raise bad_argument("ColumnScaler", "scale", scale, ", ".join(SCALES), did_you_mean(str(scale), SCALES))
        observed = np.where(mask, values, np.nan)
        unseen = [name for name, seen in zip(names, mask.any(axis=0), strict=True) if not seen]
        if unseen:
            raise DataError(
                f"ColumnScaler: {', '.join(unseen)}: no cell was observed in the {len(values)} training rows. Train on "
                f"more rows or other ones (train, split), or leave out with columns=[...]."
            )
        low, high = np.nanmin(observed, axis=0), np.nanmax(observed, axis=0)
        flat = [f"{name} (always {v:g})" for name, v, h in zip(names, low, high, strict=True) if v == h]
        if flat:
            raise DataError(
                f"ColumnScaler: {', '.join(flat)}: the same value in all {len(values)} training rows. Train on more "
                f"rows or other ones (train, split), or leave out with columns=[...]."
            )
        if scale == "none":
            return cls(torch.zeros(values.shape[1]), torch.ones(values.shape[1]))
        if scale == "center":
            return cls(torch.from_numpy(np.nanmean(observed, axis=0)).float(), torch.ones(values.shape[1]))
        if scale == "standard":
            centre, spread = np.nanmean(observed, axis=0), np.nanstd(observed, axis=0)
        else:
            lower, centre, upper = np.nanquantile(observed, (0.25, 0.5, 0.75), axis=0)
            spread = (upper - lower) / _IQR_OF_GAUSSIAN
            if (spread == 0).any():
                name = names[int(np.flatnonzero(spread == 0)[0])]
                raise DataError(
                    f"ColumnScaler: {name}: half of its training values are one and the same, and its interquartile "
                    f"range is 0. Use scale=standard."
                )
        return cls(torch.from_numpy(centre).float(), torch.from_numpy(spread).float())

    def scaled(self, values: Tensor, mask: Tensor) -> Tensor:
        """``(..., d)`` in standard units, 0 (the centre) where not observed."""
        return torch.where(mask, (values - self.mean.to(values)) / self.scale.to(values), 0.0)

    def restored(self, scaled: Tensor) -> Tensor:
        """``(..., d)`` back in the columns' own units."""
        return scaled * self.scale.to(scaled) + self.mean.to(scaled)
