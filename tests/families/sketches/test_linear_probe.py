from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from stablelit.errors import ConfigurationError, DataError
from stablelit.families.sketches.linear_probe import _part_of_each_class, fit_linear_probe


def rows(n=90, d=5, classes=3, apart=1.0, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    centres = torch.randn(classes, d, generator=torch.Generator().manual_seed(99), dtype=dtype)
    return 3 + 2 * (apart * centres[labels] + torch.randn(n, d, generator=generator, dtype=dtype)), labels


@pytest.mark.parametrize("l2", [0.3, 1e-3])
def test_its_gradient_vanishes_where_it_ends(l2):
    x, y = rows()
    probe = fit_linear_probe(x, y, l2=l2)
    z = (x - x.mean(0)) / x.std(0, correction=0)
    weight, bias = (p.clone().requires_grad_() for p in (probe.weight, probe.bias))
    (cross_entropy(z @ weight.T + bias, y) + 0.5 * l2 * weight.square().sum()).backward()
    # the objective is convex: where its gradient is zero is its one minimum, whoever finds it
    assert weight.grad.abs().max() < 1e-8
    assert bias.grad.abs().max() < 1e-8
    torch.testing.assert_close(probe.scores(x), z @ weight.T + bias)


def test_two_points_have_a_solution_in_closed_form():
    # z = -1 and 1, w = (-a, a): sigma(2a) - 1 + l a = 0
    x, y = torch.tensor([[2.0], [6.0]], dtype=torch.float64), torch.tensor([0, 1])
    low, high = 0.0, 10.0
    for _ in range(80):
        a = (low + high) / 2
        low, high = (a, high) if 1 - 1 / (1 + math.exp(-2 * a)) > 0.1 * a else (low, a)
    probe = fit_linear_probe(x, y, l2=0.1)
    assert probe.weight.flatten().tolist() == pytest.approx([-a, a], rel=1e-7)
    assert probe.bias.tolist() == pytest.approx([0, 0], abs=1e-9)


def test_single_precision_finds_the_same():
    x, y = rows()
    double, single = fit_linear_probe(x, y, l2=1e-2), fit_linear_probe(x.float(), y, l2=1e-2)
    torch.testing.assert_close(single.weight.double(), double.weight, atol=2e-3, rtol=0)


def test_labels_are_any_numbers_and_unknown_rows_do_not_count():
    x, y = rows()
    odd = torch.tensor([40, 7, 11])[y]
    probe = fit_linear_probe(torch.cat([x, x + 100]), torch.cat([odd, torch.full_like(odd, -1)]), l2=1e-2)
    plain = fit_linear_probe(x, y, l2=1e-2)
    assert (probe.predict(x) == torch.tensor([40, 7, 11])[plain.predict(x)]).all()
    assert probe.accuracy(torch.cat([x, x]), torch.cat([odd, -odd])) == plain.accuracy(x, y)
    assert 0.5 < plain.accuracy(x, y) < 1


def test_it_does_not_care_for_units_nor_for_a_feature_that_never_changes():
    x, y = rows()
    changed = torch.cat([x * torch.tensor([1, 1e4, 1e-3, 1, 1]) - 7, torch.full((90, 1), 0.1)], 1)
    a, b = fit_linear_probe(x, y, l2=1e-2), fit_linear_probe(changed, y, l2=1e-2)
    torch.testing.assert_close(a.scores(x), b.scores(changed), atol=1e-6, rtol=1e-6)


@pytest.mark.slow
def test_of_several_strengths_the_best_on_its_part_is_taken_and_the_strongest_of_equals():
    # more features than rows: without a penalty noise is learned by heart
    x, y = rows(n=60, d=100, classes=2, apart=0.35)
    probe = fit_linear_probe(x, y, l2=(1e-6, 1.0, 100.0))
    accuracies = probe.validation_accuracy
    assert list(accuracies) == [100.0, 1.0, 1e-6]
    assert probe.l2 == max(strength for strength, a in accuracies.items() if a == max(accuracies.values()))
    alike = fit_linear_probe(*rows(apart=50.0), l2=(1e-4, 1e-3))
    assert set(alike.validation_accuracy.values()) == {1.0}
    assert alike.l2 == 1e-3


def test_it_is_fitted_to_all_rows_in_the_end():
    x, y = rows()
    chosen = fit_linear_probe(x, y, l2=(1e-1, 1e-2))
    again = fit_linear_probe(x, y, l2=chosen.l2)
    torch.testing.assert_close(chosen.weight, again.weight, atol=1e-6, rtol=0)


def test_the_part_that_decides_has_its_share_of_each_class_and_never_all_of_one():
    y = torch.repeat_interleave(torch.arange(5), torch.tensor([20, 1, 2, 10, 3]))
    shuffled = y[torch.randperm(36, generator=torch.Generator().manual_seed(3))]
    held_out = _part_of_each_class(shuffled, 0.2, seed=0)
    assert torch.bincount(shuffled[held_out], minlength=5).tolist() == [4, 0, 1, 2, 1]
    assert not torch.equal(held_out, _part_of_each_class(shuffled, 0.2, seed=1))


def test_a_class_of_one_row_is_learned_and_not_held_out():
    x, y = rows()
    y = y.clone()
    y[0] = 77
    assert 77 in fit_linear_probe(x, y, l2=(1e-1, 1e-2)).classes


@pytest.mark.slow
def test_it_works_inside_inference_mode_and_draws_no_global_number():
    x, y = rows(dtype=torch.float32)
    state = torch.get_rng_state()
    with torch.inference_mode():
        inside = fit_linear_probe(x.clone(), y.clone())
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(inside.weight, fit_linear_probe(x, y).weight)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"labels": torch.zeros(90).long()}, DataError, "1 class in 90 rows"),
        ({"features": torch.full((90, 5), torch.nan)}, DataError, "90 of 90 rows are not finite"),
        ({"labels": torch.zeros(3).long()}, ConfigurationError, r"'\(90, 5\) and \(3,\)' is not allowed"),
        ({"l2": 0.0}, ConfigurationError, "l2=0.0 is not allowed"),
        ({"l2": []}, ConfigurationError, r"l2=\[\] is not allowed"),
        ({"validation_share": 0}, ConfigurationError, "validation_share=0 is not allowed"),
    ],
)
def test_what_cannot_be_fitted_is_refused(change, error, message):
    features, labels = rows()
    with pytest.raises(error, match=message):
        fit_linear_probe(**{"features": features, "labels": labels, **change})
