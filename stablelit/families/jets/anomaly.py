"""How well a score tells anomalous jets from ordinary ones, beside scores that need no model. Pure functions."""

from __future__ import annotations

import torch
from torch import Tensor

from stablelit.errors import DataError
from stablelit.families.jets.metrics import jet_mass


def roc_auc(score: Tensor, is_anomalous: Tensor) -> float:
    """Area under the receiver operating characteristic: P(score of an anomalous jet > score of an ordinary one).

    ``AUC = (R - n_a (n_a + 1) / 2) / (n_a n_o)`` with R the sum of the ranks of the anomalous ones, equal scores having
    their mean rank (Mann and Whitney 1947). Chance is 0.5.

    Args:
        score: ``(n,)``, larger for what is more anomalous.
        is_anomalous: ``(n,)`` bool.

    Raises:
        DataError: a score that is not a number, or only one kind of jet.
    """
    n_anomalous = int(is_anomalous.sum())
    n_ordinary = len(is_anomalous) - n_anomalous
    if n_anomalous == 0 or n_ordinary == 0:
        raise DataError(
            f"roc_auc: {n_anomalous} anomalous and {n_ordinary} ordinary jets. Allowed: at least one of each."
        )
    if bool(score.isnan().any()):
        raise DataError(f"roc_auc: {int(score.isnan().sum())} of {len(score)} scores are not a number.")
    _, place, count = torch.unique(score, return_inverse=True, return_counts=True)
    mean_rank = count.cumsum(0).double() - 0.5 * (count.double() - 1.0)
    ranks = mean_rank[place][is_anomalous].sum()
    return float((ranks - 0.5 * n_anomalous * (n_anomalous + 1)) / (n_anomalous * n_ordinary))


def anomaly_auc(scores: dict[str, Tensor], particles: Tensor, mask: Tensor, is_anomalous: Tensor) -> dict[str, float]:
    """The AUC of every score given, of the jet mass, of the number of particles, and of chance.

    Args:
        scores: name to ``(n,)``, larger for what is more anomalous, e.g. those of `JetVAE.score`.
        particles: ``(n, N, 3)`` of the same jets.
        mask: ``(n, N)`` bool.
        is_anomalous: ``(n,)`` bool.
    """
    trivial = {"jet mass": jet_mass(particles, mask), "number of particles": mask.sum(dim=1).double()}
    found = {name: roc_auc(values, is_anomalous) for name, values in {**scores, **trivial}.items()}
    return {**found, "chance": 0.5}
