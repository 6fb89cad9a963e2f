"""Scores of given features: few-shot accuracy over many episodes, nearest neighbours, a linear probe."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from stablelit.data import EpisodicSampler
from stablelit.families.sketches.linear_probe import fit_linear_probe
from stablelit.functional.intervals import mean_and_interval
from stablelit.functional.nearest_neighbours import chance_of_vote, leave_one_out_top1
from stablelit.functional.prototypes import few_shot_accuracy, simple_shot

EPISODES, MOST_QUERIES = 600, 15
# similarities of so many episodes at a time
_AT_ONCE = 100


def feature_scores(
    features: Tensor,
    labels: Tensor,
    few_shot: Sequence[tuple[int, int]],
    seed: int = 0,
    centre: Tensor | None = None,
) -> dict[str, float]:
    """Scores of features with labels; sketches without a label do not count.

    Args:
        features: ``(n, d)``.
        labels: ``(n,)`` int64, -1 where unknown.
        few_shot: way and shot of each row; those that the classes do not allow are left out.
        seed: of episodes, and of the halves of a class that a linear probe is fitted to and judged by.
        centre: ``(d,)``, subtracted before features become unit vectors in few-shot episodes; None is their mean.

    Returns:
        ``few_shot_<way>w<shot>s`` with ``..._interval`` (half of the 95 % interval over 600 episodes) and
        ``..._chance``; ``knn_top1`` (each by all others) and ``linear_top1`` (half of each class by the other half),
        with what a random neighbour and the largest class score as ``..._chance``.
    """
    known = labels >= 0
    features, labels = features[known].float(), labels[known]
    scores: dict[str, float] = {}
    counts = torch.unique(labels, return_counts=True)[1]
    if len(counts) < 2:
        return scores
    unit = simple_shot(features, features.mean(dim=0) if centre is None else centre)
    for way, shot in few_shot:
        accuracy = few_shot_accuracies(unit, labels, way, shot, seed)
        if accuracy is not None:
            mean, interval = mean_and_interval(accuracy)
            name = f"few_shot_{way}w{shot}s"
            scores |= {name: float(mean), f"{name}_interval": float(interval), f"{name}_chance": 1.0 / way}
    scores["knn_top1"] = float(leave_one_out_top1(unit, labels))
    scores["knn_top1_chance"] = float(chance_of_vote(labels, labels, leave_one_out=True))
    fitted, judged = _halves(labels, seed)
    if len(judged):
        probe = fit_linear_probe(features[fitted], labels[fitted])
        scores["linear_top1"] = probe.accuracy(features[judged], labels[judged])
        scores["linear_top1_chance"] = float(counts.max() / len(labels))
    return scores


def few_shot_accuracies(
    unit: Tensor, labels: Tensor, way: int, shot: int, seed: int = 0, episodes: int = EPISODES
) -> Tensor | None:
    """The accuracy of each episode with nearest prototypes, ``(episodes,)``; None where the classes do not allow it.

    Args:
        unit: ``(n, d)``.
        labels: ``(n,)``.
        way: classes of an episode.
        shot: support sketches of a class; up to 15 others are its queries.
        seed: of the episodes.
        episodes: how many.
    """
    _, place, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    enough = counts > shot
    if int(enough.sum()) < way:
        return None
    queries = min(MOST_QUERIES, int(counts[enough].min()) - shot)
    # every rank has all of them
    alone = {"num_replicas": 1, "rank": 0}
    sampler = EpisodicSampler(
        torch.where(enough[place], place, -1).numpy(), way, shot, queries, episodes, seed, fixed=True, **alone
    )
    places = torch.tensor(list(sampler))
    return torch.cat([few_shot_accuracy(unit[some], way, shot, queries) for some in places.split(_AT_ONCE)])


def _halves(labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Places of one half of each class, and of the other; a class of one is in the first."""
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(labels)))
    by_class = order[torch.argsort(labels[order], stable=True)]
    of = labels[by_class]
    within = torch.arange(len(of)) - torch.searchsorted(of, of)
    return by_class[within % 2 == 0], by_class[within % 2 == 1]
