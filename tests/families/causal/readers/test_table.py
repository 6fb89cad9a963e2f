from __future__ import annotations

import numpy as np
import pytest

from stablelit.errors import ConfigurationError, DataError
from stablelit.families.causal.readers.table import NotObserved, numbers_of


def test_texts_and_numbers_of_na_values_are_told_apart():
    not_observed = NotObserved.of("t", [-200, "", " NA ", "nan", "-999"])
    assert not_observed.texts == {"", "na", "nan", "-999"}
    assert not_observed.numbers == (-200.0, -999.0)


@pytest.mark.parametrize("wrong", ["NA", 3, [None], [True], [[1]]])
def test_na_values_are_a_list_of_numbers_and_texts(wrong):
    with pytest.raises(ConfigurationError, match="na_values"):
        NotObserved.of("t", wrong)


def test_cells_become_numbers_up_to_the_first_that_is_none():
    not_observed = NotObserved.of("t", ["", "na"])
    found, wrong = numbers_of(["1", " 2.5 ", "NA", "", None, 3, "1e3"], not_observed)
    assert wrong is None
    np.testing.assert_array_equal(found, [1, 2.5, np.nan, np.nan, np.nan, 3, 1000])
    # to Python, 1_000 is a number; to a person it is a name
    assert numbers_of(["1", "1_000"], not_observed)[1] == 1
    assert numbers_of(["1", "high"], not_observed)[1] == 1
    assert numbers_of([object()], not_observed)[1] == 0


def test_columns_are_all_that_have_no_other_role(request_for):
    found = ["date", "a", "b", "site"]
    asked = request_for(time_column="date", environment_column="site")
    assert asked.keys == ("date", "site")
    assert asked.chosen(found, "t") == ("a", "b")
    assert request_for(columns=["b", "a"]).chosen(found, "t") == ("b", "a")


@pytest.mark.parametrize(
    ("settings", "found", "message"),
    [
        ({"columns": ["tempreture"]}, ["temperature", "b"], "no column 'tempreture'.*Did you mean 'temperature'"),
        ({"time_column": "dat"}, ["date", "b"], "no column 'dat'. Found: date, b. Did you mean 'date'"),
        ({}, ["a", "b", "a"], "the column name 'a' comes 2 times"),
        ({"columns": ["date", "a"], "time_column": "date"}, ["date", "a"], "'date' is time or environment"),
    ],
)
def test_columns_that_cannot_be_chosen_are_named(request_for, settings, found, message):
    with pytest.raises(DataError, match=message):
        request_for(**settings).chosen(found, "t")
