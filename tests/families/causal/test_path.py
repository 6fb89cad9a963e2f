from __future__ import annotations

import math

import pytest
import torch

from stablelit.errors import ConfigurationError
from stablelit.families.causal.path import ConstraintPath

H = torch.tensor(0.5, dtype=torch.float64)


def stages(path: ConstraintPath, steps: int, h=H) -> list[tuple[int, float, float]]:
    seen = []
    for _ in range(steps):
        seen.append((int(path.stage), round(float(path.mu), 9), float(path.s)))
        path.count_step(h)
    return seen


def test_stages_change_after_their_shares_of_the_run_and_the_last_goes_on():
    path = ConstraintPath(mu=[1.0, 0.1, 0.01], s=[1.0, 0.9, 0.8])
    path.plan(40)
    expected = [(0, 1.0, 1.0)] * 10 + [(1, 0.1, 0.9)] * 10 + [(2, 0.01, 0.8)] * 30
    assert stages(path, 50) == expected
    assert path.in_last_stage


def test_a_run_that_is_resumed_for_longer_keeps_its_stages():
    path = ConstraintPath(mu=[1.0, 0.1], s=1.0)
    path.plan(30)
    assert stages(path, 5)[-1][0] == 0
    resumed = ConstraintPath(mu=[1.0, 0.1], s=1.0)
    resumed.load_state_dict(path.state_dict())
    resumed.plan(3000)
    assert [stage for stage, _, _ in stages(resumed, 10)] == [0] * 5 + [1] * 5


def test_lengths_in_steps_need_no_length_of_the_run():
    path = ConstraintPath(mu=[1.0, 0.1], s=1.0, stage_lengths=[3, "4st"])
    path.plan(math.inf)
    assert [stage for stage, _, _ in stages(path, 6)] == [0, 0, 0, 1, 1, 1]


def test_a_share_of_a_run_without_a_length_is_an_error_that_says_what_to_set():
    with pytest.raises(ConfigurationError, match=r"trainer\.max_epochs"):
        ConstraintPath().plan(math.inf)


def test_a_path_that_the_run_does_not_finish_is_an_error_with_both_numbers():
    with pytest.raises(ConfigurationError, match="after 300 optimizer steps, and the run has 100"):
        ConstraintPath(mu=[1.0, 0.1], s=1.0, stage_lengths=300).plan(100)


def test_a_path_of_one_stage_goes_on_to_the_end_whatever_its_length():
    path = ConstraintPath(mu=[0.1], s=1.0, stage_lengths=20)
    path.plan(20)
    assert path.in_last_stage


def test_a_path_that_begins_anew_is_as_it_was_made():
    path = ConstraintPath(mu=[1.0, 0.1], s=1.0)
    path.plan(4)
    stages(path, 4)
    path.restart()
    assert (int(path.stage), float(path.mu), path.is_planned) == (0, 1.0, False)


def test_the_multiplier_grows_by_rho_h_and_rho_where_h_did_not_fall():
    path = ConstraintPath("augmented_lagrangian", round_length=2)
    path.plan(100)
    values, alpha, rho, last = [0.8, 0.7, 0.1, 0.09], 0.0, 1.0, math.inf
    for value in values:
        h = torch.tensor(value, dtype=torch.float64)
        assert not path.count_step(h)
        assert path.count_step(h)
        if value > 0.25 * last:
            rho *= 10
        alpha, last = alpha + rho * value, value
        assert float(path.rho) == rho
        assert float(path.alpha) == pytest.approx(alpha, rel=1e-12)
    term = path.constraint_term(torch.tensor(2.0, dtype=torch.float64), torch.tensor(1.0))
    assert float(term) == pytest.approx(alpha * 2.0 + 0.5 * rho * 4.0, rel=1e-12)


def test_below_its_tolerance_h_is_left_in_peace():
    path = ConstraintPath("augmented_lagrangian", round_length=1)
    path.plan(10)
    for _ in range(5):
        path.count_step(torch.tensor(5e-6, dtype=torch.float64))
    assert (float(path.rho), float(path.alpha)) == (1.0, 0.0)


def test_the_lagrangian_is_tight_once_h_is_nothing():
    path = ConstraintPath("augmented_lagrangian", round_length=1)
    path.plan(10)
    assert not path.in_last_stage
    path.count_step(torch.tensor(0.0, dtype=torch.float64))
    assert path.in_last_stage


def test_fixed_weights_stay_where_they_are():
    path = ConstraintPath("fixed")
    path.plan(10)
    assert {(stage, mu) for stage, mu, _ in stages(path, 20)} == {(0, 1.0)}
    assert float(path.constraint_term(H, torch.tensor(3.0))) == 1.5


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"kind": "penalty"}, "kind"),
        ({"mu": []}, "mu"),
        ({"mu": [0.1, 1.0]}, "mu"),
        ({"mu": [1.0, 0.0]}, "mu"),
        ({"s": [1.0, 0.9]}, "s"),
        ({"stage_lengths": ["10ep"] * 5}, "stage_lengths"),
        ({"stage_lengths": [100]}, "stage_lengths"),
        ({"round_length": 0}, "round_length"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(wrong, name):
    with pytest.raises(ConfigurationError, match=f"ConstraintPath: {name}="):
        ConstraintPath(**wrong)
