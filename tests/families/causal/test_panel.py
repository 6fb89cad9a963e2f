from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stablelit.errors import DataError
from stablelit.families.causal.panel import SensorPanel

NAN = np.nan


def panel(**changes) -> SensorPanel:
    made = SensorPanel.from_values(np.array([[1.0, 5.0], [2.0, NAN], [3.0, 4.0], [4.0, 6.0]]), names=["raf", "mek"])
    return replace(made, **changes)


def test_nan_is_a_hole_and_stays_nowhere():
    made = panel()
    assert made.mask.tolist() == [[True, True], [True, False], [True, True], [True, True]]
    assert made.values[1, 1] == 0.0
    assert made.missing_share == pytest.approx(1 / 8)
    assert len(made) == 4
    assert made.n_columns == 2


def test_a_given_mask_takes_away_and_adds_nothing():
    values = np.array([[1.0, NAN], [2.0, 3.0]])
    made = SensorPanel.from_values(values, mask=np.array([[False, True], [True, True]]))
    assert made.mask.tolist() == [[False, False], [True, True]]
    assert made.values[0].tolist() == [0.0, 0.0]
    assert made.names == ("x0", "x1")
    # the caller's array is not written into
    assert values[0, 0] == 1.0


def test_scored_cells_are_observed_and_not_set_from_outside():
    made = panel(intervened=np.array([[True, False], [False, True], [False, False], [False, False]]))
    assert made.scored.tolist() == [[False, True], [True, False], [True, True], [True, True]]
    assert (panel().scored == panel().mask).all()


def test_rows_and_columns_are_taken_with_all_that_is_known_of_them():
    made = panel(
        time=np.arange(4.0),
        environment=np.array([0, 0, 1, 1]),
        environment_names=("a", "b"),
        intervened=np.eye(4, 2, dtype=bool),
        truth=np.array([[False, True], [False, False]]),
    )
    rows = made.take([2, 0])
    assert rows.values.tolist() == [[3.0, 4.0], [1.0, 5.0]]
    assert rows.time.tolist() == [2.0, 0.0]
    assert rows.environment.tolist() == [1, 0]
    assert rows.intervened.tolist() == [[False, False], [True, False]]
    turned = made.columns(["mek", "raf"])
    assert turned.names == ("mek", "raf")
    assert turned.values[0].tolist() == [5.0, 1.0]
    # raf -> mek is now from the second to the first
    assert turned.truth.tolist() == [[False, False], [True, False]]


def test_an_unknown_column_names_near_ones():
    with pytest.raises(DataError, match=r"no column 'rav'\. Known: raf, mek\. Did you mean 'raf'\?"):
        panel().columns(["rav"])


@pytest.mark.parametrize(
    ("time", "environment", "expected"),
    [
        (None, None, [0, 0, 0, 0]),
        (None, [0, 0, 1, 1], [0, 0, 1, 1]),
        # one clock: a change of the environment does not interrupt what follows what
        ([0, 1, 2, 3], [0, 1, 0, 1], [0, 0, 0, 0]),
        ([0, 1, 0, 1], [0, 0, 1, 1], [0, 0, 1, 1]),
    ],
)
def test_recordings_are_rows_that_follow_one_another(time, environment, expected):
    made = panel(
        time=None if time is None else np.array(time, dtype=float),
        environment=None if environment is None else np.array(environment),
        environment_names=("a", "b"),
    )
    assert made.recordings().tolist() == expected


def test_fingerprint_tells_values_and_holes_apart():
    made = panel()
    assert made.fingerprint() == panel().fingerprint()
    assert replace(made, values=made.values * 2).fingerprint() != made.fingerprint()
    assert replace(made, mask=np.ones_like(made.mask)).fingerprint() != made.fingerprint()


def test_a_valid_panel_is_returned_as_it_is():
    made = panel(time=np.array([0.0, 1.0, 0.0, 1.0]), environment=np.array([0, 0, 1, 1]), environment_names=("a", "b"))
    assert made.validate("p") is made


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": np.zeros(4)}, r"p: values have shape \(4,\)"),
        ({"values": np.zeros((0, 2)), "mask": np.zeros((0, 2), dtype=bool)}, "p: there is no row"),
        ({"names": ("raf", "raf")}, "'raf' comes 2 times"),
        ({"names": ("raf",)}, "1 names for 2 columns"),
        ({"mask": np.ones((4, 3), dtype=bool)}, r"mask has shape \(4, 3\)\. Allowed: \(4, 2\)"),
        ({"time": np.arange(3.0)}, r"time has shape \(3,\)"),
        ({"truth": np.zeros((3, 3), dtype=bool)}, r"truth has shape \(3, 3\)\. Allowed: \(2, 2\)"),
        ({"truth": np.eye(2, dtype=bool)}, "self-loop raf -> raf"),
        ({"environment": np.array([0, 1, 2, 3]), "environment_names": ("a", "b")}, "numbered 0 to 3.*Allowed: 0 to 1"),
        ({"mask": np.array([[1, 0], [1, 0], [1, 0], [1, 0]], dtype=bool)}, "was not observed but has"),
        ({"time": np.array([0.0, 1.0, NAN, 3.0])}, "row 2 has no time"),
        ({"time": np.array([0.0, 2.0, 1.0, 3.0])}, "row 2 has time 1, an earlier time than row 1"),
        ({"time": np.array([0.0, 1.0, 1.0, 3.0])}, "row 2 has time 1, the same time as row 1"),
    ],
)
def test_what_is_not_valid_is_named(changes, message):
    with pytest.raises(DataError, match=message):
        panel(**changes).validate("p")


def test_a_single_column_has_no_edges():
    with pytest.raises(DataError, match=r"p: there is 1 column \(x0\)\. Allowed: 2 or more"):
        SensorPanel.from_values(np.arange(3.0)[:, None]).validate("p")


def test_infinity_is_named_with_row_and_column():
    with pytest.raises(DataError, match=r"row 2, column 'x1' has inf \(1 cells are not finite\)"):
        SensorPanel.from_values(np.array([[1.0, 2.0], [2.0, 3.0], [3.0, np.inf]])).validate("p")


def test_constant_and_unseen_columns_are_named():
    with pytest.raises(DataError, match=r"column 'x1' \(always 7\) never varies.*columns=\[\.\.\.\]"):
        SensorPanel.from_values(np.array([[1.0, 7.0], [2.0, NAN], [3.0, 7.0]])).validate("p")
    with pytest.raises(DataError, match=r"columns 'x1', 'x2' were never observed \(2 rows, all missing\)"):
        SensorPanel.from_values(np.array([[1.0, NAN, NAN], [2.0, NAN, NAN]])).validate("p")


def test_time_may_begin_anew_in_another_environment_alone():
    times = np.array([0.0, 1.0, 1.0, 0.5])
    made = panel(time=times, environment=np.array([0, 0, 1, 1]), environment_names=("a", "b"))
    with pytest.raises(DataError, match="row 3 has time 0.5, an earlier time than row 2"):
        made.validate("p")
