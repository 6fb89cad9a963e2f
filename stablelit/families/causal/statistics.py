"""What a structure learner keeps of its training rows: units and moments, and what a search over graphs needs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stablelit.errors import ContractError
from stablelit.families.causal.holes import fill_holes
from stablelit.families.causal.moments import Moments, gaussian_moments, impute
from stablelit.families.causal.panel import Bools, Floats
from stablelit.families.causal.sufficient_statistics import SufficientStatistics


class TrainingStatistics(nn.Module):
    """Buffers, so that they are in every checkpoint: a loaded model scales and fills as the trained one did.

    The columns of a window are those of the newest row, then those of the row before it, and so on: D = (1 + p) d.

    Args:
        nodes: d.
        lags: p.
    """

    centre: Tensor
    scale: Tensor
    mean: Tensor
    covariance: Tensor
    precision: Tensor
    effective_n: Tensor

    def __init__(self, nodes: int, lags: int) -> None:
        super().__init__()
        width = (1 + lags) * nodes
        self.nodes, self.lags = nodes, lags
        self.register_buffer("centre", torch.zeros(nodes, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(nodes, dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(width, dtype=torch.float64))
        self.register_buffer("covariance", torch.eye(width, dtype=torch.float64))
        self.register_buffer("precision", torch.eye(width, dtype=torch.float64))
        # 0 until rows were seen
        self.register_buffer("effective_n", torch.tensor(0.0, dtype=torch.float64))
        self._last: tuple[Tensor, Tensor] | None = None

    @property
    def is_fitted(self) -> bool:
        """Whether rows were seen, now or by the run that wrote the checkpoint."""
        return bool(self.effective_n > 0)

    def fit(self, values: Floats, mask: Bools, centre: Tensor, scale: Tensor, names: tuple[str, ...]) -> None:
        """Takes the moments of windows.

        Args:
            values: ``(n, 1 + p, d)`` in the columns' own units.
            mask: ``(n, 1 + p, d)``.
            centre: ``(d,)``, subtracted from every column.
            scale: ``(d,)``, by which it is divided.
            names: of the columns, for messages.

        Raises:
            DataError: a column that does not vary or was never observed.
        """
        self.centre.copy_(centre)
        self.scale.copy_(scale)
        lagged = [name if not lag else f"{name} ({lag} earlier)" for lag in range(1 + self.lags) for name in names]
        moments: Moments = gaussian_moments(self._standardised(values), mask.reshape(len(mask), -1), names=lagged)
        self.mean.copy_(torch.from_numpy(moments.mean))
        # columns that repeat each other, or fewer rows than columns: an inverse is needed all the same
        known = SufficientStatistics(moments.covariance, max(moments.effective_n, 1.0), tuple(lagged))
        correlation, units = known.standardised().covariance, np.outer(known.scales, known.scales)
        self.covariance.copy_(torch.from_numpy(correlation * units))
        self.precision.copy_(torch.from_numpy(np.linalg.inv(correlation) / units))
        self.effective_n.fill_(moments.effective_n)
        self._last = None

    def rows(self, batch: dict[str, Tensor]) -> Tensor:
        """Standardised windows without holes, ``(B, 1 + p, d)`` of the batch's dtype.

        A batch that is handed out again and again is filled once.

        Raises:
            ContractError: nothing was fitted.
        """
        values = batch["values"]
        if self._last is not None and self._last[0] is values:
            return self._last[1]
        if not self.is_fitted:
            raise ContractError(
                "StructureLearner has no statistics: it was neither trained nor loaded from a checkpoint. Evaluate "
                "with ckpt_path=..., or StructureLearner.load_from_checkpoint(path)."
            )
        with torch.no_grad(), torch.autocast(values.device.type, enabled=False):
            windows = (values.double() - self.centre) / self.scale
            mask, mean = batch["mask"].flatten(1), self.mean
            filled = mean + fill_holes(windows.flatten(1) - mean, mask, self.precision)
            rows = filled.view_as(values).to(values.dtype)
        self._last = (values, rows)
        return rows

    def conditional_covariance(self) -> Floats:
        """The covariance of the newest row given the earlier ones, ``(d, d)``, standardised.

        Without lags it is the plain one. It is what is left of a row once every column is regressed on the past.
        """
        d, covariance = self.nodes, self.covariance.cpu().numpy()
        if not self.lags:
            return np.asarray(covariance)
        return np.asarray(covariance[:d, :d] - covariance[:d, d:] @ self._on_the_past())

    def innovations(self, values: Floats, mask: Bools) -> Floats:
        """The newest rows less what the earlier ones let expect, ``(n, d)``, standardised, holes filled.

        Args:
            values: ``(n, 1 + p, d)`` in the columns' own units.
            mask: ``(n, 1 + p, d)``.
        """
        d, mean = self.nodes, self.mean.cpu().numpy()
        filled = impute(self._standardised(values), mask.reshape(len(mask), -1), mean, self.covariance.cpu().numpy())
        centred = filled - mean
        if not self.lags:
            return np.asarray(centred)
        return np.asarray(centred[:, :d] - centred[:, d:] @ self._on_the_past())

    def _on_the_past(self) -> Any:
        d, covariance = self.nodes, self.covariance.cpu().numpy()
        return np.linalg.solve(covariance[d:, d:], covariance[d:, :d])

    def _standardised(self, values: Floats) -> Floats:
        scaled = (values - self.centre.cpu().numpy()) / self.scale.cpu().numpy()
        return np.asarray(scaled.reshape(len(values), -1))
