from __future__ import annotations

import math

import pytest
import torch

from stablelit.callbacks._contrastive_state import LossWindow, VerdictKeeper
from stablelit.functional.contrastive_verdict import ContrastiveVerdict


def told(names, warmup=100, patience=50, every=50):
    """What is told of verdicts on looks every so many steps: (step, name)."""
    keeper = VerdictKeeper(warmup, patience)
    steps = [every * (i + 1) for i in range(len(names))]
    return [(s, keeper.name) for s, n in zip(steps, names, strict=True) if keeper.take(s, ContrastiveVerdict(n))]


def test_nothing_is_judged_before_the_warmup_and_a_state_must_last():
    assert told(["a", "a", "ok", "a", "ok"]) == []
    assert told(["a", "a", "a", "a"]) == [(150, "a")]


def test_trouble_under_changing_names_is_told_under_the_last():
    assert told(["a", "b", "c"]) == [(150, "c")]


def test_from_one_trouble_to_another_the_new_name_must_last():
    assert told(["a", "a", "a", "b", "c", "b"]) == [(150, "a")]
    assert told(["a", "a", "a", "b", "b"]) == [(150, "a"), (250, "b")]


def test_a_recovery_must_last_too_and_a_relapse_is_a_change():
    assert told(["a", "a", "a", "ok", "a"]) == [(150, "a")]
    assert told(["a", "a", "a", "ok", "ok", "a", "a"]) == [(150, "a"), (250, "ok"), (350, "a")]


def test_embeddings_that_are_not_finite_wait_for_nothing():
    assert told(["non-finite-embeddings", "non-finite-embeddings"]) == [(50, "non-finite-embeddings")]


def test_what_is_forced_holds_from_then_on():
    keeper = VerdictKeeper(100, 50)
    assert keeper.force("a")
    assert not keeper.force("a")
    assert not keeper.take(150, ContrastiveVerdict("a"))
    assert keeper.name == "a"


@pytest.mark.parametrize("cut", range(1, 7))
def test_a_keeper_goes_on_where_it_was_saved(cut):
    names = ["a", "b", "b", "ok", "ok", "c", "c"]
    whole = VerdictKeeper(0, 50)
    for i, name in enumerate(names):
        if i == cut:
            again = VerdictKeeper(0, 50)
            again.load_state_dict(whole.state_dict())
        whole.take(50 * i, ContrastiveVerdict(name))
        if i >= cut:
            again.take(50 * i, ContrastiveVerdict(name))
    assert again.state_dict() == whole.state_dict()


def test_a_window_is_the_mean_of_its_last_losses():
    window = LossWindow(3)
    assert math.isnan(window.mean())
    assert math.isnan(window.mean_over_sizes(float))
    for loss, n in ((9.0, 8), (1.0, 4), (2.0, 4), (6.0, 2)):
        window.add(torch.tensor(loss), n)
    assert window.mean() == 3.0
    assert window.mean_over_sizes(lambda n: n) == pytest.approx(10 / 3)


def test_losses_that_a_scaler_overflowed_are_left_out_and_a_last_one_is_not():
    window = LossWindow(3)
    for loss in (math.inf, 2.0, 4.0):
        window.add(torch.tensor(loss), 4)
    assert window.mean() == 3.0
    window.add(torch.tensor(math.nan), 4)
    assert window.mean() == math.inf


def test_a_window_comes_back_from_plain_data():
    window, again = LossWindow(3), LossWindow(3)
    for loss in (0.1, 0.2):
        window.add(torch.tensor(loss), 4)
    again.load_state_dict(window.state_dict())
    for one in (window, again):
        one.add(torch.tensor(0.7), 2)
    assert again.mean() == window.mean()
    assert again.state_dict() == window.state_dict()
