from __future__ import annotations

import pytest
import torch

from stablelit.errors import ConfigurationError
from stablelit.optim import restarts_schedule


def rates(make, steps):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    schedule = make(optimizer)
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


@pytest.mark.parametrize(("first", "factor"), [(7, 2), (5, 1), (3, 3)])
def test_the_rates_are_those_of_torch(first, factor):
    torchs = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts
    expected = rates(lambda optimizer: torchs(optimizer, first, factor), 60)
    assert rates(lambda o: restarts_schedule(o, 60, first, factor), 60) == pytest.approx(expected, rel=1e-9)


def test_a_share_of_the_run_is_a_number_of_steps():
    share, count = (rates(lambda o, p=p: restarts_schedule(o, 50, p, final=0.1), 50) for p in ("0.2dur", "10st"))
    assert share == count
    assert share[9] > 0.3 * 0.1
    assert share[10] == 0.3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"first_period": "20ep"}, "first_period='20ep'"),
        ({"first_period": 0}, "at least one optimizer step"),
        ({"factor": 0}, "factor=0"),
        ({"final": 1.5}, "final=1.5"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        rates(lambda o: restarts_schedule(o, 50, **arguments), 1)


def test_a_share_of_an_endless_run_is_refused():
    with pytest.raises(ConfigurationError, match="without a known length"):
        rates(lambda o: restarts_schedule(o, float("inf"), "0.1dur"), 1)
