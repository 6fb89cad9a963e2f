from __future__ import annotations

import math

import pytest
import torch

from stablelit.errors import ConfigurationError
from stablelit.optim import warmup_schedule


def _rates(steps, **kwargs):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler = warmup_schedule(optimizer, total_steps=steps, **kwargs)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_the_rate_rises_linearly_and_falls_along_the_cosine_to_its_final_share():
    rates = _rates(101, warmup="20st", final=0.1)
    assert rates[:20] == pytest.approx([2.0 * (s + 1) / 21 for s in range(20)])
    expected = [2.0 * (1 - 0.9 * (1 - math.cos(math.pi * k / 80)) / 2) for k in range(81)]
    assert rates[20:] == pytest.approx(expected)
    assert rates[-1] == pytest.approx(0.2)


def test_a_share_of_the_run_is_resolved_to_steps():
    assert _rates(100, warmup="0.2dur") == _rates(100, warmup=20)


def test_a_warm_up_that_is_longer_than_the_run_can_be_asked_for():
    rates = _rates(10, warmup=39, decay="none", allow_unfinished=True)
    assert rates == pytest.approx([2.0 * (step + 1) / 40 for step in range(10)])


def test_without_decay_it_stays_at_the_top():
    assert _rates(50, warmup=10, decay="none")[10:] == [2.0] * 40


@pytest.mark.parametrize(
    ("kwargs", "says"),
    [
        ({"warmup": 200}, "warmup=200.*at most the run's 100"),
        ({"warmup": "3ep"}, "warmup='3ep'"),
        ({"final": 2.0}, "final=2.0"),
        ({"decay": "cosin"}, "Did you mean 'cosine'"),
    ],
)
def test_bad_arguments_are_refused(kwargs, says):
    with pytest.raises(ConfigurationError, match=says):
        _rates(100, **kwargs)


def test_a_run_without_a_length_is_refused():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    with pytest.raises(ConfigurationError, match="max_steps or max_epochs"):
        warmup_schedule(optimizer, total_steps=math.inf)
