from __future__ import annotations

import numpy as np
import pytest

from stablelit.errors import DataError
from stablelit.families.causal.panel import SensorPanel
from stablelit.families.causal.readers import read_panel
from stablelit.families.causal.readers.numpy_files import read_npy, read_npz, write_panel

NAN = np.nan


def test_an_array_has_columns_that_are_called_by_number(tmp_path, request_for):
    np.save(tmp_path / "a.npy", np.array([[1, 2, 3], [4, 5, 6]]))
    table = read_npy(tmp_path / "a.npy", request_for(columns=["x2", "x0"]))
    assert table.values.tolist() == [[3.0, 1.0], [6.0, 4.0]]
    assert table.notes == ("its columns are called x0 to x2",)


def test_a_structured_array_has_names(tmp_path, request_for):
    made = np.array([(1.0, 7, "a"), (2.0, 8, "b")], dtype=[("t", "f8"), ("u", "i4"), ("site", "U1")])
    np.save(tmp_path / "a.npy", made)
    table = read_npy(tmp_path / "a.npy", request_for(environment_column="site"))
    assert table.names == ("t", "u")
    assert table.values.tolist() == [[1.0, 7.0], [2.0, 8.0]]
    assert table.keys["site"].tolist() == ["a", "b"]
    with pytest.raises(DataError, match="site has values of type <U1"):
        read_npy(tmp_path / "a.npy", request_for())


def test_what_is_known_of_the_rows_is_read_with_them_for_the_columns_that_are_chosen(tmp_path, request_for):
    np.savez(
        tmp_path / "a.npz",
        X=np.arange(6.0).reshape(2, 3),
        columns=np.array(["a", "b", "c"]),
        mask=np.array([[1, 0, 1], [1, 1, 1]]),
        time=np.array([0.0, 1.0]),
        truth=np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]]),
    )
    table = read_npz(tmp_path / "a.npz", request_for(columns=["c", "b"]))
    assert table.values.tolist() == [[2.0, 1.0], [5.0, 4.0]]
    assert table.given["mask"].tolist() == [[1, 0], [1, 1]]
    assert table.given["truth"].tolist() == [[0, 0], [1, 0]]
    assert table.given["time"].tolist() == [0.0, 1.0]


def test_what_was_written_is_read(tmp_path):
    values = np.array([[1.0, NAN, 3.0], [2.0, 5.0, NAN], [4.0, 6.0, 1.0], [0.0, 8.0, 2.0]])
    panel = SensorPanel.from_values(
        values,
        names=["raf", "mek", "erk"],
        time=np.array([0.0, 1.0, 0.0, 1.0]),
        environment=np.array([0, 0, 1, 1]),
        environment_names=("plain", "drug"),
        intervened=np.array([[0, 0, 0]] * 2 + [[0, 1, 0]] * 2, dtype=bool),
        truth=np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]], dtype=bool),
    )
    write_panel(tmp_path / "a.npz", panel)
    read = read_panel(tmp_path / "a.npz").panel
    for name in ("values", "mask", "time", "environment", "intervened", "truth"):
        assert np.array_equal(getattr(read, name), getattr(panel, name)), name
    assert (read.names, read.environment_names) == (panel.names, panel.environment_names)
    bare = SensorPanel.from_values(values)
    write_panel(tmp_path / "b.npz", bare)
    again = read_panel(tmp_path / "b.npz").panel
    assert np.array_equal(again.values, bare.values)
    assert again.time is again.environment is again.intervened is again.truth is None
    with pytest.raises(DataError, match=r"a\.csv: panels are written as \.npz"):
        write_panel(tmp_path / "a.csv", panel)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([[1, "a"]], dtype=object), "Python objects"),
        (np.array([["a", "b"]]), "values of type <U1. Allowed: numbers"),
        (np.zeros(4), r"has shape \(4,\)\. Allowed: \(rows, columns\)"),
        (np.zeros((2, 3, 4)), r"has shape \(2, 3, 4\)"),
        (np.zeros((0, 3)), "has no row"),
        (np.zeros((2, 2), dtype=complex), "values of type complex128"),
    ],
)
def test_arrays_that_are_no_table_are_refused(tmp_path, request_for, array, message):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(DataError, match=rf"a\.npy: .*{message}"):
        read_npy(tmp_path / "a.npy", request_for())


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y": np.zeros((2, 2))}, "has no array of values. Found: y. Allowed: one of values, X, data"),
        ({"X": np.zeros((2, 2)), "names": np.array(["a"])}, "names has 1 names for 2 columns"),
        ({"X": np.eye(2), "mask": np.ones((2, 3))}, r"mask has shape \(2, 3\), but there are 2 columns"),
        ({"X": np.eye(2), "truth": np.ones((3, 3))}, r"truth has shape \(3, 3\), but there are 2 columns"),
        ({"X": np.zeros(3)}, r"has shape \(3,\)"),
    ],
)
def test_npz_files_that_are_no_table_are_refused(tmp_path, request_for, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=rf"a\.npz: .*{message}"):
        read_npz(tmp_path / "a.npz", request_for())


def test_one_kind_of_file_under_the_suffix_of_the_other_is_told(tmp_path, request_for, file):
    np.save(tmp_path / "a.npy", np.eye(2))
    (tmp_path / "a.npy").rename(tmp_path / "b.npz")
    with pytest.raises(DataError, match=r"b\.npz"):
        read_npz(tmp_path / "b.npz", request_for())
    np.savez(tmp_path / "c.npz", X=np.eye(2))
    (tmp_path / "c.npz").rename(tmp_path / "c.npy")
    with pytest.raises(DataError, match=r"c\.npy: holds several arrays.*\.npz"):
        read_npy(tmp_path / "c.npy", request_for())
    with pytest.raises(DataError, match=r"d\.npy: "):
        read_npy(file("d.npy", "a,b\n"), request_for())
