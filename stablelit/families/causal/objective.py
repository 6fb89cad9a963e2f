r"""What a graph is trained by: likelihood, sparsity, acyclicity and disentanglement, each with its weight.

On stage t of a path (see `path`)::

    nll = mean over scored cells of  -log p(x_tj - mean_tj; scale_j)  -  (1/d) log |det(I - W)|
    loss = mu_t * (lambda_recon * d * nll + lambda_sparse * ||W||_1 + lambda_lag * ||A||_1
                   + lambda_disentangle * cross-correlation of the codes) + h_s(W)

nll is in nats per observed cell and d of it those of a row, whatever is missing: what a weight of the edges is held
against in the literature. The determinant is that of the change from noise to data, which keeps two sensors from
explaining each other. It is 1 for an acyclic graph, and stands where W is the slope of the mechanism: exactly where
that is linear, and on average for signal codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from stablelit.errors import bad_argument, did_you_mean
from stablelit.families.causal.acyclicity import ACYCLICITIES, Acyclicity, acyclicity
from stablelit.families.causal.likelihoods import NOISES, Noise, cell_nll, mean_over_scored
from stablelit.families.causal.losses import correlation_penalty, cross_correlation, l1
from stablelit.families.causal.mechanisms import Mechanism, Prediction
from stablelit.families.causal.path import ConstraintPath
from stablelit.functional.rank_gather import mean_over_ranks
from stablelit.functional.schedules import check_count, check_number

Sparsity = Literal["sum", "mean"]
Disentanglement = Literal["cross", "correlation"]

_OWNER = "StructureLearner"


@dataclass
class Terms:
    """A step's objective, all 0-dim and live.

    Args:
        nll: nats per scored cell (of `squared_error` the mean square), without a weight.
        weighted: what the loss is the sum of: `recon`, `sparse`, `acyclic`, `disentangle`.
        raw: the same without weights.
    """

    nll: Tensor
    weighted: dict[str, Tensor]
    raw: dict[str, Tensor]

    @property
    def loss(self) -> Tensor:
        """The sum."""
        return torch.stack([term.double() for term in self.weighted.values()]).sum()


class GraphObjective(nn.Module):
    """The weights, as 0-dim buffers that a callback may move, and the terms.

    Args:
        path: how the constraint is tightened.
        noise: see `likelihoods`.
        kind: of acyclicity, see `acyclicity`.
        lambda_recon: of the likelihood.
        lambda_sparse: of the edges.
        lambda_acyclic: of the acyclicity, where the path is `fixed`.
        lambda_lag: of the edges from earlier rows.
        lambda_disentangle: of the codes' correlation.
        sparsity: `sum` is ||W||_1; `mean` the post-mortem's mean over all d^2 entries.
        target_sparsity: of `mean`: the mean weight of an edge below which sparsity costs nothing, or None.
        disentanglement: `cross` or the post-mortem's `correlation`.
        power: of `trace_power`, the post-mortem's `n_power`.

    Raises:
        ConfigurationError: an argument out of range or without effect.
    """

    lambda_recon: Tensor
    lambda_sparse: Tensor
    lambda_acyclic: Tensor
    lambda_lag: Tensor
    lambda_disentangle: Tensor

    def __init__(
        self,
        path: ConstraintPath,
        noise: Noise = "laplace",
        kind: Acyclicity = "log_det",
        lambda_recon: float = 1.0,
        lambda_sparse: float = 0.02,
        lambda_acyclic: float = 1.0,
        lambda_lag: float = 0.0,
        lambda_disentangle: float = 0.0,
        sparsity: Sparsity = "sum",
        target_sparsity: float | None = None,
        disentanglement: Disentanglement = "cross",
        power: int = 3,
    ) -> None:
        super().__init__()
        choices = {
            "noise": (noise, NOISES),
            "acyclicity": (kind, ACYCLICITIES),
            "sparsity": (sparsity, get_args(Sparsity)),
            "disentanglement": (disentanglement, get_args(Disentanglement)),
        }
        for name, (choice, known) in choices.items():
            if choice not in known:
                raise bad_argument(_OWNER, name, choice, ", ".join(known), did_you_mean(str(choice), known))
        weights = {
            "lambda_recon": lambda_recon,
            "lambda_sparse": lambda_sparse,
            "lambda_acyclic": lambda_acyclic,
            "lambda_lag": lambda_lag,
            "lambda_disentangle": lambda_disentangle,
        }
        for name, weight in weights.items():
            check_number(_OWNER, name, weight, at_least=0.0)
            self.register_buffer(name, torch.tensor(float(weight), dtype=torch.float64))
        if target_sparsity is not None:
            check_number(_OWNER, "target_sparsity", target_sparsity, at_least=0.0, at_most=1.0)
            if sparsity != "mean":
                raise bad_argument(_OWNER, "target_sparsity", target_sparsity, "None unless sparsity is 'mean'")
        if kind in ("none", "trace_power") and path.kind != "fixed":
            raise bad_argument(
                _OWNER, "path.kind", path.kind, f"'fixed', where acyclicity is {kind!r}", "It leaves cycles."
            )
        check_count(_OWNER, "power", power, 1)
        self.path, self.noise, self.kind, self.power = path, noise, kind, power
        self.sparsity, self.target_sparsity, self.disentanglement = sparsity, target_sparsity, disentanglement

    def terms(
        self, mechanism: Mechanism, prediction: Prediction, target: Tensor, scored: Tensor, free: Tensor | None
    ) -> Terms:
        """The terms of a batch.

        Args:
            mechanism: whose weights are judged.
            prediction: of the batch.
            target: (B, d).
            scored: (B, d) bool.
            free: (d, d) bool, edges that cost nothing.
        """
        weights, path = mechanism.edge_weights(), self.path
        nll = self.nll(mechanism, prediction, target, scored)
        raw = {"recon": nll, "sparse": self._sparse(weights, free), "acyclic": self.h(weights)}
        tighten = path.mu
        weighted = {
            "recon": tighten * self.lambda_recon * self._per_row(nll, target),
            "sparse": tighten * self.lambda_sparse * raw["sparse"],
            "acyclic": path.constraint_term(raw["acyclic"], self.lambda_acyclic),
        }
        lags = mechanism.lag_sizes()
        if lags is not None:
            weighted["sparse"] = weighted["sparse"] + tighten * self.lambda_lag * l1(lags)
        if len(prediction.codes) > 1:
            penalty = cross_correlation if self.disentanglement == "cross" else correlation_penalty
            raw["disentangle"] = penalty(prediction.codes)
            weighted["disentangle"] = tighten * self.lambda_disentangle * raw["disentangle"].double()
        return Terms(nll, weighted, raw)

    def nll(self, mechanism: Mechanism, prediction: Prediction, target: Tensor, scored: Tensor) -> Tensor:
        """Nats per scored cell, 0-dim."""
        # ranks have different numbers of holes, and of rows: the mean is that of all their cells
        nll = self.cells_nll(prediction, target, scored, mean_over_ranks(scored.sum()))
        if self.noise == "squared_error" or not mechanism.has_slopes:
            return nll
        weights = mechanism.edge_weights()
        identity = torch.eye(len(weights), dtype=weights.dtype, device=weights.device)
        return nll - torch.linalg.slogdet(identity - weights).logabsdet / len(weights)

    def cells_nll(self, prediction: Prediction, target: Tensor, scored: Tensor, count: Tensor | None = None) -> Tensor:
        """Nats per scored cell of an acyclic graph, whose determinant is 1; see `mean_over_scored`."""
        return mean_over_scored(cell_nll(self.noise, target - prediction.mean, prediction.log_scale), scored, count)

    def baseline_nll(self, target: Tensor, scored: Tensor, log_scale: Tensor) -> Tensor:
        """The same of the empty graph: each column alone, at the scale it had in training."""
        return mean_over_scored(cell_nll(self.noise, target, log_scale.to(target.dtype)), scored)

    def h(self, weights: Tensor) -> Tensor:
        """Acyclicity, 0-dim float64."""
        return acyclicity(self.kind, weights, self.path.s, self.power)

    def _per_row(self, nll: Tensor, target: Tensor) -> Tensor:
        # the post-mortem's squared error stays the mean that it was
        return nll.double() * (1 if self.noise == "squared_error" else target.shape[-1])

    def _sparse(self, weights: Tensor, free: Tensor | None) -> Tensor:
        if self.sparsity == "sum":
            return l1(weights, free)
        mean = l1(weights, free) / weights.numel()
        return mean if self.target_sparsity is None else torch.relu(mean - self.target_sparsity)
