from __future__ import annotations

import itertools
import warnings

import pytest
import torch
from torch.optim import lr_scheduler as schedules

from stablelit.optim.warmup import warmup_schedule
from stablelit.optim.warmup_length import warmup_length

LONGEST = 100


def sgd():
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)


def steps_that_rise(scheduler):
    """The slow way: take the steps."""
    rates = [scheduler.get_last_lr()[0]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(LONGEST):
            scheduler.step()
            rates.append(scheduler.get_last_lr()[0])
    last = 0
    for step, (before, after) in enumerate(itertools.pairwise(rates), start=1):
        if after > before:
            last = step
        elif after < before:
            break
    return last


SCHEDULES = {
    "ours": lambda o: warmup_schedule(o, 200, warmup="0.1dur"),
    "ours, no decay": lambda o: warmup_schedule(o, 200, warmup=37, decay="none"),
    "ours, no warm-up": lambda o: warmup_schedule(o, 80, warmup=0),
    "lambda": lambda o: schedules.LambdaLR(o, lambda step: min(1.0, (step + 1) / 13)),
    "linear": lambda o: schedules.LinearLR(o, 0.1, total_iters=30),
    "linear that falls": lambda o: schedules.LinearLR(o, 1.0, 0.1, total_iters=30),
    "constant": lambda o: schedules.ConstantLR(o, 0.5, total_iters=12),
    "one cycle": lambda o: schedules.OneCycleLR(o, 0.1, total_steps=101, pct_start=0.25),
    "cyclic": lambda o: schedules.CyclicLR(o, 0.01, 0.1, step_size_up=20, step_size_down=40),
    "cosine": lambda o: schedules.CosineAnnealingLR(o, 101),
    "step": lambda o: schedules.StepLR(o, 10),
    "sequential": lambda o: schedules.SequentialLR(
        o, [schedules.LinearLR(o, 0.1, total_iters=25), schedules.CosineAnnealingLR(o, 100)], [25]
    ),
    "cut off by its milestone": lambda o: schedules.SequentialLR(
        o, [schedules.LinearLR(o, 0.1, total_iters=25), schedules.ExponentialLR(o, 0.5)], [10]
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", SCHEDULES)
def test_the_length_is_what_taking_the_steps_gives(kind):
    asked = SCHEDULES[kind](sgd())
    rate = asked.get_last_lr()
    found = warmup_length(asked, LONGEST)
    assert asked.get_last_lr() == rate
    # a step's edge may belong to either side: OneCycleLR ends between two steps
    assert found == pytest.approx(steps_that_rise(SCHEDULES[kind](sgd())), abs=1 if kind == "one cycle" else 0)


class Counting:
    calls = 0

    def __call__(self, step):
        self.calls += 1
        return min(1.0, self.calls / 10)


def test_an_object_that_may_count_its_calls_is_not_asked():
    factor = Counting()
    scheduler = schedules.LambdaLR(sgd(), factor)
    before = factor.calls
    assert warmup_length(scheduler, LONGEST) is None
    assert factor.calls == before


@pytest.mark.parametrize("warm", [LONGEST + 1, LONGEST + 17, 10**9])
def test_a_rate_that_rises_for_longer_than_the_run_is_said_to(warm):
    rising = schedules.LambdaLR(sgd(), lambda step: min(1.0, (step + 1) / (warm + 1)))
    assert warmup_length(rising, LONGEST) == LONGEST + 1


def test_a_schedule_that_nobody_knows_has_none():
    assert warmup_length(object(), LONGEST) is None
