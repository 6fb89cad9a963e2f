r"""How sure a learned graph is of its edges: in how many resamplings of the rows each edge is found again.

Rows of a time series depend on their neighbours. Drawn one by one they would look like more evidence than they are, so
blocks of consecutive rows are drawn (the moving block bootstrap, Kuensch 1989, Annals of Statistics 17): starts are
uniform over all :math:`n - \ell + 1` blocks of length :math:`\ell`, and :math:`\lceil n/\ell \rceil` of them are
joined and cut to n rows. Of graphs: Friedman, Goldszmidt, Wyner 1999 (UAI).

A frequency is no probability that the edge is there: a learner that is wrong in the same way on every sample has
frequencies of 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stablelit.errors import DataError, bad_argument
from stablelit.functional.edge_thresholds import checked_graphs
from stablelit.functional.schedules import check_count
from stablelit.functional.score_groups import Array

_OWNER = "bootstrap_confidence"


@dataclass(frozen=True)
class EdgeConfidence:
    """The shares of resamplings.

    Args:
        directed: (d, d) float64, of those that have i -> j.
        joined: (d, d) float64 and symmetric, of those that have i -> j or j -> i.
        draws: how many resamplings there were.
    """

    directed: Array
    joined: Array
    draws: int

    @property
    def standard_error(self) -> Array:
        r"""(d, d) of `directed`, :math:`\sqrt{p(1-p)/n}` for n draws; that of the draws, not that of the data."""
        return np.asarray(np.sqrt(self.directed * (1.0 - self.directed) / self.draws))


def bootstrap_confidence(
    rows: int,
    learn: Callable[[NDArray[np.int64]], Any],
    n: int = 100,
    block: int | None = None,
    groups: Array | None = None,
    seed: int = 0,
) -> EdgeConfidence:
    """Learns a graph from each of `n` resamplings of the rows.

    Args:
        rows: how many rows there are.
        learn: takes row numbers (rows,), with repetitions, and returns the graph of those rows, (d, d) bool or 0 and 1.
        n: how many resamplings.
        block: rows of a block, for a time series: longer than the memory of the data, and far shorter than the series.
            None draws rows one by one.
        groups: (rows,) numbers: rows of one group are exchanged for rows of the same group, and no block reaches into
            another, such as the environments or the recordings that rows come from.
        seed: the same seed draws the same rows.

    Returns:
        The shares by edge and by joined pair.

    Raises:
        ConfigurationError: fewer than 2 rows, no draw, a block shorter than 1 or longer than the rows of a group.
        DataError: groups of another length, or of which one is not consecutive where blocks are drawn; `learn` returns
            no graph, or one of another size than before.

    Example:
        >>> confidence = bootstrap_confidence(20, lambda index: np.array([[0, index[0] % 2], [0, 0]]), n=400)
        >>> bool(abs(confidence.directed[0, 1] - 0.5) < 0.1)
        True
    """
    check_count(_OWNER, "rows", rows, 2)
    check_count(_OWNER, "n", n, 1)
    check_count(_OWNER, "seed", seed, 0)
    parts = _parts(rows, groups, block)
    if block is not None:
        check_count(_OWNER, "block", block, 1)
        shortest = min(map(len, parts))
        if block > shortest:
            raise bad_argument(_OWNER, "block", block, f"at most {shortest}, the rows of the shortest group")
    rng = np.random.default_rng(seed)
    directed: Array | None = None
    joined: Array | None = None
    for draw in range(n):
        index = np.concatenate([part[_resampled(len(part), block, rng)] for part in parts])
        graph = checked_graphs(learn(index), f"{_OWNER}: the graph of draw {draw}")
        if len(graph) != 1 or (directed is not None and graph.shape[1:] != directed.shape):
            raise DataError(
                f"{_OWNER}: `learn` returned a graph of shape {graph.shape} in draw {draw}; allowed: (d, d), and the "
                f"same d each time."
            )
        if directed is None or joined is None:
            directed, joined = np.zeros((2, *graph.shape[1:]))
        directed += graph[0]
        joined += graph[0] | graph[0].T
    assert directed is not None
    assert joined is not None
    return EdgeConfidence(directed / n, joined / n, n)


def _resampled(rows: int, block: int | None, rng: np.random.Generator) -> NDArray[np.int64]:
    """(rows,) numbers below `rows`."""
    if block is None:
        return rng.integers(rows, size=rows)
    starts = rng.integers(rows - block + 1, size=-(-rows // block))
    return (starts[:, None] + np.arange(block)).reshape(-1)[:rows]


def _parts(rows: int, groups: Array | None, block: int | None) -> list[NDArray[np.int64]]:
    """The row numbers of each group, ascending."""
    if groups is None:
        return [np.arange(rows)]
    marks = np.asarray(groups)
    if marks.shape != (rows,):
        raise DataError(f"{_OWNER}: groups of shape {marks.shape} for {rows} rows; allowed: {(rows,)}.")
    parts = [np.flatnonzero(marks == mark) for mark in np.unique(marks)]
    if block is not None:
        for part in parts:
            if part[-1] - part[0] + 1 != len(part):
                raise DataError(
                    f"{_OWNER}: rows of group {marks[part[0]]!r} lie apart, from {part[0]} to {part[-1]}; allowed with "
                    f"blocks: groups of consecutive rows. Sort the rows by group, or number the stretches."
                )
    return parts
