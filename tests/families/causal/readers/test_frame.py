from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from stablelit.errors import DataError
from stablelit.families.causal.readers import PanelSettings, panel_of_frame
from stablelit.families.causal.readers.frame import read_frame


class Series:
    """As much of a pandas Series as is used."""

    def __init__(self, values, name=None):
        self.values, self.name = np.asarray(values), name

    def to_numpy(self):
        return self.values


class Frame:
    """As much of a pandas DataFrame as is used."""

    def __init__(self, columns, index=None, index_name=None):
        self.data = columns
        self.columns = list(columns)
        self.index = None if index is None else Series(index, index_name)

    def __getitem__(self, name):
        return Series(self.data[name])


def test_columns_are_read_by_name(request_for):
    frame = Frame({"a": [1, 2], "b": np.array([1.5, np.nan]), 3: np.array(["1", None], dtype=object)})
    table = read_frame(frame, request_for())
    assert table.names == ("a", "b", "3")
    np.testing.assert_array_equal(table.values, [[1, 1.5, 1], [2, np.nan, np.nan]])


def test_an_index_is_time_under_its_name(request_for):
    frame = Frame({"a": [1.0, 2.0]}, np.array(["2004-03-10", "2004-03-11"], dtype="datetime64[D]"), "date")
    assert read_frame(frame, request_for(time_column="date")).keys["date"].dtype.kind == "M"
    unnamed = Frame({"a": [1.0, 2.0]}, np.array([5, 6]))
    assert read_frame(unnamed, request_for(time_column="index")).keys["index"].tolist() == [5, 6]
    with pytest.raises(DataError, match="no column 'datum'"):
        read_frame(frame, request_for(time_column="datum"))


def test_an_object_column_names_the_cell_that_is_no_number(request_for):
    frame = Frame({"a": [1.0, 2.0], "b": np.array([1.0, "high"], dtype=object)})
    with pytest.raises(DataError, match=r"data frame \(of type object\): row 1, column 'b' has 'high'"):
        read_frame(frame, request_for())


def test_what_is_no_frame_is_refused(request_for):
    with pytest.raises(DataError, match="got a SimpleNamespace"):
        read_frame(SimpleNamespace(), request_for())
    with pytest.raises(DataError, match="has no row"):
        read_frame(Frame({"a": np.array([])}), request_for())
    with pytest.raises(DataError, match="has no column"):
        read_frame(Frame({}), request_for())


def test_a_frame_becomes_a_panel():
    frame = Frame({"a": [1.0, -200.0, 3.0], "b": [4.0, 5.0, 7.0], "site": np.array(["n", "n", "s"], dtype=object)})
    reading = panel_of_frame(frame, PanelSettings(environment_column="site", interventions={"s": "b"}))
    assert reading.panel.mask.tolist() == [[True, True], [False, True], [True, True]]
    assert reading.panel.environment_names == ("n", "s")
    assert reading.panel.scored.tolist() == [[True, True], [False, True], [True, False]]
