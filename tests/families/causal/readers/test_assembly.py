from __future__ import annotations

import numpy as np
import pytest

from stablelit.errors import DataError
from stablelit.families.causal.readers import PanelSettings, read_panel

TABLE = "t,site,a,b\n0,n,1,4\n1,n,2,-200\n2,s,,6\n3,s,5,7\n"


@pytest.fixture
def read(file):
    def run(text: str = TABLE, **settings):
        path = file("t.csv", text)
        usual = {"time_column": "t", "environment_column": "site"}
        return read_panel(path, PanelSettings(**{**usual, **settings}))

    return run


def test_a_table_becomes_a_panel(read):
    reading = read()
    panel = reading.panel
    assert panel.names == ("a", "b")
    assert panel.mask.tolist() == [[True, True], [True, False], [False, True], [True, True]]
    assert panel.values.tolist() == [[1, 4], [2, 0], [0, 6], [5, 7]]
    assert panel.time.tolist() == [0, 1, 2, 3]
    assert panel.environment.tolist() == [0, 0, 1, 1]
    assert panel.environment_names == ("n", "s")
    assert panel.intervened is panel.truth is None
    assert reading.notes == ("1 cells are -200, which na_values takes as not observed",)


def test_without_the_sentinel_a_value_is_a_value(read):
    assert read(na_values=[""]).panel.values[1, 1] == -200


def test_interventions_set_their_columns_in_their_environment(read):
    panel = read(interventions={"s": ["b"]}).panel
    assert panel.intervened.tolist() == [[False, False], [False, False], [False, True], [False, True]]
    assert panel.scored.tolist() == [[True, True], [True, False], [False, False], [True, False]]
    assert read(interventions={"n": "a"}).panel.intervened[:, 0].tolist() == [True, True, False, False]


def test_environments_are_called_alike_whatever_a_format_makes_of_numbers(read):
    panel = read("t,site,a,b\n0,1,1,4\n1,1,2,5\n2,2,3,6\n", interventions={2: ["a"]}).panel
    assert panel.environment_names == ("1", "2")
    assert panel.intervened[2].tolist() == [True, False]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"interventions": {"north": ["a"]}}, "interventions name the environment 'north'. Found: n, s"),
        ({"interventions": {"s": ["bb"]}}, "interventions name the column 'bb'. Found: a, b. Did you mean 'b'"),
        ({"interventions": {"s": ["a"]}, "environment_column": None, "columns": ["a", "b"]}, "no environment_column"),
    ],
)
def test_interventions_that_are_nowhere_are_named(read, settings, message):
    with pytest.raises(DataError, match=message):
        read(**settings)


def test_a_row_without_an_environment_is_named(read):
    with pytest.raises(DataError, match="line 3 has no site"):
        read("t,site,a,b\n0,n,1,4\n1,,2,5\n")


def test_infinite_cells_are_named_and_can_be_declared_not_observed(read):
    text = "t,site,a,b\n0,n,1,4\n1,n,inf,5\n2,n,3,-inf\n3,n,5,6\n"
    with pytest.raises(DataError, match=r"line 3, column 'a' has inf \(2 cells are infinite\).*'inf' and '-inf'"):
        read(text)
    assert read(text, na_values=["inf", "-inf"]).panel.mask.sum() == 6


def test_equal_times_are_named_with_their_value(read):
    text = "t,site,a,b\n2004-03-10,n,1,4\n2004-03-11,n,2,5\n2004-03-11,n,3,7\n"
    for sort in (False, True):
        with pytest.raises(DataError, match="line 4 has the time 2004-03-11, as line 3 of the same environment has"):
            read(text, sort=sort)


def test_times_that_fall_are_named_and_can_be_sorted(read):
    text = "t,site,a,b\n5,n,1,4\n9,n,2,5\n7,n,3,7\n"
    with pytest.raises(DataError, match=r"line 4 has the time 7, which is before 9 of line 3.*sort=True"):
        read(text)
    reading = read(text, sort=True)
    assert reading.panel.values[:, 0].tolist() == [1, 3, 2]
    assert reading.panel.time.tolist() == [5, 7, 9]
    assert reading.notes == ("2 of 3 rows were moved to sort them by time",)


def test_recordings_with_the_same_times_are_sorted_within_their_environments(read):
    text = "t,site,a,b\n1,n,1,4\n1,s,2,5\n0,n,3,7\n0,s,4,6\n"
    panel = read(text, sort=True, interventions={"s": ["a"]}).panel
    assert panel.values[:, 0].tolist() == [3, 1, 4, 2]
    assert panel.environment.tolist() == [0, 0, 1, 1]
    assert panel.intervened[:, 0].tolist() == [False, False, True, True]


def test_regimes_under_one_clock_are_sorted_as_one(read):
    panel = read("t,site,a,b\n3,n,1,4\n2,s,2,5\n1,n,3,7\n0,s,4,6\n", sort=True).panel
    assert panel.values[:, 0].tolist() == [4, 3, 2, 1]


def test_sorting_needs_a_time(read):
    with pytest.raises(DataError, match="sort=True needs time_column"):
        read(sort=True, time_column=None, columns=["a", "b"])


def test_date_and_time_of_day_are_joined(read):
    text = "d,h,a,b\n10/03/2004,18.00,1,4\n10/03/2004,19.00,2,5\n"
    panel = read(text, environment_column=None, time_column=["d", "h"], time_format="%d/%m/%Y %H.%M").panel
    assert np.diff(panel.time).tolist() == [3600]
    assert panel.environment is None


def test_a_mask_takes_cells_away_and_moves_with_its_rows(read, tmp_path):
    text = "t,site,a,b\n5,n,1,4\n9,n,2,5\n7,n,3,\n8,n,4,9\n"
    np.save(tmp_path / "m.npy", np.array([[1, 1], [0, 1], [1, 1], [1, 1]]))
    reading = read(text, sort=True, mask=str(tmp_path / "m.npy"))
    # row 9 is the last one now, and its a is masked
    assert reading.panel.mask.tolist() == [[True, True], [True, False], [True, True], [False, True]]
    assert reading.notes[:2] == (
        f"{tmp_path / 'm.npy'} says of 1 cells that they were observed, but they have no value: not observed",
        f"{tmp_path / 'm.npy'} takes away 1 cells that have a value",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n3,4\n", None),
        ("a,b\n1,\n2,\n", "column 'b' was never observed"),
        ("a,b\n1,7\n2,7\n", r"column 'b' \(always 7\) never varies"),
        ("a\n1\n2\n", "there is 1 column"),
    ],
)
def test_a_panel_is_validated(read, text, message):
    settings = {"time_column": None, "environment_column": None}
    if message is None:
        assert len(read(text, **settings).panel) == 2
        return
    with pytest.raises(DataError, match=rf"t\.csv: .*{message}"):
        read(text, **settings)
