from __future__ import annotations

import itertools
import math

import pytest
import torch

from stablelit.families.jets.metrics import EFP_GRAPHS, EFP_PRIME_4_4, energy_flow_polynomials


def by_definition(particles, mask, graph):
    """The sum over all tuples of particles, as the definition has it."""
    there = [p for p, is_there in zip(particles.tolist(), mask.tolist(), strict=True) if is_there]
    n_vertices = 1 + max((vertex for edge in graph for vertex in edge), default=0)
    total = 0.0
    for members in itertools.product(there, repeat=n_vertices):
        weight = math.prod(pt for _, _, pt in members)
        for edge in graph:
            (eta, phi, _), (other_eta, other_phi, _) = (members[vertex] for vertex in edge)
            weight *= math.hypot(eta - other_eta, math.remainder(phi - other_phi, 2 * math.pi))
        total += weight
    return total


def connected(graph):
    reached = {0}
    for _ in graph:
        reached |= {vertex for edge in graph if reached & set(edge) for vertex in edge}
    return reached == set(range(1 + max((v for edge in graph for v in edge), default=0)))


def test_graphs_are_all_multigraphs_of_up_to_four_edges():
    # counted by edges: all, and connected ones; OEIS A050535 and A076864
    assert [sum(len(graph) == d for graph in EFP_GRAPHS) for d in range(5)] == [1, 1, 3, 8, 23]
    assert [sum(len(graph) == d and connected(graph) for graph in EFP_GRAPHS) for d in range(1, 5)] == [1, 2, 5, 12]
    # no two are the same graph with other labels
    forms = set()
    for graph in EFP_GRAPHS:
        vertices = sorted({vertex for edge in graph for vertex in edge})
        relabelled = (
            tuple(sorted(tuple(sorted(order[vertices.index(v)] for v in edge)) for edge in graph))
            for order in itertools.permutations(range(len(vertices)))
        )
        forms.add(min(relabelled) if len(vertices) <= 6 else tuple(sorted(map(tuple, graph))))
    assert len(forms) == 36
    four = [graph for graph in EFP_GRAPHS if len(graph) == 4 and connected(graph) and max(map(max, graph)) == 3]
    assert four == [EFP_GRAPHS[place] for place in EFP_PRIME_4_4]


@pytest.mark.parametrize("place", range(36))
def test_polynomial_is_the_sum_over_all_tuples(place, real):
    # up to eight vertices: few particles
    most = 3 if place == 35 else 4 if place >= 29 else 6
    jets = [jet for jet in range(60) if 1 <= int(real.mask[jet].sum()) <= most][:3]
    found = energy_flow_polynomials(real.particles[jets], real.mask[jets])[:, place]
    for jet, value in zip(jets, found.tolist(), strict=True):
        assert value == pytest.approx(by_definition(real.particles[jet], real.mask[jet], EFP_GRAPHS[place]), rel=1e-12)


def test_polynomials_are_those_of_energyflow_in_its_order(real):
    # `jetnet.evaluation.get_fpd_kpd_jet_features`, summed over the jets; see conftest.py
    recorded = [
        379.544621401202, 32.45786618111796, 8.211661058114345, 2.6251945480741674, 1.0088163663416387,
        4.715423298477717, 1.427157560285668, 0.5302272894075717, 0.5063164438743318, 0.44096321206736755,
        0.1309335005262225, 0.9162454631441541, 0.328408481304802, 0.7067031703777604, 0.23401959636011704,
        0.24451620032261762, 0.08537962111746485, 0.1920167122893619, 0.22794398510402974, 0.13938331749800179,
        0.12989217607259412, 3.8674016032450953, 1.1154372755589648, 0.3986531260404043, 0.36785550726003247,
        0.6453471977776044, 0.2096465670900356, 0.217738086177318, 0.06929719804023259, 0.5471531771110696,
        0.13737327791672851, 0.11195919064206572, 0.12113884002137253, 0.17705732834842522, 0.10294229837465961,
        0.08919975908743949,
    ]  # fmt: skip
    assert energy_flow_polynomials(*real).sum(0).tolist() == pytest.approx(recorded, rel=1e-10)


def test_angles_are_wrapped_and_padding_and_order_do_not_count(real):
    particles, mask = real.particles[:20], real.mask[:20]
    values = energy_flow_polynomials(particles, mask)
    turned = particles.clone()
    turned[..., 1] = torch.remainder(turned[..., 1] + 3.1, 2 * math.pi)
    assert torch.allclose(energy_flow_polynomials(turned, mask), values, rtol=1e-10)
    order = torch.randperm(8)
    padded = torch.cat([particles[:, order], torch.full((20, 3, 3), torch.nan)], dim=1)
    padded_mask = torch.cat([mask[:, order], torch.zeros(20, 3, dtype=torch.bool)], dim=1)
    assert torch.allclose(energy_flow_polynomials(padded, padded_mask), values, rtol=1e-10)


def test_jets_taken_in_pieces_are_the_same(real, monkeypatch):
    whole = energy_flow_polynomials(*real)
    monkeypatch.setattr("stablelit.families.jets.metrics.energy_flow._CHUNK_BYTES", 3 * 8 * 64)
    assert torch.allclose(energy_flow_polynomials(*real), whole, rtol=1e-12)
    assert energy_flow_polynomials(real.particles[:0], real.mask[:0]).shape == (0, 36)


def test_single_precision_is_good_to_a_few_millionths(toy_jets):
    jets = torch.from_numpy(toy_jets.particles), torch.from_numpy(toy_jets.mask)
    exact, single = energy_flow_polynomials(*jets), energy_flow_polynomials(*jets, dtype=torch.float32)
    assert single.dtype == torch.float32
    assert float(((single - exact) / exact).abs().max()) < 3e-6
