from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from stablelit.errors import DataError
from stablelit.functional.score_groups import group_scores, merge_groups, thin_groups


def counted(scores, labels):
    """The groups by a dictionary, from the largest score to the smallest."""
    samples, hits = Counter(scores), Counter(s for s, y in zip(scores, labels, strict=True) if y)
    return [(score, samples[score], hits[score]) for score in sorted(samples, reverse=True)]


def as_rows(groups):
    columns = groups.scores.tolist(), np.diff(groups.predicted).tolist(), np.diff(groups.true_positives).tolist()
    return list(zip(*columns, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("low", [-2.0, 0.0, -9.0], ids=["both signs", "positive", "negative"])
def test_groups_are_what_a_dictionary_counts(dtype, low):
    generator = torch.Generator().manual_seed(0)
    for n in (1, 2, 3, 50):
        scores = (low + 4 * torch.rand(n, generator=generator)).mul(4).round().div(4).to(dtype)
        labels = torch.rand(n, generator=generator) < 0.4
        groups = group_scores(scores, labels)
        assert as_rows(groups) == counted(scores.double().tolist(), labels.tolist())
        assert groups.dtype == dtype
        assert (groups.total, groups.positives) == (n, int(labels.sum()))


def test_minus_zero_ties_with_zero_and_infinities_have_their_places():
    scores = torch.tensor([0.0, -0.0, float("inf"), -float("inf"), 1e-45, -1e-45, 3.4e38])
    groups = group_scores(scores, torch.tensor([1, 0, 1, 0, 1, 0, 0]))
    assert groups.scores.tolist() == [
        float("inf"),
        scores[6].item(),
        scores[4].item(),
        0.0,
        scores[5].item(),
        -float("inf"),
    ]
    assert np.diff(groups.predicted).tolist() == [1, 1, 1, 2, 1, 1]


def test_neighbouring_numbers_do_not_tie():
    for dtype in (torch.float32, torch.float64):
        one = torch.ones((), dtype=dtype)
        pair = torch.stack([one, torch.nextafter(one, 2 * one)])
        assert len(group_scores(pair, torch.tensor([0, 1])).scores) == 2


def test_integers_and_several_dimensions_are_scores_too():
    groups = group_scores(torch.tensor([[3, 1], [3, 2]]), torch.tensor([[True, False], [False, True]]))
    assert as_rows(groups) == [(3.0, 2, 1), (2.0, 1, 1), (1.0, 1, 0)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_merged_parts_are_the_groups_of_the_whole(dtype):
    generator = torch.Generator().manual_seed(1)
    scores = torch.randint(-20, 20, (300,), generator=generator).to(dtype)
    labels = torch.rand(300, generator=generator) < 0.3
    parts = [group_scores(scores[i : i + 70], labels[i : i + 70]) for i in range(0, 300, 70)]
    assert as_rows(merge_groups(parts)) == as_rows(group_scores(scores, labels))


@pytest.mark.parametrize("bins", [2, 10, 64])
def test_thinning_moves_no_count_by_more_than_a_bin_or_a_tie(bins):
    rng = np.random.default_rng(2)
    scores = np.concatenate([rng.normal(size=5000).astype(np.float32), np.full(700, 0.25, np.float32)])
    labels = rng.random(5700) < 0.2
    whole = group_scores(scores, labels)
    thin = thin_groups(whole, bins)
    assert len(thin.scores) <= bins
    assert (thin.total, thin.positives) == (5700, int(labels.sum()))
    most = 700 + 5700 / bins
    for threshold in np.quantile(scores, np.linspace(0, 1, 301)):
        told = thin.predicted[np.searchsorted(-thin.scores, -threshold, "right")]
        assert abs(told - (scores >= threshold).sum()) <= most


def test_few_groups_are_left_as_they_are():
    groups = group_scores(torch.tensor([0.1, 0.1, 0.7]), torch.tensor([0, 1, 1]))
    assert thin_groups(groups, 2) is groups


@pytest.mark.parametrize(
    ("scores", "targets", "message"),
    [
        ([0.1, float("nan"), float("nan")], [0, 1, 1], "2 of 3 scores are NaN, the first at place 1"),
        ([0.1, 0.2], [0, 2], "1 of 2 targets are neither 0 nor 1, the first at place 1: 2"),
        ([0.1, 0.2], [0, -100], "first at place 1: -100"),
        ([0.1, 0.2], [0.5, 1], "first at place 0: 0.5"),
        ([[0.1], [0.2]], [0, 1], r"scores have shape \(2, 1\) and targets \(2,\).*squeeze"),
        ([], [], "no scores"),
    ],
)
def test_bad_input_is_named(scores, targets, message):
    with pytest.raises(DataError, match=message):
        group_scores(torch.tensor(scores), torch.tensor(targets))
