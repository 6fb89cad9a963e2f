from __future__ import annotations

import pytest
import torch
from torch.optim import lr_scheduler as lrs
from torch.optim.swa_utils import SWALR

from stablelit.errors import ConfigurationError
from stablelit.optim import scale_learning_rates, warmup_schedule

STEPS, AT = 40, 13
SCHEDULES = {
    "LambdaLR": lambda o: lrs.LambdaLR(o, lambda step: 1 / (1 + step)),
    "MultiplicativeLR": lambda o: lrs.MultiplicativeLR(o, lambda step: 0.9),
    "StepLR": lambda o: lrs.StepLR(o, 10, 0.5),
    "MultiStepLR": lambda o: lrs.MultiStepLR(o, [5, 20], 0.1),
    "ConstantLR": lambda o: lrs.ConstantLR(o, 0.3, 20),
    "LinearLR": lambda o: lrs.LinearLR(o, 0.2, 1.0, 20),
    "ExponentialLR": lambda o: lrs.ExponentialLR(o, 0.95),
    "PolynomialLR": lambda o: lrs.PolynomialLR(o, 30, 2.0),
    "CosineAnnealingLR": lambda o: lrs.CosineAnnealingLR(o, 15, eta_min=0.01),
    "CosineAnnealingWarmRestarts": lambda o: lrs.CosineAnnealingWarmRestarts(o, 8, 2, eta_min=0.01),
    "CyclicLR": lambda o: lrs.CyclicLR(o, 0.01, 0.3, 7, mode="triangular2", cycle_momentum=False),
    "CyclicLR_exp": lambda o: lrs.CyclicLR(o, 0.01, 0.3, 7, mode="exp_range", gamma=0.97, cycle_momentum=True),
    "OneCycleLR": lambda o: lrs.OneCycleLR(o, 0.5, STEPS + 5, three_phase=True),
    "SequentialLR": lambda o: lrs.SequentialLR(
        o, [lrs.LinearLR(o, 0.1, 1.0, 5), lrs.CosineAnnealingLR(o, 20, 0.02), lrs.ExponentialLR(o, 0.9)], [5, 25]
    ),
    "ChainedScheduler": lambda o: lrs.ChainedScheduler([lrs.ConstantLR(o, 0.1, 20), lrs.ExponentialLR(o, 0.95)]),
    "SWALR": lambda o: SWALR(o, swa_lr=0.02, anneal_epochs=20),
    "warmup_schedule": lambda o: warmup_schedule(o, STEPS + 5, "20st"),
}


def sequence(make, factor=None, at=AT, step=lambda schedule, number: schedule.step(), optimizer_class=torch.optim.SGD):
    """The rates of two groups at every step, scaled by `factor` after step `at`."""
    weights = [torch.zeros(1, requires_grad=True) for _ in range(2)]
    optimizer = optimizer_class([{"params": [weights[0]]}, {"params": [weights[1]], "lr": 0.2}], lr=0.1, momentum=0.9)
    schedule = make(optimizer)
    rates = []
    for number in range(STEPS):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        step(schedule, number)
        if number == at and factor is not None:
            scale_learning_rates([optimizer], [schedule], factor)
            shown = [group["lr"] for group in optimizer.param_groups]
            if not isinstance(schedule, lrs.ReduceLROnPlateau):
                assert schedule.get_last_lr() == pytest.approx(shown)
    return rates


def later_rates_agree(make, at=AT, **kwargs):
    expected, scaled = sequence(make, **kwargs), sequence(make, 0.5, at, **kwargs)
    assert scaled[: at + 1] == expected[: at + 1]
    for before, after in zip(expected[at + 1 :], scaled[at + 1 :], strict=True):
        assert after == pytest.approx([0.5 * rate for rate in before], rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("at", [0, AT, 24])
@pytest.mark.parametrize("name", SCHEDULES)
def test_later_rates_are_the_factor_times_what_they_would_have_been(name, at):
    later_rates_agree(SCHEDULES[name], at)


def test_plateau_keeps_its_floor_and_its_smallest_change_in_proportion():
    def make(optimizer):
        return lrs.ReduceLROnPlateau(optimizer, factor=0.3, patience=1, min_lr=[1e-3, 2e-3], eps=1e-4)

    later_rates_agree(make, step=lambda schedule, number: schedule.step(1.0))


def test_every_schedule_of_torch_is_tried():
    known = {n for n in lrs.__all__ if n not in ("LRScheduler",)}
    tried = {n.split("_")[0] for n in SCHEDULES} | {"ReduceLROnPlateau"}
    assert known <= tried


def test_two_schedules_of_one_optimizer_and_one_given_twice():
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=1.0)
    schedule = lrs.LambdaLR(optimizer, lambda step: 1.0)
    scale_learning_rates([optimizer], [schedule, schedule], 0.1)
    assert schedule.base_lrs == [pytest.approx(0.1)]


def test_a_rate_that_is_a_tensor_stays_the_same_object():
    rate = torch.tensor(0.1)
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=rate, foreach=False)
    scale_learning_rates([optimizer], [], 0.5)
    assert optimizer.param_groups[0]["lr"] is rate
    assert float(rate) == pytest.approx(0.05)


def test_a_schedule_that_is_not_torchs_is_said():
    class Own:
        def __init__(self):
            self.base_lrs = [1.0]

    own = Own()
    with pytest.warns(UserWarning, match="Own is no schedule of torch's"):
        scale_learning_rates([], [own], 0.5)
    assert own.base_lrs == [0.5]


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), "0.5"])
def test_a_factor_out_of_range_is_refused(factor):
    with pytest.raises(ConfigurationError, match="factor"):
        scale_learning_rates([], [], factor)
