"""Whether a learned graph is one: its edges, its distance to the truth, the threshold that makes it."""

from __future__ import annotations

import numpy as np

from stablelit.doctor.evidence import Curve, Evidence
from stablelit.findings import Finding

_EVALUATIONS = 3
_NEARLY_ALL = 0.95
_YOUNG, _HALF = 0.2, 0.5
_MANY_EVALUATIONS = 10


def empty(evidence: Evidence) -> Finding | None:
    """No edges at the last three evaluations: at once where there had been some, else when the run is no longer young.

    A method that begins at W = 0 has none at first, and that is healthy.
    """
    edges = evidence.curve("edges").finite()
    last = edges.tail(_EVALUATIONS).values
    if len(last) < _EVALUATIONS or float(last.max()) > 0.0:
        return None
    most = float(edges.values.max())
    if not _is_past(evidence, edges, _YOUNG):
        return None
    score = evidence.curve("f1").finite()
    other = ""
    if len(score) and score.last > 0.0:
        other = f" An F1 of {score.last:.3g} beside it belongs to another threshold: no edges have none."
    had = f" after {most:.0f} at most" if most > 0 else ""
    found = evidence.settings.keys.get("sparsity")
    weight = _sparsity(evidence)
    remedy = "a sparsity penalty ten times smaller"
    if found is not None and weight is not None:
        remedy = f"{evidence.settings.override('sparsity', weight / 10)}: {remedy}"
    return Finding(
        "graph-empty",
        "warning",
        f"no edge at the last {_trailing_zeros(edges)} evaluations{had}; at least one is expected.{other}",
        {"edges": 0, "most": most, "evaluations": _trailing_zeros(edges)},
        f"{remedy}, or a lower threshold where the largest |weight| lies below it: look at that first",
    )


def full(evidence: Evidence) -> Finding | None:
    """At the last three evaluations all d(d-1) edges, or nearly all, that d nodes can have.

    Where d is not known, the count has to be k(k-1) of a whole k, and more than twice that of the truth.
    """
    edges = evidence.curve("edges").finite()
    last = edges.tail(_EVALUATIONS).values
    if len(last) < _EVALUATIONS or not _is_past(evidence, edges, _YOUNG):
        return None
    least, nodes, truth = float(last.min()), evidence.curve("nodes").last, evidence.curve("true_edges").last
    if not nodes >= 3:
        nodes = round(0.5 + (0.25 + least) ** 0.5) if least >= 0 else 0
        if nodes < 3 or np.any(last != nodes * (nodes - 1)) or not least > 2.0 * truth:
            return None
    most = nodes * (nodes - 1)
    if least < _NEARLY_ALL * most or 2.0 * truth >= most:
        return None
    return Finding(
        "graph-full",
        "warning",
        f"{least:.0f} of the {most:.0f} edges that {nodes:.0f} nodes can have are in the graph, at {_EVALUATIONS} "
        f"evaluations in a row; a threshold or a penalty that leaves out the weak ones is expected.",
        {"edges": least, "possible": most, "evaluations": _EVALUATIONS},
        "a higher threshold where weak edges are small but not zero, else a stronger sparsity penalty",
    )


def worse_than_empty(evidence: Evidence) -> Finding | None:
    """The best distance of the last quarter of evaluations, three at least, is above that of the empty graph."""
    distance, truth = evidence.curve("shd").finite(), evidence.curve("true_edges").finite()
    if len(distance) < _EVALUATIONS or not len(truth) or not _is_past(evidence, distance, _HALF):
        return None
    late = distance.tail(max(_EVALUATIONS, len(distance) // 4)).values
    best, none = float(late.min()), float(truth.last)
    if none <= 0 or best <= none:
        return None
    return Finding(
        "worse-than-empty-graph",
        "warning",
        f"the structural Hamming distance is {distance.last:g} (best of the last {len(late)}: {best:g}), and that of "
        f"a graph without any edge is {none:g}: most edges that are found are wrong.",
        {"shd": float(distance.last), "best": best, "empty": none, "evaluations": len(late)},
        "a higher threshold or a stronger sparsity penalty keeps fewer edges; compare also with the edges reversed, "
        "since data that were standardised may not tell a direction",
    )


def threshold_at_the_end(evidence: Evidence) -> Finding | None:
    """The best threshold is exactly 0 or 1 at the last three evaluations, in a run that is no longer young."""
    best = evidence.curve("threshold").finite()
    last = best.tail(_EVALUATIONS).values
    if len(last) < _EVALUATIONS or not _is_past(evidence, best, _YOUNG):
        return None
    end = float(last[-1])
    if end not in (0.0, 1.0) or np.any(last != end):
        return None
    side = "everything counts as found" if end == 0.0 else "next to nothing counts as found"
    return Finding(
        "threshold-at-the-grids-end",
        "warning",
        f"the best threshold is {end:g}, an end of its grid, at {_EVALUATIONS} evaluations in a row ({side}); "
        f"an optimum between 0 and 1 is expected.",
        {"threshold": end, "evaluations": _EVALUATIONS},
        "take the scores' own quantiles as the grid, and compare the score with that of predicting everything",
    )


def _is_past(evidence: Evidence, curve: Curve, share: float) -> bool:
    """Whether so much of the run is over, or, where its length is not known, there have been many evaluations."""
    if evidence.ended:
        return True
    if evidence.planned_steps is None:
        return len(curve) >= _MANY_EVALUATIONS
    return evidence.step >= share * evidence.planned_steps


def _trailing_zeros(curve: Curve) -> int:
    some = np.flatnonzero(curve.values > 0)
    return len(curve) - (int(some[-1]) + 1 if len(some) else 0)


def _sparsity(evidence: Evidence) -> float | None:
    value = evidence.settings.hyperparameters.get(evidence.settings.keys.get("sparsity", ""))
    return float(value) if isinstance(value, int | float) and value > 0 else None
