from __future__ import annotations

import torch

from stablelit.families.causal.acyclicity import inside_domain, spectral_radius
from stablelit.families.causal.domain import MARGIN, DomainKeeper
from stablelit.families.causal.mechanisms import build_mechanism

ONE = torch.tensor(1.0, dtype=torch.float64)


def two_cycle(size: float):
    mechanism = build_mechanism("linear", 3, 0, None, False, 1)
    set_cycle(mechanism, size)
    return mechanism


def set_cycle(mechanism, size: float) -> None:
    with torch.no_grad():
        mechanism.structure.weights[0, 1] = size
        mechanism.structure.weights[1, 0] = size


def test_a_step_inside_stays_as_it_is():
    mechanism = two_cycle(0.5)
    keeper = DomainKeeper(mechanism.structure.weights)
    set_cycle(mechanism, 0.9)
    keeper.keep_inside(mechanism, ONE)
    assert float(mechanism.edge_weights()[0, 1]) == 0.9
    assert int(keeper.halvings) == 0


def test_a_step_outside_is_halved_until_it_is_inside():
    mechanism = two_cycle(0.5)
    keeper = DomainKeeper(mechanism.structure.weights)
    set_cycle(mechanism, 2.0)
    keeper.keep_inside(mechanism, ONE)
    # 2.0, 1.25, 0.875: the first below 1
    assert float(mechanism.edge_weights()[0, 1]) == 0.875
    assert int(keeper.halvings) == 2


def test_where_no_part_of_the_step_is_inside_it_is_taken_back_at_half_the_rate():
    mechanism = two_cycle(1.0)
    keeper = DomainKeeper(mechanism.structure.weights)
    set_cycle(mechanism, 3.0)
    sgd = torch.optim.SGD(mechanism.parameters(), lr=0.4)
    keeper.keep_inside(mechanism, ONE, sgd)
    assert float(mechanism.edge_weights()[0, 1]) == 1.0
    assert sgd.param_groups[0]["lr"] == 0.2


def test_a_weight_that_is_not_finite_goes_back_to_what_it_was():
    mechanism = two_cycle(0.5)
    keeper = DomainKeeper(mechanism.structure.weights)
    set_cycle(mechanism, float("nan"))
    keeper.keep_inside(mechanism, ONE)
    assert float(mechanism.edge_weights()[0, 1]) == 0.5


def test_a_stage_that_would_begin_outside_has_a_wider_domain():
    mechanism = two_cycle(0.9)
    keeper, s = DomainKeeper(mechanism.structure.weights), torch.tensor(0.6, dtype=torch.float64)
    keeper.widen(mechanism, s)
    assert float(s) == MARGIN * spectral_radius(mechanism.edge_weights())
    assert inside_domain(mechanism.edge_weights(), s)
    wide = torch.tensor(1.0, dtype=torch.float64)
    keeper.widen(mechanism, wide)
    assert float(wide) == 1.0
