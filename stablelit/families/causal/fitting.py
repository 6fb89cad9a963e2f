"""Around the fit of a structure learner: what the data must give, what is worth saying before, means of an epoch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from stablelit.errors import ConfigurationError, ContractError, StablelitError
from stablelit.families.causal.likelihoods import SCALE_DEPENDENT, best_log_scale
from stablelit.findings import Finding

_OWNER = "StructureLearner"
# columns whose standard deviations differ by more have units of their own, which a common scale takes for causes
_LARGEST_RATIO = 10.0
_ROWS_PER_COLUMN = 10
_ALIKE = 1.0 - 1e-6
_LARGEST_OFFSET = 1e5
_TERMS = ("loss", "recon", "sparse", "acyclic", "disentangle")


class NonFiniteLossError(StablelitError, ArithmeticError):
    """The loss of a structure learner is not finite; the message names stage and column."""


def check_fit(learner: Any, datamodule: Any) -> tuple[tuple[str, ...], int, int]:
    """Names, lags and environments: the learner's own, else the datamodule's.

    Raises:
        ContractError: neither has them.
        ConfigurationError: they contradict each other.
    """
    own, giver = learner.hparams, type(datamodule).__name__
    if datamodule is None or not hasattr(datamodule, "names"):
        if own.names is None or not learner.statistics.is_fitted:
            raise ContractError(
                f"{_OWNER} needs a datamodule with `names`, `scaler` and `training_panel()`, such as SensorDataModule; "
                f"the Trainer has {giver if datamodule is not None else 'none'}. For loaders of your own: "
                f"SensorDataModule.from_panel(SensorPanel.from_values(values, names))."
            )
        return tuple(own.names), own.lags or 0, own.environments or 1
    names, lags = tuple(datamodule.names), int(getattr(datamodule, "lags", 0))
    environments = max(1, len(getattr(datamodule.panel, "environment_names", ()) or ()))
    if own.names is not None and tuple(own.names) != names:
        raise ConfigurationError(
            f"{_OWNER} was built for {len(own.names)} columns ({_few(own.names)}), but {giver} gives {len(names)} "
            f"({_few(names)}). Name the same in data.columns, in this order."
        )
    if own.lags is not None and not learner._lags_are_open and own.lags != lags:
        raise ConfigurationError(
            f"{_OWNER} was built for lags={own.lags}, but {giver} gives lags={lags}. Set data.lags={own.lags}."
        )
    if own.environments is not None and environments > own.environments:
        raise ConfigurationError(
            f"{_OWNER} was built for {own.environments} environments, but {giver} gives {environments}."
        )
    return names, lags, own.environments or environments


def fit_statistics(learner: Any, datamodule: Any) -> None:
    """Moments of the training rows; the scales of the noise begin at those of columns without parents."""
    rows, scaler = datamodule.training_panel(), datamodule.scaler
    learner.statistics.fit(rows.values, rows.mask, scaler.mean, scaler.scale, learner.names)
    filled = learner.statistics.rows({"values": torch.from_numpy(rows.values), "mask": torch.from_numpy(rows.mask)})
    newest = filled[:, 0] - filled[:, 0].mean(0)
    log_scale = best_log_scale(learner.objective.noise, newest, torch.from_numpy(rows.scored)).float()
    with torch.no_grad():
        learner.baseline_log_scale.copy_(log_scale)
        own = learner.mechanism.log_scale
        own.copy_(log_scale if own.dim() else log_scale[0])


def findings_before(learner: Any, datamodule: Any) -> list[Finding]:
    """What can be said of data and settings before the first step."""
    statistics, objective, found = learner.statistics, learner.objective, []
    n, width = float(statistics.effective_n), statistics.covariance.shape[0]
    if n < _ROWS_PER_COLUMN * width:
        found.append(
            Finding(
                "few-rows",
                "warning",
                f"{n:.0f} complete rows' worth of data for {width} columns (lags counted); below {_ROWS_PER_COLUMN} "
                f"rows a column, edges are mostly chance.",
                {"rows": n, "columns": width},
                "more rows, fewer columns (data.columns), and look at the edges' confidence (model.bootstrap=100)",
            )
        )
    found.extend(_of_columns(learner))
    spread = statistics.scale.cpu().numpy() * np.sqrt(np.diag(statistics.covariance.cpu().numpy())[: statistics.nodes])
    ratio = float(spread.max() / spread.min())
    raw = bool((statistics.scale == statistics.scale[0]).all())
    if objective.noise == "equal_variance" and raw and ratio > _LARGEST_RATIO:
        widest, narrowest = learner.names[int(spread.argmax())], learner.names[int(spread.argmin())]
        found.append(
            Finding(
                "scale-dependent",
                "warning",
                f"the standard deviations of {widest} and {narrowest} differ {ratio:.3g} times, and "
                f"noise={objective.noise} takes a larger variance for a later place: other units, another graph.",
                {"ratio": ratio, "widest": widest, "narrowest": narrowest},
                "model.noise=laplace or model.noise=gaussian, which no unit changes",
            )
        )
    if objective.noise in SCALE_DEPENDENT and not raw and learner.mechanism.predicts_by_graph:
        found.append(
            Finding(
                "standardised-least-squares",
                "warning",
                f"noise={objective.noise} on standardised columns: the differences of variance that it orders by are "
                f"gone (Reisach et al. 2021).",
                {"noise": objective.noise},
                "data.scale=center with units that are comparable, else model.noise=laplace or gaussian",
            )
        )
    return found


def _of_columns(learner: Any) -> list[Finding]:
    """Columns that no learner can tell apart, or that single precision cannot hold."""
    statistics, found = learner.statistics, []
    covariance = statistics.covariance.cpu().numpy()[: statistics.nodes, : statistics.nodes]
    deviations = np.sqrt(np.diag(covariance))
    alike = np.argwhere(np.triu(np.abs(covariance) > _ALIKE * np.outer(deviations, deviations), 1))
    if len(alike):
        one, other = (learner.names[k] for k in alike[0])
        found.append(
            Finding(
                "columns-repeat-each-other",
                "warning",
                f"{len(alike)} pairs of columns are the same but for their units, the first {one} and {other}: which "
                f"of the two acts, no data can tell.",
                {"pairs": len(alike), "first": one, "second": other},
                "leave one of them out (data.columns)",
            )
        )
    offset = statistics.centre.abs() / statistics.scale
    if float(offset.max()) > _LARGEST_OFFSET:
        name = learner.names[int(offset.argmax())]
        found.append(
            Finding(
                "offset-beyond-float32",
                "warning",
                f"the mean of {name} is {float(offset.max()):.3g} standard deviations from 0: batches are float32, "
                f"which keeps 7 digits, so that its variation is rounded off.",
                {"column": name, "ratio": float(offset.max())},
                "subtract a constant from the column in the file",
            )
        )
    return found


def non_finite(learner: Any, rows: Tensor, prediction: Any, terms: Any) -> NonFiniteLossError:
    """The error for a loss that is not finite, with the first term and column that are not."""
    path = learner.objective.path
    term = next((name for name, value in terms.raw.items() if not bool(torch.isfinite(value))), "a weighted term")
    residual = (rows[:, 0] - prediction.mean).detach()
    bad = (~torch.isfinite(residual)).any(dim=0) | ~torch.isfinite(prediction.log_scale.detach() + 0 * residual[0])
    columns = [name for name, is_bad in zip(learner.names, bad.flatten().tolist(), strict=False) if is_bad]
    value = float(terms.raw[term].detach()) if term in terms.raw else math.nan
    return NonFiniteLossError(
        f"{_OWNER}: the loss is not finite: {term} is {value:g} in stage "
        f"{int(path.stage)} (mu={float(path.mu):g}, s={float(path.s):g}) after {int(path.steps)} optimizer steps. "
        f"Columns that are not finite: {', '.join(columns) or 'none, so it is the weights of the graph'}. Lower "
        f"model.learning_rate (now {learner.learning_rate:g})"
        f"{'' if columns else ', or take model.acyclicity=exponential'}."
    )


class RunningSums:
    """Means of an epoch without a `log` call a step: 0.3 ms each, which is as much as a step of 13 sensors takes.

    No buffer: data-parallel training would give every rank those of the first. Their state is in the checkpoint, so
    that an epoch that is resumed is logged whole.
    """

    def __init__(self) -> None:
        self._totals: Tensor | None = None

    @torch.no_grad()
    def add(self, loss: Tensor, raw: dict[str, Tensor]) -> None:
        """Adds a step."""
        zero = loss.detach().double() * 0.0
        values = [loss, *(raw.get(name, zero) for name in _TERMS[1:]), zero + 1.0]
        step = torch.stack([value.detach().double() for value in values])
        self._totals = step if self._totals is None else self._totals.to(step.device) + step

    def take(self) -> dict[str, Tensor]:
        """The means since the last time, and starts anew; nothing where no step was added."""
        totals, self._totals = self._totals, None
        if totals is None:
            return {}
        means = totals[:-1] / totals[-1]
        return {name: value.float() for name, value in zip(_TERMS, means, strict=True)}

    def state_dict(self) -> dict[str, Any]:
        """The sums as plain numbers."""
        return {"totals": None if self._totals is None else self._totals.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on with them."""
        totals = state["totals"]
        self._totals = None if totals is None else torch.tensor(totals, dtype=torch.float64)


def refuse_averaging(callbacks: Any) -> None:
    """Averages of weights are no use to a graph, which is cut and searched for from the weights as they are.

    Raises:
        ConfigurationError: a callback that evaluates averaged weights.
    """
    for callback in callbacks:
        if isinstance(callback, WeightAveraging) or getattr(callback, "averages_weights", False):
            raise ConfigurationError(
                f"{_OWNER}: {type(callback).__name__} evaluates averages of weights, which are not those that path and "
                f"graph were searched with. Take it away: ~callbacks.ema"
            )


def _few(names: Any) -> str:
    names = list(names)
    return ", ".join(map(str, names[:4])) + (", ..." if len(names) > 4 else "")
