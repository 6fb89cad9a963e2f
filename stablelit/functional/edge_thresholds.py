r"""Thresholds of directed graphs: structural Hamming distance, the sparsest-cyclic limit, BIC, stability selection.

Convention: ``scores[i, j]`` is for the edge i -> j, larger is likelier, and the diagonal is never looked at. With A the
predicted and T the true edges, off the diagonal,

.. math:: \mathrm{SHD} = |A| + |T| - 2|A \cap T| - (2 - c)\,
          \#\{(i, j) : A_{ij},\, \lnot A_{ji},\, T_{ji},\, \lnot T_{ij}\},

where c, `reversal_cost`, is what an edge that points the wrong way costs: 1 in NOTEARS, dagma and gcastle, 2 in cdt and
in :math:`\sum |A - T|`.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from stablelit.errors import DataError
from stablelit.functional.score_groups import Array, ScoreGroups, group_scores
from stablelit.functional.thresholds import Counts, ThresholdCurve, threshold_curve

REVERSAL_COSTS = (1, 2)


class EdgeCurve:
    """The cuts of one graph's scores, or of several graphs that share a threshold.

    Args:
        scores: (d, d) or (B, d, d).
        truth: the same shape, or (d, d) for all graphs; None where it is not known.
        reversal_cost: 1 or 2.
        grid: as in :func:`stablelit.functional.thresholds.sweep`.

    Raises:
        DataError: not square, NaN, fewer than two nodes; truth of another shape, not 0 and 1, or with self-loops.
    """

    def __init__(
        self,
        scores: Tensor | Array,
        truth: Tensor | Array | None = None,
        reversal_cost: int = 1,
        grid: int | None = None,
    ) -> None:
        self.scores = square_matrices(scores, "edge scores")
        graphs, nodes = self.scores.shape[:2]
        self.truth = None if truth is None else true_graphs(truth, self.scores.shape)
        self.off_diagonal = np.broadcast_to(~np.eye(nodes, dtype=bool), self.scores.shape)
        marks = np.zeros(self.scores.shape, dtype=bool) if self.truth is None else self.truth
        dtype = scores.dtype if isinstance(scores, Tensor) and scores.is_floating_point() else torch.float64
        kept = torch.from_numpy(self.scores[self.off_diagonal])
        self.curve: ThresholdCurve = threshold_curve(group_scores(kept.to(dtype), marks[self.off_diagonal]), grid)
        self.graphs, self.reversal_cost = graphs, reversal_cost

    @property
    def groups(self) -> ScoreGroups:
        """The pooled scores off the diagonal."""
        return self.curve.groups

    def structural_hamming_distances(self) -> Array:
        """(C,) SHD of each cut, summed over the graphs."""
        assert self.truth is not None
        groups = self.groups
        distance = groups.predicted + groups.positives - 2 * groups.true_positives
        if self.reversal_cost == 1:
            distance = distance - self._reversed_edges()
        return np.asarray(distance[self.curve.cuts])

    def fewest_errors(self) -> Counts:
        """The cut with the smallest SHD; among equals the one with the fewest edges."""
        return self.curve.at(int(np.argmin(self.structural_hamming_distances())))

    def most_edges_without_cycle(self) -> Counts:
        """The smallest threshold at which every graph is acyclic, by bisection: more edges never open a cycle.

        Where even the first cut of a grid has a cycle, it is that one.
        """
        return self.curve.at(self._last_acyclic())

    def smallest_bic(self, covariance: Tensor | Array, samples: float, penalty: float = 2.0) -> Counts:
        r"""The acyclic cut with the smallest :math:`\sum_j n\log\mathrm{RSS}_j + \lambda\,|E|\log n`.

        Each node is regressed on the parents that the cut gives it. Adding an edge changes one node's term. With
        `penalty` 2 an edge costs twice what plain BIC asks, which guards against the search over graphs.

        Args:
            covariance: (d, d) of the data.
            samples: effective number of samples, n.
            penalty: :math:`\lambda`.

        Raises:
            DataError: several graphs, a covariance of another shape or not finite.
        """
        cov = np.asarray(torch.as_tensor(covariance).detach().cpu().double().numpy())
        nodes = self.scores.shape[1]
        if self.graphs != 1 or cov.shape != (nodes, nodes) or not np.isfinite(cov).all() or (np.diag(cov) <= 0).any():
            raise DataError(
                f"bic: a finite covariance of shape {(nodes, nodes)} with a positive diagonal is needed, for one "
                f"graph; there are {self.graphs} graphs and a covariance of shape {cov.shape}."
            )
        values, terms = np.full(len(self.curve.predicted), np.inf), np.log(np.diag(cov))
        before = np.zeros((nodes, nodes), dtype=bool)
        for index in range(self._last_acyclic() + 1):
            counts = self.curve.at(index)
            now = self.predicted_graphs(counts)[0]
            for node in np.flatnonzero((now & ~before).any(axis=0)):
                terms[node] = math.log(_residual_variance(cov, np.flatnonzero(now[:, node]), int(node)))
            values[index] = samples * terms.sum() + penalty * math.log(samples) * counts.predicted
            before = now
        return self.curve.at(int(np.argmin(values)))

    def predicted_graphs(self, counts: Counts) -> Array:
        """(B, d, d) bool, the edges of a cut of this curve."""
        return edges_at(self.scores, counts.threshold, self.groups.dtype)

    def _last_acyclic(self) -> int:
        low, high = 0, len(self.curve.predicted)
        while high - low > 1:
            middle = (low + high) // 2
            if is_acyclic(self.predicted_graphs(self.curve.at(middle))).all():
                low = middle
            else:
                high = middle
        return low

    def _reversed_edges(self) -> Array:
        """(G + 1,) how many true edges are there the wrong way round, and only so, once g groups are predicted."""
        assert self.truth is not None
        backward = self.scores.swapaxes(1, 2)
        # of the entry j -> i, where only i -> j is true: it is alone from its own group on, up to the right one's
        wrong = self.truth.swapaxes(1, 2) & ~self.truth & (self.scores > backward)
        changes = np.zeros(len(self.groups.predicted), dtype=np.int64)
        for scores, sign in ((self.scores[wrong], 1), (backward[wrong], -1)):
            places = np.searchsorted(-self.groups.scores.astype(np.float64), -scores, "left")
            np.add.at(changes, places + 1, sign)
        return np.cumsum(changes)


def square_matrices(scores: Tensor | Array, what: str) -> Array:
    """(B, d, d) float64 of (d, d) or (B, d, d).

    Raises:
        DataError: not square, fewer than two nodes, NaN off the diagonal.
    """
    # an array that may not be written to, such as a broadcast one, is no tensor without a warning
    given = scores if isinstance(scores, np.ndarray) else torch.as_tensor(scores).detach().cpu().double().numpy()
    matrices = np.asarray(given, dtype=np.float64)
    shape = matrices.shape
    if matrices.ndim not in (2, 3) or shape[-1] != shape[-2] or shape[-1] < 2 or shape[0] == 0:
        raise DataError(f"{what} have shape {shape}; allowed: (d, d) or (B, d, d) with d of 2 or more.")
    matrices = matrices.reshape(-1, *shape[-2:])
    nan = np.isnan(matrices) & ~np.eye(shape[-1], dtype=bool)
    if nan.any():
        raise DataError(f"{what}: {int(nan.sum())} of {nan.size} are NaN, the first at {_first(nan, scores)}.")
    return matrices


def _first(marked: Array, given: Tensor | Array) -> tuple[int, ...]:
    """The first marked place of (B, d, d), as an index into what was given."""
    return tuple(int(i) for i in np.argwhere(marked)[0][-np.ndim(given) :])


def true_graphs(truth: Tensor | Array, shape: tuple[int, ...]) -> Array:
    """(B, d, d) bool.

    Raises:
        DataError: another shape, values other than 0 and 1, self-loops.
    """
    graphs = checked_graphs(truth, "true edges")
    if graphs.shape[1:] != shape[1:] or graphs.shape[0] not in (1, shape[0]):
        raise DataError(f"true edges have shape {graphs.shape} and edge scores {shape}; allowed: the same shape.")
    return np.broadcast_to(graphs, shape)


def checked_graphs(edges: Tensor | Array, what: str) -> Array:
    """(B, d, d) bool of (d, d) or (B, d, d).

    Raises:
        DataError: as `square_matrices`, values other than 0 and 1, self-loops.
    """
    graphs = square_matrices(edges, what)
    other = (graphs != 0) & (graphs != 1)
    if other.any():
        raise DataError(
            f"{what}: {int(other.sum())} entries are neither 0 nor 1, the first at {_first(other, edges)}. "
            f"Give the graph, not its weights: (weights != 0)."
        )
    loops = np.diagonal(graphs, axis1=1, axis2=2)
    if loops.any():
        raise DataError(f"{what}: {int(loops.sum())} self-loops, the first at node {int(np.argwhere(loops)[0][1])}.")
    return graphs.astype(bool)


def edges_at(scores: Array, threshold: float, dtype: torch.dtype = torch.float64) -> Array:
    """(B, d, d) bool: ``scores >= threshold`` off the diagonal, compared in `dtype` as a module compares."""
    rounded = float(torch.tensor(threshold, dtype=dtype))
    return np.asarray((scores >= rounded) & ~np.eye(scores.shape[-1], dtype=bool))


def structural_hamming_distance(predicted: Array, truth: Array, reversal_cost: int = 1) -> int:
    """SHD of one graph, or the sum over graphs: the module's formula on (..., d, d) bool."""
    off = ~np.eye(predicted.shape[-1], dtype=bool)
    a, t = predicted & off, truth & off
    differ = int((a != t).sum())
    wrong_way = a & ~a.swapaxes(-1, -2) & t.swapaxes(-1, -2) & ~t
    return differ - (2 - reversal_cost) * int(wrong_way.sum())


def is_acyclic(adjacency: Array) -> Array:
    """(...,) whether each graph of (..., d, d) bool has no directed cycle: takes away nodes without a parent (Kahn)."""
    alive = np.ones(adjacency.shape[:-1], dtype=bool)
    while True:
        with_parent = (adjacency & alive[..., :, None]).any(axis=-2)
        left = alive & with_parent
        if (left == alive).all():
            return np.asarray(~alive.any(axis=-1))
        alive = left


def edge_frequencies(half_samples: Tensor | Array, edges: int) -> Array:
    """(d, d) in how many of the graphs that were fitted to half-samples an edge is among the first `edges`.

    Meinshausen and Buehlmann 2010, arXiv 0809.2932. Edges that tie for the last place are left out, so that a graph
    never has more than `edges`.

    Args:
        half_samples: (B, d, d) edge scores, each fitted to another half of the samples.
        edges: how many edges each graph has, q.

    Raises:
        DataError: as `square_matrices`, fewer than 2 graphs, as many edges as there are places.
    """
    scores = square_matrices(half_samples, "half-sample edge scores")
    graphs, nodes = scores.shape[:2]
    if graphs < 2 or not 1 <= edges < nodes * (nodes - 1):
        raise DataError(
            f"stability: {graphs} half-samples and {edges} edges each of {nodes * (nodes - 1)}; allowed: 2 or more "
            f"half-samples (50 are usual), and at least 1 and fewer edges than there are places."
        )
    off = ~np.eye(nodes, dtype=bool)
    next_best = -np.sort(-scores[:, off], axis=1)[:, edges]
    return np.asarray(((scores > next_best[:, None, None]) & off).mean(axis=0))


def false_edges_bound(edges: int, frequency: float, places: int) -> float:
    r"""The expected number of false edges is at most :math:`q^2 / ((2\pi - 1) N)` (their theorem 1), q edges, N places.

    It assumes that false edges are exchangeable and that the learner is no worse than guessing.
    """
    return edges**2 / ((2 * frequency - 1) * places)


def _residual_variance(covariance: Array, parents: Array, node: int) -> float:
    if not len(parents):
        return float(covariance[node, node])
    block, along = covariance[np.ix_(parents, parents)], covariance[parents, node]
    explained = along @ np.linalg.lstsq(block, along, rcond=None)[0]
    # a node that its parents explain entirely has no finite logarithm
    return float(max(covariance[node, node] - explained, 1e-12 * covariance[node, node]))


def graph_counts(predicted: Array, truth: Array) -> Array:
    """(B, 3) true positives, predictions and positives of each graph."""
    return np.stack([(predicted & truth).sum((1, 2)), predicted.sum((1, 2)), truth.sum((1, 2))], axis=1)
