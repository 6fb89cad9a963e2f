r"""StructureLearner: a directed acyclic graph by gradient descent, and a search over orders from where it ended.

The algorithm, for rows x of d sensors, holes filled by what the others let expect::

    mean, scale = Mechanism(x; W, A)                          x_j from the others through W, from earlier rows through A
    nll = -log p(x - mean; scale) - log |det(I - W)| / d      over observed cells
    loss = mu_t * (nll + lambda_sparse * ||W||_1 + ...) + h_s(W)       see `objective` and `path`
    after the step: back into the domain of h_s, where it left it
    at the end: the acyclic graph of W by BIC (`estimate`), and a search over orders that begins there (`polish`)

What is returned is always acyclic. W[i, j] != 0 is the edge i -> j.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from stablelit.data.evaluation_batches import weight_among_ranks
from stablelit.families.causal.domain import DomainKeeper
from stablelit.families.causal.estimate import GraphEstimator, search_score
from stablelit.families.causal.evaluation import test_scores, validation_scores
from stablelit.families.causal.fitting import (
    RunningSums,
    check_fit,
    findings_before,
    fit_statistics,
    non_finite,
    refuse_averaging,
)
from stablelit.families.causal.graph_interface import KnowsItsGraph
from stablelit.families.causal.knowledge import EdgeKnowledge
from stablelit.families.causal.mechanisms import build_mechanism, mechanism_name
from stablelit.families.causal.objective import GraphObjective
from stablelit.families.causal.path import path_of
from stablelit.families.causal.path_history import PathHistory
from stablelit.families.causal.statistics import TrainingStatistics
from stablelit.findings import FindingReporter
from stablelit.functional.schedules import check_count, check_number
from stablelit.optim import build_optimizers, check_factories
from stablelit.optim.build import planned_steps

_OWNER = "StructureLearner"


class StructureLearner(KnowsItsGraph):
    """Learns which sensor drives which, as a LightningModule.

    `training_step` returns ``loss``, ``nll`` (nats per observed cell) and, live, the terms that the loss is the sum of
    as ``loss_components``. Validation logs ``val/nll``, the held-out likelihood of the mechanism cut to an *acyclic*
    graph, beside ``val/nll_baseline``, that of the empty graph: neither knows the truth. ``val/f1`` and ``val/shd``, of
    the graph that would be returned, are logged where the truth is known, and choose nothing.

    Args:
        names: of the columns; None takes them from the datamodule.
        lags: earlier rows that may act; None takes the datamodule's.
        environments: how many; None takes the datamodule's.
        mechanism: its name, or a mapping of its ``name`` and settings: see `stablelit.families.causal.mechanisms`.
        noise: "laplace", "gaussian", "equal_variance", "student" or "squared_error": see `likelihoods`.
        acyclicity: "log_det", "exponential", "polynomial", "trace_power" or "none": see `acyclicity`.
        path: settings of `ConstraintPath`, such as ``{"kind": "augmented_lagrangian"}``.
        lambda_recon: weight of the likelihood. All weights are 0-dim buffers of `objective`, which a schedule may move.
        lambda_sparse: of ||W||_1.
        lambda_acyclic: of the acyclicity, where the path is "fixed".
        lambda_lag: of the edges from earlier rows.
        lambda_disentangle: of the codes' correlation.
        sparsity: "sum", or the post-mortem's "mean" over all entries.
        target_sparsity: of "mean": the mean below which sparsity costs nothing.
        disentanglement: "cross", or the post-mortem's "correlation".
        n_power: of "trace_power".
        forbidden: edges that cannot be, as pairs of names.
        required: edges that are there.
        tiers: groups of names; nothing acts on an earlier group.
        rule: how W becomes an acyclic graph: "bic" (the acyclic threshold of smallest BIC) or a number (all weights of
            that size, fewer where they make a cycle).
        polish: "auto", "gaussian", "equal_variance", "non_gaussian" or "none": the score of the search over orders.
            "auto" takes what fits `noise`, and "none" where the mechanism is not linear.
        penalty: times ln n is the price of an edge.
        restarts: of the search; None is 10, and none where equal variances give the order.
        bootstrap: how many resampled panels give an edge its confidence; 0 is none.
        learning_rate: the peak rate.
        optimizer: takes parameters and ``lr=``; None is Adam with betas (0.9, 0.99) and no weight decay.
        lr_schedule: takes the optimizer and ``total_steps=``; None is a constant rate.
        seed: of the search and the bootstrap.

    Raises:
        ConfigurationError: an argument outside its range, prior knowledge that contradicts itself.

    Example:
        >>> from stablelit.families.causal import StructureLearner
        >>> learner = StructureLearner(names=["pump", "flow", "heat"], noise="gaussian")
        >>> learner.adjacency().shape
        torch.Size([3, 3])
    """

    def __init__(
        self,
        names: Sequence[str] | None = None,
        lags: int | None = None,
        environments: int | None = None,
        mechanism: str | dict[str, Any] = "linear",
        noise: str = "laplace",
        acyclicity: str = "log_det",
        path: dict[str, Any] | None = None,
        lambda_recon: float = 1.0,
        lambda_sparse: float = 0.05,
        lambda_acyclic: float = 1.0,
        lambda_lag: float = 0.0,
        lambda_disentangle: float = 0.0,
        sparsity: str = "sum",
        target_sparsity: float | None = None,
        disentanglement: str = "cross",
        n_power: int = 3,
        forbidden: Sequence[Sequence[str]] = (),
        required: Sequence[Sequence[str]] = (),
        tiers: Sequence[Sequence[str]] = (),
        rule: str | float = "bic",
        polish: str = "auto",
        penalty: float = 2.0,
        restarts: int | None = None,
        bootstrap: int = 0,
        learning_rate: float = 0.02,
        optimizer: Callable[..., Any] | None = None,
        lr_schedule: Callable[..., Any] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_number(_OWNER, "learning_rate", learning_rate, above=0.0)
        check_number(_OWNER, "penalty", penalty, at_least=0.0)
        for name, count in (("restarts", restarts or 0), ("bootstrap", bootstrap), ("seed", seed)):
            check_count(_OWNER, name, count, 0)
        check_factories(_OWNER, optimizer=optimizer, lr_schedule=lr_schedule)
        mechanism_name(mechanism)
        # plain lists and dictionaries, whatever came: a checkpoint with anything else does not load with weights_only
        names = None if names is None else [str(name) for name in names]
        mechanism = mechanism if isinstance(mechanism, str) else dict(mechanism)
        path = {key: _plain(value) for key, value in (path or {}).items()}
        forbidden, required, tiers = _pairs(forbidden), _pairs(required), _pairs(tiers)
        self.save_hyperparameters(ignore=["optimizer", "lr_schedule"])
        self.objective = GraphObjective(
            path_of(path),
            noise,  # type: ignore[arg-type]
            acyclicity,  # type: ignore[arg-type]
            lambda_recon,
            lambda_sparse,
            lambda_acyclic,
            lambda_lag,
            lambda_disentangle,
            sparsity,  # type: ignore[arg-type]
            target_sparsity,
            disentanglement,  # type: ignore[arg-type]
            n_power,
        )
        self.learning_rate = learning_rate
        self._optimizer, self._lr_schedule = optimizer, lr_schedule
        self._reporter = FindingReporter(_OWNER)
        self.register_buffer("decision_threshold", torch.tensor(float("nan")))
        self._truth: Tensor | None = None
        self._h = torch.tensor(0.0)
        self._history = PathHistory()
        self.sums = RunningSums()
        self._lags_are_open = lags is None
        self._fitted_on: Any = None
        if names is not None:
            self._build(tuple(names), lags or 0, environments or 1)

    def _build(self, names: tuple[str, ...], lags: int, environments: int) -> None:
        """Makes what depends on the number of columns."""
        h = self.hparams
        h.names, h.lags, h.environments = list(names), lags, environments
        knowledge = EdgeKnowledge(names, h.forbidden, h.required, h.tiers)
        self.names, self.lags = names, lags
        shared = h.noise in ("equal_variance", "squared_error")
        allowed = torch.tensor(knowledge.allowed)
        self.mechanism = build_mechanism(h.mechanism, len(names), lags, allowed, shared, environments)
        if h.noise == "squared_error":
            # no loss reaches it, and data-parallel training would wait for its gradient
            self.mechanism.log_scale.requires_grad_(False)
        self.statistics = TrainingStatistics(len(names), lags)
        score = search_score(h.polish, h.noise, self.mechanism)
        search = (score, h.penalty, h.restarts, h.bootstrap, h.seed)
        self.estimator = GraphEstimator(names, knowledge, h.rule, *search, self.mechanism.is_linear)
        self.domain = DomainKeeper(self.mechanism.structure.weights)
        self.register_buffer("free", torch.tensor(knowledge.required), persistent=False)
        # of the empty graph, the scale of each column alone
        self.register_buffer("baseline_log_scale", torch.zeros(len(names)))

    def setup(self, stage: str) -> None:
        """Takes the columns from the datamodule, and for a fit the moments of its training rows.

        A checkpoint that the fit goes on from is loaded later, and brings its own.
        """
        datamodule = getattr(self.trainer, "datamodule", None)
        names, lags, environments = check_fit(self, datamodule)
        if not hasattr(self, "mechanism") or (self._lags_are_open and lags != self.lags):
            self._build(names, lags, environments)
        self._truth = getattr(datamodule, "truth", None)
        if stage == "fit" and datamodule is not self._fitted_on:
            self._fitted_on = datamodule
            self.objective.path.restart()
            self.estimator.forget()
            fit_statistics(self, datamodule)

    def on_fit_start(self) -> None:
        """Resolves the stages of the path, and says what can be said before the first step."""
        self.objective.path.plan(planned_steps(self.trainer))
        refuse_averaging(self.trainer.callbacks)
        for finding in findings_before(self, getattr(self.trainer, "datamodule", None)):
            self._reporter.report(self.trainer, finding)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Any]:
        """One step of the algorithm in the module docstring."""
        del batch_idx
        rows = self.statistics.rows(batch)
        prediction = self.mechanism(rows, batch["environment"])
        terms = self.objective.terms(self.mechanism, prediction, rows[:, 0], batch["scored"], self.free)
        self._h = terms.raw["acyclic"].detach()
        loss = terms.loss
        if bool(torch.isfinite(loss)):
            self.sums.add(loss, terms.raw)
        elif not any(getattr(callback, "leaves_out_non_finite", False) for callback in self.trainer.callbacks):
            raise non_finite(self, rows, prediction, terms)
        if self.trainer.is_last_batch:
            self._log_epoch()
        return {"loss": loss.float(), "nll": terms.nll, "loss_components": terms.weighted}

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Takes the step, brings W back into the domain of the log-determinant, and counts the step on the path."""
        super().optimizer_step(*args, **kwargs)
        path = self.objective.path
        if self.objective.kind == "log_det":
            self.domain.keep_inside(self.mechanism, path.s, args[2] if len(args) > 2 else kwargs.get("optimizer"))
        if path.count_step(self._h) and self.objective.kind == "log_det":
            self.domain.widen(self.mechanism, path.s)

    def configure_optimizers(self) -> Any:
        """Adam at a constant rate, unless the constructor was given others."""
        return build_optimizers(self, self._optimizer or _adam, self._lr_schedule, self.learning_rate)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """The held-out likelihood of the acyclic graph."""
        self._evaluate(batch, "val")

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """As in validation."""
        self._evaluate(batch, "test")

    def on_validation_epoch_start(self) -> None:
        """Makes W an acyclic graph while it is learned, and searches for a better one from there."""
        # a resumed run has the graph of its last validation, which the check at its beginning is not to replace
        goes_on = self.trainer.sanity_checking and self.estimator.is_polished
        if self.trainer.state.fn == "fit" and not goes_on:
            self.estimator.from_gradient(self.mechanism.edge_weights(), self.statistics)
            if not self.trainer.sanity_checking:
                self._polish()

    def on_test_epoch_start(self) -> None:
        """A checkpoint from before the first validation has no graph yet."""
        if not self.estimator.is_polished and not self.estimator.gradient_graph.any():
            self.estimator.from_gradient(self.mechanism.edge_weights(), self.statistics)

    def on_train_end(self) -> None:
        """The same once more, and how sure each edge is."""
        self.estimator.from_gradient(self.mechanism.edge_weights(), self.statistics)
        # a smoke test need not ask
        self._polish(confidence=not self.trainer.fast_dev_run)

    def on_validation_epoch_end(self) -> None:
        """Compares the graph with the truth, where that is known."""
        if not self.trainer.sanity_checking:
            # all ranks have the same graph; without it Lightning warns, with several of them
            self.log_dict(validation_scores(self.estimator, self._truth), prog_bar=True, sync_dist=True)

    def on_test_epoch_end(self) -> None:
        """All that can be said of the graph."""
        self.log_dict(test_scores(self.estimator, self._truth, self.edge_scores()), sync_dist=True)

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Fills holes, in the columns' own units.

        Returns:
            ``values`` (B, d): the newest rows, observed cells as they are and holes at what the other cells let expect;
            ``expected`` (B, d): each cell from its parents; ``id`` (B,).
        """
        rows = self.statistics.rows(batch)
        mean = self.mechanism(rows, batch["environment"], self.estimator.gradient_graph).mean
        centre, scale = self.statistics.centre.to(mean), self.statistics.scale.to(mean)
        values = torch.where(batch["mask"][:, 0], batch["values"][:, 0], rows[:, 0] * scale + centre)
        return {"values": values, "expected": mean * scale + centre, "id": batch["id"]}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the history of the path and the sums of the epoch that it is in."""
        checkpoint["path_history"] = self._history.state_dict()
        checkpoint["running_sums"] = self.sums.state_dict()
        self._reporter.keep_in(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Goes on with it."""
        self._history.load_state_dict(checkpoint["path_history"])
        self.sums.load_state_dict(checkpoint["running_sums"])
        self._reporter.take_from(checkpoint, self._trainer)

    def _log_epoch(self) -> None:
        means = {f"train/{name}": value for name, value in self.sums.take().items()}
        path = self.objective.path
        now = {"path/mu": path.mu.float(), "path/stage": path.stage.float(), "path/s": path.s.float()}
        self._history.add(path, self._h)
        # once an epoch, in its last step: a callback that reads at its end finds them
        self.log_dict(means, on_step=False, on_epoch=True, batch_size=1, sync_dist=True, prog_bar=True)
        self.log_dict(now, on_step=False, on_epoch=True, batch_size=1, sync_dist=True)

    def _polish(self, confidence: bool = False) -> None:
        # data that the graph was not learned from are for judging it
        if self._fitted_on is not None:
            self.estimator.polish(self.statistics, self._fitted_on.training_panel(), confidence)

    def _evaluate(self, batch: dict[str, Tensor], stage: str) -> None:
        rows, scored = self.statistics.rows(batch), batch["scored"]
        objective, count = self.objective, int(scored.sum())
        prediction = self.mechanism(rows, batch["environment"], self.estimator.gradient_graph)
        values = {"nll": objective.cells_nll(prediction, rows[:, 0], scored)}
        values["nll_baseline"] = objective.baseline_nll(rows[:, 0], scored, self.baseline_log_scale)
        weight = weight_among_ranks(self.trainer, count)
        self.log_dict({f"{stage}/{k}": v for k, v in values.items()}, batch_size=weight, sync_dist=True, prog_bar=True)


def _adam(parameters: Any, lr: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=lr, betas=(0.9, 0.99))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def _pairs(groups: Sequence[Sequence[str]]) -> list[list[str]]:
    return [[str(name) for name in group] for group in groups or ()]
