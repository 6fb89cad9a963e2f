"""What ThresholdSweepValidation reads and logs of a learned graph: `edge_scores()` and `edge_truth()` of the module."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
import torch

from stablelit.callbacks._ranks import gather_from_ranks
from stablelit.callbacks._threshold_choice import WITHOUT_TRUTH, Outcome, ThresholdChoice
from stablelit.contracts import HasEdgeScores, HasEdgeStatistics, HasEdgeTruth, HasHalfSampleScores
from stablelit.errors import ContractError, DataError
from stablelit.functional.edge_thresholds import (
    EdgeCurve,
    edge_frequencies,
    false_edges_bound,
    graph_counts,
    is_acyclic,
    structural_hamming_distance,
)
from stablelit.functional.multilabel_thresholds import add_counts, counts_of
from stablelit.functional.schedules import check_flag
from stablelit.functional.score_groups import Array
from stablelit.functional.threshold_baselines import all_positive_f_beta, average_precision, bootstrap_interval
from stablelit.functional.thresholds import Counts, counts_at


class EdgeReader:
    """Asks a module for its graph.

    Args:
        choice: how a threshold is chosen, which says what is needed.
        allow_cyclic_truth: take true graphs that have cycles.
    """

    def __init__(self, choice: ThresholdChoice, allow_cyclic_truth: bool) -> None:
        self.choice = choice
        self.allow_cyclic_truth = check_flag(choice.owner, "allow_cyclic_truth", allow_cyclic_truth)

    def check(self, pl_module: Any) -> None:
        """Asks for the contract before anything runs.

        Raises:
            ContractError: a method that the choice needs is missing.
        """
        module, owner, select = type(pl_module).__name__, self.choice.owner, self.choice.select
        if not isinstance(pl_module, HasEdgeScores):
            raise ContractError(
                f"{owner}: {module} has no edge_scores(). Give it a method that returns (d, d) or (B, d, d), larger "
                f"where the edge from row to column is likelier; or take kind='samples'."
            )
        if self.choice.needs_truth and not isinstance(pl_module, HasEdgeTruth):
            raise ContractError(
                f"{owner}: select={select!r} needs the true graph, and {module} has no edge_truth(). These choices do "
                f"without: {', '.join(WITHOUT_TRUTH)}."
            )
        if select == "bic" and not isinstance(pl_module, HasEdgeStatistics):
            raise ContractError(
                f"{owner}: select='bic' needs {module}.edge_statistics(), which returns the covariance (d, d) of the "
                f"data and their effective number."
            )
        if select == "stability" and not isinstance(pl_module, HasHalfSampleScores):
            raise ContractError(
                f"{owner}: select='stability' needs {module}.half_sample_scores(), which returns edge scores of shape "
                f"(B, d, d), each fitted to another half of the samples."
            )

    def read(self, trainer: Any, pl_module: Any) -> EdgeEvaluation:
        """The graph as it is now; where ranks differ, the one of rank zero. Every rank must call it."""
        select = self.choice.select
        frequencies = None
        with torch.no_grad():
            if select == "stability":
                assert self.choice.stability_edges is not None
                frequencies = edge_frequencies(pl_module.half_sample_scores(), self.choice.stability_edges)
            scores = pl_module.edge_scores() if frequencies is None else torch.from_numpy(frequencies)
            truth = pl_module.edge_truth() if isinstance(pl_module, HasEdgeTruth) else None
            statistics = pl_module.edge_statistics() if select == "bic" else None
        if truth is None and self.choice.needs_truth:
            raise ContractError(
                f"{self.choice.owner}: {type(pl_module).__name__}.edge_truth() returned None and select={select!r} "
                f"needs the true graph. These choices do without: {', '.join(WITHOUT_TRUTH)}."
            )
        # a copy: until the threshold is chosen, a weight-averaging callback may exchange the weights in place
        scores = gather_from_ranks(trainer, torch.as_tensor(scores).detach().cpu().clone())[0]
        curve = EdgeCurve(scores, truth, self.choice.reversal_cost, self.choice.grid)
        if curve.truth is not None and not self.allow_cyclic_truth and not (fine := is_acyclic(curve.truth)).all():
            raise DataError(
                f"{self.choice.owner}: edge_truth() has a cycle in {int((~fine).sum())} of {len(fine)} graphs. Was the "
                f"matrix made symmetric? Where the cycle is meant, pass allow_cyclic_truth=True."
            )
        return EdgeEvaluation(self.choice, curve, statistics)


class EdgeEvaluation:
    """Chooses a threshold on a graph and measures it."""

    def __init__(self, choice: ThresholdChoice, curve: EdgeCurve, statistics: Any) -> None:
        self.choice, self.edges, self.statistics = choice, curve, statistics

    @property
    def truth_digest(self) -> str:
        """A fingerprint of the true graph; empty where there is none."""
        truth = self.edges.truth
        return "" if truth is None else hashlib.blake2b(np.packbits(truth).tobytes(), digest_size=8).hexdigest()

    def measure(self) -> Outcome:
        """Chooses and measures.

        Where the true graph decides, the score on it is `oracle_f1`; several graphs are cross-fitted besides, each half
        judged by the other's threshold, and give an interval.
        """
        choice, counts = self.choice, self._choose()
        values = {"best": counts.threshold, **self._of_the_graph(counts)}
        facts = {"predicted": float(counts.predicted), "total": float(counts.total), "positives": math.nan}
        facts["distinct"] = float(len(self.edges.groups.scores))
        name, main = choice.score_name, "edge_count"
        if choice.select == "stability":
            assert choice.stability_edges is not None
            places = counts.total // self.edges.graphs
            values["false_edges_bound"] = false_edges_bound(choice.stability_edges, choice.stability_frequency, places)
        if self.edges.truth is not None:
            score, null = counts.f_beta(choice.beta), choice.null([self.edges.groups], [counts])
            main = f"oracle_{name}" if choice.needs_truth else name
            values[main] = score
            values.update(self._against_truth(counts))
            if choice.needs_truth and self.edges.graphs > 1:
                values[name] = self._cross_fitted().f_beta(choice.beta)
            if choice.select != "stability":  # its scores are frequencies
                values[f"{name}_fixed"] = counts_at(self.edges.groups, choice.fixed).f_beta(choice.beta)
            values[f"{name}_null"], values[f"{name}_null_q95"] = null
            facts.update(positives=float(counts.positives), score=score, null_q95=null.q95)
        return Outcome([counts.threshold], values, main, self.edges.curve, facts, self.graphs(counts), self.edges)

    def measure_at(self, threshold: float, same_truth: bool) -> Outcome:
        """Measures a threshold that was chosen elsewhere; on the same graph its score stays an oracle's."""
        counts = counts_at(self.edges.groups, threshold)
        values, main = self._of_the_graph(counts), "edge_count"
        if self.edges.truth is not None:
            main = f"oracle_{self.choice.score_name}" if same_truth else self.choice.score_name
            values[main] = counts.f_beta(self.choice.beta)
            values.update(self._against_truth(counts))
        return Outcome([threshold], values, main)

    def graphs(self, counts: Counts) -> Array:
        """(B, d, d) bool."""
        return self.edges.predicted_graphs(counts)

    def _choose(self) -> Counts:
        choice, edges = self.choice, self.edges
        if choice.select == "shd":
            return edges.fewest_errors()
        if choice.select == "min_dag":
            return edges.most_edges_without_cycle()
        if choice.select == "bic":
            covariance, samples = self.statistics
            return edges.smallest_bic(covariance, samples, choice.bic_penalty)
        if choice.select == "stability":
            return counts_at(edges.groups, choice.stability_frequency)
        if choice.target_edges is not None:
            return edges.curve.nearest_count(choice.target_edges * edges.graphs)
        threshold = choice.fit([edges.groups])[0]
        if math.isnan(threshold):
            return Counts(math.nan, 0, 0, 0, edges.groups.total)
        return counts_at(edges.groups, threshold)

    def _cross_fitted(self) -> Counts:
        """Every second graph is judged by the threshold of the others, and they by its."""
        edges, choice = self.edges, self.choice
        assert edges.truth is not None
        scores = torch.from_numpy(edges.scores).to(edges.groups.dtype)
        halves = [
            EdgeCurve(scores[start::2], edges.truth[start::2], choice.reversal_cost, choice.grid) for start in (0, 1)
        ]
        a, b = (EdgeEvaluation(choice, half, None)._choose().threshold for half in halves)
        return add_counts(*(counts_of([half.groups], [t])[0] for half, t in zip(halves, (b, a), strict=True)))

    def _of_the_graph(self, counts: Counts) -> dict[str, float]:
        graphs = self.graphs(counts)
        return {"edge_count": graphs.sum() / len(graphs), "is_dag": float(is_acyclic(graphs).mean())}

    def _against_truth(self, counts: Counts) -> dict[str, float]:
        choice, edges, graphs = self.choice, self.edges, self.graphs(counts)
        assert edges.truth is not None
        values = {
            "precision": counts.precision,
            "recall": counts.recall,
            "auprc": average_precision(edges.groups),
            "prevalence": edges.groups.positives / edges.groups.total,
            f"{choice.score_name}_all": all_positive_f_beta(edges.groups.positives, edges.groups.total, choice.beta),
            "shd": structural_hamming_distance(graphs, edges.truth, choice.reversal_cost) / len(graphs),
            "shd_empty": edges.groups.positives / len(graphs),
        }
        if len(graphs) > 1 and counts.positives:
            low, high = bootstrap_interval(graph_counts(graphs, edges.truth), None, choice.beta)
            values.update({f"{choice.score_name}_low": low, f"{choice.score_name}_high": high})
        return values
