from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stablelit.errors import ConfigurationError
from stablelit.functional.score_groups import group_scores
from stablelit.functional.thresholds import counts_at, sweep, threshold_curve


def two_loops(scores, labels, square=1):
    """The largest F-beta in exact arithmetic, with the fewest predictions: (value, predicted, true positives)."""
    best = (Fraction(-1), 0, 0)
    for threshold in [float("inf"), *sorted(set(scores), reverse=True)]:
        predicted = right = 0
        for score, label in zip(scores, labels, strict=True):
            predicted += score >= threshold
            right += bool(score >= threshold and label)
        value = Fraction((1 + square) * right, predicted + square * sum(labels))
        if value > best[0]:
            best = (value, predicted, right)
    return best


numbers = st.one_of(st.integers(-3, 3).map(float), st.floats(-2, 2, width=32))
samples = st.lists(st.tuples(numbers, st.booleans()), min_size=1, max_size=20).filter(lambda s: any(y for _, y in s))


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(samples, st.sampled_from([torch.float32, torch.float64, torch.bfloat16]), st.sampled_from([1, 2]))
def test_the_best_is_the_best_of_two_loops(pairs, dtype, beta):
    scores = torch.tensor([score for score, _ in pairs], dtype=dtype)
    labels = [label for _, label in pairs]
    _, best = sweep(scores, torch.tensor(labels), "fbeta", beta)
    value, predicted, right = two_loops(scores.tolist(), labels, beta**2)
    assert (best.predicted, best.true_positives) == (predicted, right)
    assert best.f_beta(beta) == pytest.approx(float(value), rel=1e-15)


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(samples, st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]))
def test_every_threshold_of_the_curve_predicts_as_many_as_it_says(pairs, dtype):
    scores = torch.tensor([score for score, _ in pairs], dtype=dtype)
    groups = group_scores(scores, torch.tensor([label for _, label in pairs]))
    curve = threshold_curve(groups)
    for index in range(len(curve.predicted)):
        counts = curve.at(index)
        at_least = int((scores >= counts.threshold).sum())
        assert at_least == counts.predicted == counts_at(groups, counts.threshold).predicted
        assert counts.threshold == curve.thresholds[index]
        # `>` agrees wherever a number lies between the two scores
        above = int((scores > counts.threshold).sum())
        assert above == at_least or counts.threshold in scores.tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_between_neighbouring_numbers_the_threshold_is_the_upper_one(dtype):
    one = torch.ones((), dtype=dtype)
    above = one + torch.finfo(dtype).eps
    _, best = sweep(torch.stack([one, above]), torch.tensor([0, 1]))
    assert best.threshold == above.item()
    assert (torch.stack([one, above]) >= best.threshold).tolist() == [False, True]


def test_infinite_scores():
    inf = float("inf")
    scores = torch.tensor([inf, 1.0, -inf])
    curve, best = sweep(scores, torch.tensor([1, 1, 0]))
    assert curve.predicted.tolist() == [1, 2, 3], "no threshold leaves out plus infinity"
    assert best.predicted == 2
    assert torch.isfinite(torch.tensor(best.threshold))
    for scores in (torch.tensor([inf, inf]), torch.tensor([-inf]), torch.tensor([inf, -inf])):
        curve, _ = sweep(scores, torch.ones_like(scores))
        assert [(scores >= t).sum().item() for t in curve.thresholds] == curve.predicted.tolist()


def test_ties_of_the_optimum_go_to_the_fewest_predictions():
    # F1 is 2/3 with one prediction, and again with four
    _, best = sweep(torch.tensor([0.9, 0.7, 0.6, 0.5, 0.1]), torch.tensor([1, 0, 0, 1, 0]))
    assert (best.predicted, best.f_beta()) == (1, pytest.approx(2 / 3))


def test_constant_scores_leave_nothing_and_everything():
    curve, best = sweep(torch.full((5,), 0.3), torch.tensor([1, 0, 0, 0, 0]))
    assert curve.predicted.tolist() == [0, 5]
    assert best.f_beta() == pytest.approx(2 / 6)


def test_without_positives_nothing_is_predicted_and_f1_is_undefined():
    _, best = sweep(torch.tensor([0.2, 0.4]), torch.tensor([0, 0]))
    assert best.predicted == 0
    assert np.isnan(best.f_beta())
    assert np.isnan(best.recall)
    assert np.isnan(best.precision)


def test_youden_and_accuracy_are_their_definitions():
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 12, 60) / 12, rng.random(60) < 0.4
    curve = threshold_curve(group_scores(scores, labels))
    for threshold, youden, accuracy in zip(
        curve.thresholds, curve.values("youden"), curve.values("accuracy"), strict=True
    ):
        predicted = scores >= threshold
        assert accuracy == pytest.approx((predicted == labels).mean())
        assert youden == pytest.approx(predicted[labels].mean() + (~predicted)[~labels].mean() - 1)


@pytest.mark.parametrize("points", [2, 21])
def test_a_grid_is_as_many_passes_as_it_has_points(points):
    rng = np.random.default_rng(3)
    scores, labels = (rng.integers(0, 21, 200) / 20).astype(np.float32), rng.random(200) < 0.3
    curve, best = sweep(scores, labels, grid=points)
    passes = [(t, int((scores >= np.float32(t)).sum())) for t in np.linspace(0, 1, points)[::-1]]
    assert [
        (curve.at(i).threshold, counts_at(curve.groups, curve.at(i).threshold).predicted) for i in range(points)
    ] == passes
    assert best.f_beta() == max(counts_at(curve.groups, t).f_beta() for t, _ in passes)


def test_the_grid_of_the_post_mortem_sees_nothing_of_small_scores():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(156) < 13
    scores = 0.003 * (torch.rand(156, generator=generator) + labels)
    _, grid = sweep(scores, labels, grid=21)
    assert (grid.threshold, grid.predicted) == (0.0, 156)
    assert sweep(scores, labels)[1].f_beta() > 0.5


def test_the_nearest_number_of_predictions():
    curve = threshold_curve(group_scores(torch.tensor([0.9, 0.5, 0.5, 0.5, 0.1]), torch.zeros(5)))
    assert [curve.nearest_count(n).predicted for n in (0, 1, 2, 3, 4, 5)] == [0, 1, 1, 4, 4, 5]


def test_scores_outside_zero_and_one_keep_their_order():
    # torchmetrics squashes a batch that has a score above 1, and only this one: two batches are then out of order
    from torchmetrics.classification import BinaryPrecisionRecallCurve

    batches = [(torch.tensor([0.1, 0.5]), torch.tensor([0, 1])), (torch.tensor([0.2, 1.5]), torch.tensor([0, 1]))]
    metric = BinaryPrecisionRecallCurve()
    for scores, labels in batches:
        metric.update(scores, labels)
    _, best = sweep(torch.cat([s for s, _ in batches]), torch.cat([y for _, y in batches]))
    assert best.f_beta() == 1.0
    precision, recall, _ = metric.compute()
    assert (2 * precision * recall / (precision + recall).clamp(min=1e-9)).max() < 1.0


@pytest.mark.parametrize(
    "arguments", [{"beta": 0.0}, {"beta": float("nan")}, {"grid": 1}, {"grid": True}, {"criterion": "auc"}], ids=str
)
def test_arguments_are_checked(arguments):
    with pytest.raises(ConfigurationError, match=next(iter(arguments))):
        sweep(torch.tensor([0.1, 0.2]), torch.tensor([0, 1]), **arguments)


def test_among_equal_values_of_youden_the_fewest_are_predicted():
    labels = np.array([0, 1, 1, 0, 1, 0, 1, 0, 0, 1, 0, 1])
    # tp / P - fp / N in floats is larger at 5 predictions than at 3, and in fractions it is the same
    assert sweep(-np.arange(12.0), labels, "youden")[1].predicted == 3
