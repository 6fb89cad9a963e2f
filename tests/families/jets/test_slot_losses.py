from __future__ import annotations

import itertools
import math
import sys
from importlib.util import find_spec

import pytest
import torch

from stablelit.errors import MissingDependencyError
from stablelit.families.jets import slot_losses

needs_scipy = pytest.mark.skipif(find_spec("scipy") is None, reason="scipy is in the extra `dev`")
HUNGARIAN = pytest.param("hungarian", marks=needs_scipy)


@pytest.fixture
def sets():
    """Slots, particles and a mask with holes, jets of 1 to 5 particles; what is absent is wild."""
    generator = torch.Generator().manual_seed(1)
    slots, x = torch.randn(2, 6, 5, 3, generator=generator, dtype=torch.double)
    mask = torch.zeros(6, 5, dtype=torch.bool)
    for row, there in enumerate([[2], [0, 4], [1, 2, 3], [0, 1, 3, 4], [0, 1, 2, 3, 4], [4, 1]]):
        mask[row, there] = True
    x[~mask] = 1e3 * x[~mask]
    return slots, x, mask


def by_hand(slots, x, mask, row):
    particles = [x[row, i].tolist() for i in range(5) if mask[row, i]]
    return [slots[row, j].tolist() for j in range(len(particles))], particles


def squared(a, b):
    return math.dist(a, b) ** 2


def test_mse_compares_slots_with_particles_from_the_hardest_to_the_softest(sets):
    found = slot_losses.slot_mse(*sets)
    for row in range(6):
        slots, particles = by_hand(*sets, row)
        ordered = sorted(particles, key=lambda p: -p[0])
        expected = sum(map(squared, slots, ordered)) / (3 * len(particles))
        assert float(found[row]) == pytest.approx(expected, rel=1e-12)


def test_chamfer_is_the_two_searches_written_out(sets):
    found = slot_losses.chamfer(*sets)
    for row in range(6):
        slots, particles = by_hand(*sets, row)
        expected = sum(min(squared(s, p) for s in slots) for p in particles)
        expected += sum(min(squared(s, p) for p in particles) for s in slots)
        assert float(found[row]) == pytest.approx(expected / (3 * len(particles)), rel=1e-12)


@needs_scipy
def test_hungarian_is_the_best_of_all_permutations(sets):
    found = slot_losses.hungarian(*sets)
    for row in range(6):
        slots, particles = by_hand(*sets, row)
        expected = min(sum(map(squared, slots, order)) for order in itertools.permutations(particles))
        assert float(found[row]) == pytest.approx(expected / (3 * len(particles)), rel=1e-12)


def test_hungarian_says_what_to_install(sets, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(MissingDependencyError, match=r"hungarian.*stablelit\[match\]"):
        slot_losses.hungarian(*sets)


def test_nll_is_that_of_a_list_less_the_log_of_its_orders(sets):
    slots, x, mask = sets
    log_sigma = torch.randn(slots.shape, generator=torch.Generator().manual_seed(2), dtype=torch.double)
    found = slot_losses.slot_nll(slots, log_sigma, x, mask)
    for row in range(6):
        _, particles = by_hand(*sets, row)
        ordered = torch.tensor(sorted(particles, key=lambda p: -p[0]), dtype=torch.double)
        n = len(ordered)
        density = torch.distributions.Normal(slots[row, :n], log_sigma[row, :n].exp()).log_prob(ordered).sum()
        expected = math.log(math.factorial(n)) - float(density)
        assert float(found[row]) == pytest.approx(expected, rel=1e-12)


def test_nll_bounds_the_exchangeable_density_which_integrates_to_one():
    """Two particles on a line: the list's density p(x1, x2) = p_set / 2! is below its bound, wherever they are."""
    slots, log_sigma = torch.tensor([[[0.5], [-0.5]]]), torch.zeros(1, 2, 1)
    grid = torch.linspace(-8, 8, 321, dtype=torch.double)
    first, second = (side.flatten() for side in torch.meshgrid(grid, grid, indexing="ij"))
    x = torch.stack([first, second], dim=1)[..., None]
    everywhere = (len(x), -1, -1)
    mask = torch.ones(x.shape[:2], dtype=torch.bool)
    nll = slot_losses.slot_nll(slots.double().expand(everywhere), log_sigma.double().expand(everywhere), x, mask)

    def normal(value, mean):
        return torch.exp(-0.5 * (value - mean) ** 2) / math.sqrt(2 * math.pi)

    exchangeable = 0.5 * (normal(first, 0.5) * normal(second, -0.5) + normal(second, 0.5) * normal(first, -0.5))
    cell = float(grid[1] - grid[0]) ** 2
    assert float(exchangeable.sum()) * cell == pytest.approx(1.0, abs=1e-6)
    assert (torch.exp(-nll) <= exchangeable + 1e-15).all()
    assert 0.5 < float(torch.exp(-nll).sum()) * cell < 1.0


@pytest.mark.parametrize("name", ["slot_mse", "chamfer", HUNGARIAN])
def test_order_of_particles_does_not_matter_and_a_perfect_answer_costs_nothing(sets, name):
    loss, (slots, x, mask) = getattr(slot_losses, name), sets
    order = torch.tensor([3, 1, 4, 0, 2])
    assert torch.allclose(loss(slots, x, mask), loss(slots, x[:, order], mask[:, order]), rtol=1e-12)
    perfect = slot_losses.hardest_first(x, mask)
    assert loss(perfect, x, mask).abs().max() < 1e-12


@pytest.mark.parametrize("name", ["slot_mse", "chamfer", HUNGARIAN, "slot_nll"])
def test_gradients_equal_finite_differences_and_leave_absent_slots_alone(sets, name):
    slots, x, mask = sets
    extra = (torch.full_like(slots, 0.3),) if name == "slot_nll" else ()
    live = slots.clone().requires_grad_()

    def value(p):
        return getattr(slot_losses, name)(p, *extra, x, mask)

    assert torch.autograd.gradcheck(value, (live,))
    value(live).sum().backward()
    assert live.grad[~slot_losses.first_slots(mask)].abs().max() == 0


@pytest.mark.parametrize("name", ["slot_mse", "chamfer", HUNGARIAN, "slot_nll"])
def test_a_jet_without_particles_costs_nothing_and_has_no_gradient(name):
    slots, x = torch.randn(2, 2, 4, 3)
    slots.requires_grad_()
    extra = (torch.zeros_like(slots),) if name == "slot_nll" else ()
    found = getattr(slot_losses, name)(slots, *extra, x, torch.zeros(2, 4, dtype=torch.bool))
    found.sum().backward()
    assert found.tolist() == [0.0, 0.0]
    assert not slots.grad.any()


@pytest.mark.parametrize("n", range(7))
def test_hyperedges_are_as_many_as_can_be_listed(n):
    listed = len(list(itertools.combinations(range(n), 3))) + len(list(itertools.combinations(range(n), 4)))
    assert float(slot_losses.number_of_hyperedges(torch.tensor(n))) == listed


def test_the_count_of_hyperedges_is_a_large_constant_without_a_gradient():
    logits = torch.tensor([[1.0, -1.0, 2.0]], requires_grad=True)
    found = slot_losses.hyperedge_count_error(logits, torch.ones(1, 30, dtype=torch.bool))
    assert float(found) == pytest.approx((31_465 - 2) ** 2, rel=1e-6)
    assert not found.requires_grad
