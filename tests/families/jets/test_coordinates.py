from __future__ import annotations

import pytest
import torch

from stablelit.families.jets.coordinates import MAX_PULL, JetCoordinates
from stablelit.families.jets.scaler import JetScaler


@pytest.fixture
def coordinates(batch):
    made = JetCoordinates(30)
    made.set_scaler(JetScaler.fit(batch["particles"], batch["mask"], batch["jet"]))
    return made


def test_standardising_is_undone(coordinates, batch):
    x = coordinates.standardise(batch["particles"], batch["mask"])
    assert torch.allclose(coordinates.destandardise(x, batch["mask"]), batch["particles"], atol=1e-5)


def test_training_particles_have_no_mean_and_unit_spread(coordinates, batch):
    x = coordinates.standardise(batch["particles"], batch["mask"])[batch["mask"]].double()
    assert float(x[:, 0].mean()) == pytest.approx(0.0, abs=1e-5)
    assert float(x[:, 0].std(unbiased=False)) == pytest.approx(1.0, abs=1e-5)
    assert float(x[:, 1:].var(0, unbiased=False).mean()) == pytest.approx(1.0, abs=1e-5)


def test_a_graph_is_bounded_and_zero_where_nothing_is(coordinates, batch):
    batch["particles"][5, 0, :2] = 1e-7
    graph = coordinates.graph(batch["particles"], batch["mask"], batch["jet"][:, 0], n_edge_particles=4)
    assert graph.pairs.shape == (12, 6, 5)
    assert graph.pairs.abs().max() <= MAX_PULL
    for values, mask in ((graph.x, graph.mask), (graph.pairs, graph.pair_mask)):
        assert not values[~mask].any()
    assert torch.equal(graph.particle_weight, batch["particles"][..., 2])
    # the first jet has one particle, the second two: no pair, one pair
    assert graph.pair_mask[:2].sum(1).tolist() == [0, 1]


def test_the_scaler_travels_in_the_state(coordinates):
    other = JetCoordinates(30)
    assert not other.scaler_is_fitted
    other.load_state_dict(coordinates.state_dict())
    assert other.scaler_is_fitted
    for name in JetScaler.shapes(30):
        assert torch.equal(getattr(other, name), getattr(coordinates, name))
