from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from stablelit.doctor.evidence.batches import BatchFacts, LabelFacts, LeafFacts
from stablelit.doctor.evidence.operations import LossTerm, OperationFacts
from stablelit.doctor.levels import (
    chance_level,
    double_softmax_floor,
    entropy,
    initial_loss_over_chance,
    loss_scale,
)


def test_the_level_of_classes_is_the_best_loss_of_a_constant_prediction() -> None:
    labels = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    constant = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.LBFGS([constant], max_iter=100)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(constant.expand(100, 3), labels)
        loss.backward()
        return loss

    optimizer.step(closure)
    term = LossTerm("cross_entropy", classes=3, target_leaf="y")
    batches = BatchFacts(labels=LabelFacts("y", {0: 60, 1: 30, 2: 10}))
    level = chance_level(term, batches)
    assert level is not None
    assert level.value == pytest.approx(closure().item(), rel=1e-4)
    assert level.uniform == pytest.approx(math.log(3))


@pytest.mark.parametrize("pairs", [4, 32])
def test_the_level_of_a_contrastive_loss_is_that_of_equal_embeddings(pairs: int) -> None:
    n = 2 * pairs
    logits = torch.zeros(n, n).masked_fill(torch.eye(n, dtype=torch.bool), float("-inf"))
    by_hand = F.cross_entropy(logits, torch.arange(n).roll(pairs))
    level = chance_level(LossTerm("cross_entropy", classes=n, candidates=n - 1.0), None)
    assert level is not None
    assert level.value == pytest.approx(float(by_hand)) == pytest.approx(math.log(2 * pairs - 1))


def test_the_level_of_a_squared_error_is_the_error_of_the_mean() -> None:
    y = torch.tensor([1.0, 2.0, 6.0])
    leaf = LeafFacts("y", "float", mean=[3.0], std=[float(y.std(correction=0))])
    level = chance_level(LossTerm("mse", target_leaf="y"), BatchFacts(leaves={"y": leaf}))
    assert level is not None
    assert level.value == pytest.approx(float(F.mse_loss(y.mean().expand(3), y)))


def test_the_level_of_a_gaussian_likelihood_is_that_of_mean_and_variance() -> None:
    y = torch.tensor([1.0, 2.0, 6.0])
    variance = y.var(correction=0)
    by_hand = F.gaussian_nll_loss(y.mean().expand(3), y, variance.expand(3))
    level = chance_level(LossTerm("gaussian_nll", target_std=float(variance.sqrt())), None)
    assert level is not None
    assert level.value == pytest.approx(float(by_hand), rel=1e-5)


def test_the_level_of_one_class_is_the_entropy_of_its_share() -> None:
    y = torch.tensor([1.0, 0.0, 0.0, 0.0])
    level = chance_level(LossTerm("bce_with_logits", target_mean=0.25), None)
    assert level is not None
    assert level.value == pytest.approx(float(F.binary_cross_entropy(torch.full((4,), 0.25), y)))
    assert level.uniform == pytest.approx(math.log(2))


def test_no_level_is_made_up() -> None:
    assert chance_level(LossTerm("mse"), None) is None
    assert chance_level(LossTerm("kl_div", target_std=1.0), None) is None
    assert chance_level(LossTerm("mse", target_std=0.0), None) is None
    assert chance_level(LossTerm("bce", target_mean=3.0), None) is None
    assert initial_loss_over_chance(LossTerm("cross_entropy", classes=4, target_leaf="y"), None) is None


def test_the_floor_of_a_softmax_taken_twice_is_that_of_a_certain_prediction() -> None:
    certain = torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0]])
    assert double_softmax_floor(5) == pytest.approx(float(F.cross_entropy(certain, torch.tensor([0]))))


def test_a_sum_over_samples_has_their_number_as_its_scale() -> None:
    assert loss_scale(OperationFacts(loss=64.0, terms=[LossTerm("mse", value=2.0, alone=True)])) == 32.0
    assert loss_scale(OperationFacts(loss=1.001, terms=[LossTerm("mse", value=1.0, alone=True)])) == 1.0
    assert math.isnan(loss_scale(OperationFacts(loss=64.0, terms=[LossTerm("mse", value=2.0)])))


def test_entropy_of_equal_shares_is_the_logarithm_of_their_number() -> None:
    assert entropy([5, 5, 5, 0]) == pytest.approx(math.log(3))
    assert entropy([]) == 0.0
