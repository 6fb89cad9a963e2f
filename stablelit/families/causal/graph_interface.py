"""What a structure learner says of its graph: to callbacks, to a user and to a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from stablelit.families.causal.estimate import GraphEstimator
from stablelit.families.causal.evaluation import graph_figures
from stablelit.families.causal.fitting import RunningSums
from stablelit.families.causal.mechanisms import Mechanism
from stablelit.families.causal.objective import GraphObjective
from stablelit.families.causal.path_history import PathHistory
from stablelit.families.causal.statistics import TrainingStatistics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from stablelit.families.causal.edges import EdgeList


class KnowsItsGraph(pl.LightningModule):
    """The part of `StructureLearner` that is asked and trains nothing."""

    decision_threshold: Tensor
    mechanism: Mechanism
    statistics: TrainingStatistics
    estimator: GraphEstimator
    objective: GraphObjective
    _truth: Tensor | None
    _history: PathHistory
    sums: RunningSums

    def edge_scores(self) -> Tensor:
        """|W|, (d, d): larger where the gradient has found more of an edge."""
        return self.mechanism.edge_weights().detach().abs()

    def edge_truth(self) -> Tensor | None:
        """The true graph, where the datamodule knows it."""
        return None if self._truth is None else self._truth.to(self.decision_threshold.device)

    def edge_statistics(self) -> tuple[Tensor, float]:
        """Covariance (d, d) of a row given earlier ones, standardised, and how many rows it is worth."""
        return torch.from_numpy(self.statistics.conditional_covariance()), float(self.statistics.effective_n)

    def adjacency(self, threshold: float | None = None) -> Tensor:
        """The graph, (d, d) bool and acyclic; with a threshold that of the gradient, acyclic or not."""
        if threshold is not None:
            return (self.edge_scores() >= threshold) & self.mechanism.structure.allowed
        return self.estimator.graph

    def is_dag(self) -> bool:
        """Whether the graph is acyclic: always."""
        return self.estimator.is_acyclic()

    def edge_list(self) -> EdgeList:
        """The edges, and their confidence where it was asked for.

        Of a linear mechanism the weights are slopes in the columns' own units, of others the sizes of edges.
        """
        return self.estimator.edge_list(self.statistics, self._truth)

    def to_networkx(self) -> Any:
        """A `networkx.DiGraph` with the attributes of `edge_list`."""
        return self.edge_list().to_networkx()

    def figures(self) -> dict[str, Figure]:
        """Pictures of the graph."""
        figures = graph_figures(self.estimator, self.edge_list(), self._truth, self.edge_scores())
        if self._history.rows:
            figures["path"] = self._history.figure(self.objective.path.kind)
        return figures
