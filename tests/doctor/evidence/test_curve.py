"""Curves against lists that do the same by hand."""

from __future__ import annotations

import itertools
import math
import statistics
import sys

import numpy as np
import pytest
import torch

from stablelit.doctor.evidence import Curve, Evidence, curve

_MOST = 65_536


class ByHand:
    """The same bound, with Python lists."""

    def __init__(self, most):
        self.most, self.points = most, []

    def add(self, step, value):
        if len(self.points) >= self.most:
            half = len(self.points) // 4 * 2
            pairs = [(self.points[i], self.points[i + 1]) for i in range(0, half, 2)]
            thinned = [((a[0] + b[0]) / 2, (a[1] + b[1]) / 2) for a, b in pairs]
            self.points = thinned + self.points[half:]
        self.points.append((step, value))


@pytest.mark.parametrize("most", [64, 100, 128, 1000])
@pytest.mark.parametrize("begin", [0, 1, 63, 90])
def test_thinning_equals_that_by_hand(most, begin, monkeypatch):
    monkeypatch.setattr(curve, "_MOST_POINTS", most)
    begin = min(begin, most)
    draw = np.random.default_rng(0).normal(size=5 * most)
    tested, reference = Curve(range(begin), draw[:begin]), ByHand(most)
    for step in range(5 * most):
        reference.add(float(step), draw[step])
        if step >= begin:
            tested.add(step, draw[step])
        assert len(tested) <= most
    assert np.allclose(np.stack([tested.steps, tested.values], 1), reference.points, rtol=1e-12)
    assert tested.last == draw[-1]


def test_what_is_recent_is_there_step_by_step_and_the_mean_is_kept(monkeypatch):
    monkeypatch.setattr(curve, "_MOST_POINTS", 256)
    long = Curve()
    for step in range(4096):
        long.add(step, float(step))
    # half of the bound is never thinned
    assert long.steps[-128:].tolist() == list(range(3968, 4096))
    # of a straight line, means of neighbours lie on it
    assert np.array_equal(long.steps, long.values)
    assert (np.diff(long.steps) > 0).all()


def test_a_long_run_takes_a_megabyte():
    long = Curve()
    values = np.random.default_rng(0).normal(size=200_000)
    for step, value in enumerate(values):
        long.add(step, value)
    assert len(long) <= _MOST
    assert sys.getsizeof(long._steps) + sys.getsizeof(long._values) <= 16 * _MOST + 1000


def test_a_curve_from_a_checkpoint_goes_on_as_the_one_that_was_not_interrupted(monkeypatch):
    monkeypatch.setattr(curve, "_MOST_POINTS", 128)
    whole, parts = Curve(), Curve()
    for step in range(1000):
        whole.add(step, math.sin(step))
        parts.add(step, math.sin(step))
        if step % 37 == 0:
            parts = Curve.of_state(parts.state_dict())
    assert np.array_equal(whole.steps, parts.steps)
    assert np.array_equal(whole.values, parts.values)


def test_its_state_loads_with_weights_only(tmp_path):
    torch.save(Curve([0, 1], [math.nan, math.inf]).state_dict(), tmp_path / "state.pt")
    back = Curve.of_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert np.array_equal(back.values, [math.nan, math.inf], equal_nan=True)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 12, 50, 51])
def test_blocks_are_medians_of_equal_parts_of_what_is_newest(n):
    values = np.random.default_rng(1).normal(size=50).tolist()
    parts = min(n, 50)
    length = 50 // parts
    used = values[50 - parts * length :]
    expected = [statistics.median(used[i * length : (i + 1) * length]) for i in range(parts)]
    assert Curve(range(50), values).blocks(n).tolist() == pytest.approx(expected)


def test_an_empty_curve_answers():
    empty = Curve()
    assert math.isnan(empty.last)
    assert len(empty.blocks(12)) == len(empty.tail(3)) == len(empty.since(0)) == len(empty.finite()) == 0
    assert repr(empty) == "Curve(0 points)"


def test_parts_are_cut_by_step_and_by_number():
    some = Curve([0, 10, 20, 30], [4.0, 3.0, math.nan, 1.0])
    assert some.since(10).steps.tolist() == [10, 20, 30]
    assert some.since(11).steps.tolist() == [20, 30]
    assert some.tail(2).steps.tolist() == [20, 30]
    assert some.tail(9).steps.tolist() == [0, 10, 20, 30]
    assert some.finite().values.tolist() == [4.0, 3.0, 1.0]


def test_cutting_and_growing_leave_the_whole_alone():
    given = np.array([1.0, 2.0])
    whole = Curve([0, 1], given)
    part = whole.tail(1)
    part.add(2, 9.0)
    part.values[0] = 7.0
    whole.add(2, 3.0)
    assert whole.values.tolist() == [1.0, 2.0, 3.0]
    assert given.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("steps", [[0], [[0, 1]]], ids=["too few", "two dimensions"])
def test_steps_without_values_are_refused(steps):
    with pytest.raises(ValueError, match="Curve"):
        Curve(steps, [1.0, 2.0])


def test_evidence_says_what_it_has():
    evidence = Evidence(curves={"loss": Curve([0], [1.0]), "empty": Curve()}, planned_steps=None)
    present = {"curves.loss", "settings", "step"}
    absent = {"curves.empty", "curves.other", "planned_steps", "parameters", "batches.edges", "settings.clip_value"}
    asked = present | absent | {"settings.optimizers", "raised", "no_such_part", "settings.no_such_part"}
    assert {need for need in asked if evidence.has(need)} == present
    assert len(evidence.curve("other")) == 0
    assert "other" not in evidence.curves


def test_many_points_at_once_are_those_one_by_one():
    one, many = Curve(), Curve()
    steps = list(range(200_000))
    values = [math.sin(i) for i in steps]
    for step, value in zip(steps, values, strict=True):
        one.add(step, value)
    at = 0
    for length in itertools.cycle((1, 7, 200, 33, 5000)):
        many.extend(steps[at : at + length], values[at : at + length])
        at += length
        if at >= len(steps):
            break
    assert one.steps.tolist() == many.steps.tolist()
    assert one.values.tolist() == many.values.tolist()
