"""Other learners of causal graphs, each with its documented settings, where it is installed.

A learner takes a complete table ``(n, d)`` and returns ``(d, d)`` bool, True at [i, j] for the edge i -> j, acyclic or
not. `pip install 'stablelit[bench]'` brings them.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stablelit.families.causal.sortability import regress_in_order

Table = NDArray[np.float64]
Graph = NDArray[np.bool_]
Learner = Callable[[Table], Graph]

# how each is called in the rows, and the module that it needs
NEEDED = {
    "dagma": "dagma",
    "gcastle NOTEARS": "castle",
    "DirectLiNGAM": "causallearn",
    "DirectLiNGAM order": "causallearn",
}
PACKAGES = {"dagma": "dagma", "castle": "gcastle", "causallearn": "causal-learn"}


def missing_packages() -> list[str]:
    """Names, as pip takes them, of the peers that are not here."""
    return [package for module, package in PACKAGES.items() if importlib.util.find_spec(module) is None]


@cache
def learner(name: str) -> Learner | None:
    """The learner of that name; None where its package is not installed."""
    return _LEARNERS[name]() if importlib.util.find_spec(NEEDED[name]) else None


def quietly(action: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """What `action` returns and its CPU seconds; what it prints is not passed on."""
    logging.disable(logging.INFO)  # gcastle's steps
    # gcastle and causal-learn set torch's default type to double when they are imported
    default_type = torch.get_default_dtype()
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            begin = time.process_time()
            found = action(*arguments)
            return found, time.process_time() - begin
    finally:
        logging.disable(logging.NOTSET)
        torch.set_default_dtype(default_type)


def standardised(values: Table) -> Table:
    return (values - values.mean(axis=0)) / values.std(axis=0)


def _dagma() -> Learner:
    """lambda1 of its README's example; the other defaults, which drop weights below 0.3."""
    from dagma.linear import DagmaLinear

    return lambda x: DagmaLinear(loss_type="l2").fit(x.copy(), lambda1=0.02) != 0


def _notears() -> Learner:
    """All defaults: lambda1 0.1, weights below 0.3 dropped. It expects centred columns."""

    def learn(x: Table) -> Graph:
        from castle.algorithms import Notears

        method = Notears()
        method.learn(x - x.mean(axis=0))
        return np.asarray(method.causal_matrix) != 0

    return learn


def _lingam_fit(x: Table) -> Any:
    from causallearn.search.FCMBased.lingam import DirectLiNGAM

    method = DirectLiNGAM()
    method.fit(x)
    return method


def _lingam() -> Learner:
    """All defaults: edges by its adaptive lasso. Its matrix has causes in columns."""
    return lambda x: np.asarray(_lingam_fit(x).adjacency_matrix_).T != 0


def _lingam_order() -> Learner:
    """Its order, and parents by the BIC that ours uses: the fairer peer, since an adaptive lasso keeps tiny weights."""

    def learn(x: Table) -> Graph:
        order = np.asarray(_lingam_fit(x).causal_order_)
        return regress_in_order(np.corrcoef(x, rowvar=False), order, len(x)) != 0

    return learn


_LEARNERS: dict[str, Callable[[], Learner]] = {
    "dagma": _dagma,
    "gcastle NOTEARS": _notears,
    "DirectLiNGAM": _lingam,
    "DirectLiNGAM order": _lingam_order,
}
