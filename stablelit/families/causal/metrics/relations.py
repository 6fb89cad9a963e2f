"""Relations between nodes as (d, d) bool matrices: who reaches whom, and who is joined to whom."""

from __future__ import annotations

import numpy as np

from stablelit.functional.score_groups import Array


def composed(left: Array, right: Array) -> Array:
    """``[i, j]``: whether some k has left[i, k] and right[k, j]; of (..., d, d) bool."""
    # by floats, since numpy multiplies only those by BLAS
    return np.asarray(left.astype(np.float32) @ right.astype(np.float32) > 0)


def reachable(graph: Array) -> Array:
    """(d, d) bool, whether there is a directed path from i to j; a node reaches itself."""
    reach = graph | np.eye(len(graph), dtype=bool)
    while True:
        further = composed(reach, reach)
        if (further == reach).all():
            return reach
        reach = further


def skeleton(graphs: Array) -> Array:
    """The pairs of nodes that are joined, each once: (..., d, d) bool, above the diagonal."""
    return np.triu(graphs | graphs.swapaxes(-1, -2), 1)
