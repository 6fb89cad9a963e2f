from __future__ import annotations

import itertools

import pytest
import torch

from stablelit.errors import DataError
from stablelit.families.jets.metrics import energy_movers, energy_movers_distance
from stablelit.families.jets.metrics.energy_movers import transport_cost

# energyflow.emd.emds of jets 0, 1, 2 of each kind, as JetNet calls it; see conftest.py
RECORDED = [
    0.20524731058162476, 0.13536174436844114, 0.23424678216414355, 0.13460109424764946, 0.12508613313622663,
    0.2709303703152269, 0.2826573272336797, 0.15896821917004866, 0.32020197064325273,
]  # fmt: skip


def pairs(rows, columns, n):
    i, j = torch.arange(n).repeat_interleave(n), torch.arange(n).repeat(n)
    return *rows.take(i), *columns.take(j)


def test_distances_are_those_of_energyflow(real, generated):
    assert energy_movers_distance(*pairs(real, generated, 3)).tolist() == pytest.approx(RECORDED, abs=1e-9)


def test_equal_weights_are_an_assignment():
    cost = torch.rand(20, 5, 5, dtype=torch.double)
    best = torch.stack([
        torch.stack([matrix[torch.arange(5), list(order)].mean() for order in itertools.permutations(range(5))]).min()
        for matrix in cost
    ])  # fmt: skip
    weights = torch.full((20, 5), 0.2, dtype=torch.double)
    lower, upper = transport_cost(cost, weights, weights)
    assert torch.allclose(lower, best, atol=1e-9)
    assert torch.allclose(upper, best, atol=1e-9)


def test_on_a_line_the_distance_is_the_area_between_the_cumulative_weights():
    places, weights = torch.rand(2, 30, 7, dtype=torch.double), torch.rand(2, 30, 7, dtype=torch.double)
    weights /= weights.sum(-1, keepdim=True)
    particles = torch.stack([places, torch.zeros_like(places), weights], dim=-1)
    there = torch.ones(30, 7, dtype=torch.bool)
    found = energy_movers_distance(particles[0], there, particles[1], there)
    order = torch.cat([places[0], places[1]], 1).sort(1)
    steps = torch.cat([weights[0], -weights[1]], 1).gather(1, order.indices).cumsum(1)[:, :-1]
    assert torch.allclose(found, (steps.abs() * order.values.diff(dim=1)).sum(1), atol=1e-9)


def test_missing_momentum_costs_itself_and_nothing_against_nothing_is_nothing():
    particles = torch.tensor([[[0.0, 0.0, 0.6], [0.1, 0.0, 0.3]]], dtype=torch.double)
    both, first, none = (torch.tensor([mask]) for mask in ([True, True], [True, False], [False, False]))
    assert float(energy_movers_distance(particles, both, particles, first)) == pytest.approx(0.3, abs=1e-9)
    assert float(energy_movers_distance(particles, both, particles, none)) == pytest.approx(0.9, abs=1e-9)
    assert float(energy_movers_distance(particles, none, particles, both)) == pytest.approx(0.9, abs=1e-9)
    assert float(energy_movers_distance(particles, none, particles, none)) == 0.0


def test_distance_is_a_metric_for_near_particles(real):
    one, two, three = (real.take(torch.arange(k, k + 30)) for k in (0, 30, 60))
    there, back = energy_movers_distance(*one, *two), energy_movers_distance(*two, *one)
    assert torch.allclose(there, back, atol=2e-9)
    assert float(energy_movers_distance(*one, *one).abs().max()) < 1e-9
    assert (energy_movers_distance(*one, *three) <= there + energy_movers_distance(*two, *three) + 1e-8).all()


def test_angles_across_the_seam_are_near():
    first = torch.tensor([[[0.0, 3.1, 1.0]]], dtype=torch.double)
    second = torch.tensor([[[0.0, -3.1, 1.0]]], dtype=torch.double)
    there = torch.ones(1, 1, dtype=torch.bool)
    expected = 2 * (torch.pi - 3.1)
    assert float(energy_movers_distance(first, there, second, there)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("kind", ["grid", "tiny", "steep", "same"])
def test_awkward_problems_are_enclosed(kind):
    cost = torch.rand(40, 9, 6, dtype=torch.double)
    supply, demand = torch.rand(40, 9, dtype=torch.double), torch.rand(40, 6, dtype=torch.double)
    if kind == "grid":  # many optimal plans, all of them degenerate
        cost, supply, demand = (cost * 3).round(), torch.ones_like(supply), torch.ones_like(demand)
    elif kind == "tiny":
        supply[:, 1:] *= 1e-9
    elif kind == "steep":
        supply, demand = supply**12, demand**12
    else:
        cost = torch.ones_like(cost)
    supply, demand = supply / supply.sum(1, keepdim=True), demand / demand.sum(1, keepdim=True)
    lower, upper = transport_cost(cost, supply, demand)
    assert float((upper - lower).max()) < 1e-7
    if kind == "same":
        assert torch.allclose(upper, torch.ones(40, dtype=torch.double), atol=1e-9)


def test_pairs_in_pieces_are_the_same(real, generated, monkeypatch):
    monkeypatch.setattr(energy_movers, "_CHUNK_BYTES", 2 * 8 * 81)
    assert energy_movers_distance(*pairs(real, generated, 3)).tolist() == pytest.approx(RECORDED, abs=1e-9)


def test_impossible_jets_are_refused(real):
    one = real.take(torch.arange(3))
    negative = one.particles.clone()
    negative[1, 0, 2] = -0.1
    with pytest.raises(DataError, match="1 of 3 second jets have a particle with negative pT"):
        energy_movers_distance(*one, negative, one.mask)
    with pytest.raises(DataError, match="must have one sum"):
        transport_cost(torch.rand(1, 2, 2).double(), torch.tensor([[0.5, 0.5]]).double(), torch.ones(1, 2).double())
