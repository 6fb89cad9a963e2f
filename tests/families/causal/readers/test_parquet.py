from __future__ import annotations

import builtins
from datetime import datetime

import numpy as np
import pytest

from stablelit.errors import DataError, MissingDependencyError
from stablelit.families.causal.readers.parquet import read_parquet

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra parquet)")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def parquet(tmp_path):
    def write(columns, name="t.parquet"):
        pq.write_table(pa.table(columns), tmp_path / name)
        return tmp_path / name

    return write


def test_numbers_of_any_type_and_nulls(parquet, request_for):
    path = parquet(
        {
            "double": pa.array([1.5, None, 3.0]),
            "int": pa.array([1, 2, None], pa.int32()),
            "flag": pa.array([True, False, None]),
            "single": pa.array([0.5, float("nan"), 1.0], pa.float32()),
            "digits": pa.array(["1", "NA", "2.5"]),
        }
    )
    table = read_parquet(path, request_for())
    assert table.names == ("double", "int", "flag", "single", "digits")
    nan = np.nan
    np.testing.assert_array_equal(table.values, [[1.5, 1, 1, 0.5, 1], [nan, 2, 0, nan, nan], [3, nan, nan, 1, 2.5]])


def test_times_and_environments_are_as_they_are(parquet, request_for):
    moments = [datetime(2004, 3, 10, 18), datetime(2004, 3, 10, 19)]
    path = parquet({"at": pa.array(moments, pa.timestamp("ns")), "site": ["a", "b"], "n": [1, 2], "x": [1.0, 2.0]})
    table = read_parquet(path, request_for(time_column=["at", "n"], environment_column="site"))
    assert table.names == ("x",)
    assert table.keys["at"].dtype == "datetime64[us]"
    assert table.keys["site"].tolist() == ["a", "b"]
    assert table.keys["n"].tolist() == [1, 2]


def test_columns_that_are_not_asked_for_may_hold_anything(parquet, request_for):
    path = parquet({"a": [1.0, 2.0], "b": [3.0, 4.0], "text": ["x", "y"]})
    assert read_parquet(path, request_for(columns=["b", "a"])).values.tolist() == [[3, 1], [4, 2]]


def test_a_cell_that_is_no_number_is_named(parquet, request_for):
    path = parquet({"a": [1.0, 2.0], "text": ["7", "high"]})
    with pytest.raises(DataError, match=r"t\.parquet \(of type string\): row 1, column 'text' has 'high'"):
        read_parquet(path, request_for())


def test_the_row_index_of_pandas_is_left_out_unless_it_is_asked_for(parquet, request_for):
    path = parquet({"a": [1.0, 2.0], "__index_level_0__": [7, 8]})
    table = read_parquet(path, request_for())
    assert table.names == ("a",)
    assert "row index of pandas" in table.notes[0]
    assert read_parquet(path, request_for(time_column="__index_level_0__")).keys["__index_level_0__"].tolist() == [7, 8]


def test_files_that_are_not_are_refused(parquet, request_for, tmp_path, file):
    with pytest.raises(DataError, match="no such file"):
        read_parquet(tmp_path / "no.parquet", request_for())
    with pytest.raises(DataError, match="cannot be read as parquet"):
        read_parquet(file("a.parquet", "a,b\n1,2\n"), request_for())
    whole = parquet({"a": np.arange(1000.0)}).read_bytes()
    with pytest.raises(DataError, match=r"cannot be read as parquet.*fetch it again"):
        read_parquet(file("b.parquet", whole[: len(whole) // 2]), request_for())
    with pytest.raises(DataError, match="has no row"):
        read_parquet(parquet({"a": pa.array([], pa.float64())}), request_for())
    with pytest.raises(DataError, match="no column 'aa'.*Did you mean 'a'"):
        read_parquet(parquet({"a": [1.0]}), request_for(columns=["aa"]))


def test_without_pyarrow_the_extra_is_named(parquet, request_for, monkeypatch):
    path = parquet({"a": [1.0]})
    real = builtins.__import__

    def without(name, *arguments, **others):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *arguments, **others)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependencyError, match=r"pip install 'stablelit\[parquet\]'"):
        read_parquet(path, request_for())
