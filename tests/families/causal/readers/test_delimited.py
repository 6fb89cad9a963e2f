from __future__ import annotations

import numpy as np
import pytest

from stablelit.errors import DataError
from stablelit.families.causal.readers import delimited
from stablelit.families.causal.readers.delimited import read_delimited

NAN = np.nan


def test_a_plain_table(file, request_for):
    table = read_delimited(file("t.csv", "a,b\n1,2\n-3.5,4e-2\n"), request_for())
    assert table.names == ("a", "b")
    assert table.values.tolist() == [[1.0, 2.0], [-3.5, 0.04]]
    assert table.notes == ()
    assert table.called(1) == "line 3"


def test_cells_that_were_not_observed_become_nan(file, request_for):
    table = read_delimited(file("t.csv", "a,b,c\n1,,NA\n , na ,nan\n7,8,9\n"), request_for())
    np.testing.assert_array_equal(table.values, [[1, NAN, NAN], [NAN, NAN, NAN], [7, 8, 9]])


def test_other_na_values_are_taken_and_the_usual_ones_then_not(file, request_for):
    path = file("t.csv", "a,b\n1,missing\n2,3\n")
    np.testing.assert_array_equal(read_delimited(path, request_for(na_values=["missing"])).values, [[1, NAN], [2, 3]])
    with pytest.raises(DataError, match=r"t\.csv: line 2, column 'b' has ''"):
        read_delimited(file("t.csv", "a,b\n1,\n2,3\n"), request_for(na_values=["missing"]))


@pytest.mark.parametrize("cell", ["high", "1_000", "1 2", "0x1F", "12:30"])
def test_a_cell_that_is_no_number_is_named_with_line_and_column(file, request_for, cell):
    text = "a,b\n" + "1,2\n" * 700 + f"\n1,{cell}\n"
    with pytest.raises(DataError, match=rf"t\.csv: line 703, column 'b' has '{cell}'.*na_values.*columns="):
        read_delimited(file("t.csv", text), request_for())


def test_a_column_that_is_not_asked_for_may_hold_anything(file, request_for):
    path = file("t.csv", "a,site,b\n1,north,2\n3,south,4\n")
    assert read_delimited(path, request_for(columns=["b", "a"])).values.tolist() == [[2, 1], [4, 3]]
    table = read_delimited(path, request_for(environment_column="site"))
    assert table.names == ("a", "b")
    assert table.keys["site"].tolist() == ["north", "south"]


def test_the_form_of_uci_air_quality(file, request_for):
    text = "Date;Time;CO(GT);T °C;;\n10/03/2004;18.00.00;2,6;13,6;;\n10/03/2004;19.00.00;-200;7;;\n;;;;;\n;;;;;\n"
    table = read_delimited(file("t.csv", text, "latin-1"), request_for(time_column=["Date", "Time"]))
    assert table.names == ("CO(GT)", "T °C")
    assert table.values.tolist() == [[2.6, 13.6], [-200, 7]]
    assert table.keys["Time"].tolist() == ["18.00.00", "19.00.00"]
    assert table.notes == (
        "is not UTF-8: read as Latin-1",
        "2 columns have decimal commas",
        "2 rows without a single value at its end are left out",
        "column 5 has neither a name nor a value and is left out",
        "column 6 has neither a name nor a value and is left out",
    )


def test_rows_without_a_value_in_between_stay(file, request_for):
    table = read_delimited(file("t.csv", "a,b\n1,2\n,\n3,4\n,\n"), request_for())
    np.testing.assert_array_equal(table.values, [[1, 2], [NAN, NAN], [3, 4]])


@pytest.mark.parametrize("first", [0, 1])
def test_row_numbers_that_pandas_and_r_write_are_left_out_and_told(file, request_for, first):
    table = read_delimited(file("t.csv", f',a,b\n"{first}",1,2\n"{first + 1}",3,4\n'), request_for())
    assert table.names == ("a", "b")
    assert table.notes == ("column 1 has no name and holds the numbers of the rows: it is left out",)


def test_a_column_without_a_name_is_refused(file, request_for):
    with pytest.raises(DataError, match="column 2 has no name"):
        read_delimited(file("t.csv", "a,,b\n1,5,2\n3,6,4\n"), request_for())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n3\n", r"line 3 has 1 cells\. Allowed: 2, as the columns are.*separated by commas"),
        ("a,b\n1,2\n3,4,5\n", "line 3 has 3 cells"),
        ("a,a\n1,2\n", "'a' comes 2 times"),
        ("a,b\n", "has no row"),
        ("a,b\n,\n,\n", "has 2 rows without a single value"),
    ],
)
def test_tables_that_are_not_are_refused(file, request_for, text, message):
    with pytest.raises(DataError, match=message):
        read_delimited(file("t.csv", text), request_for())


def test_files_that_are_not_are_refused(tmp_path, file, request_for):
    with pytest.raises(DataError, match="no such file"):
        read_delimited(tmp_path / "a.csv", request_for())
    with pytest.raises(DataError, match="is a directory; allowed: tables"):
        read_delimited(tmp_path, request_for())
    with pytest.raises(DataError, match="0 bytes"):
        read_delimited(file("t.csv", ""), request_for())
    with pytest.raises(DataError, match="cannot be read as text with commas"):
        read_delimited(file("t.csv", 'a,b\n1,2\n"' + "x" * 200_000), request_for())


def test_pieces_make_one_table(file, request_for, monkeypatch):
    rng = np.random.default_rng(0)
    values = rng.standard_normal((53, 3))
    holes = rng.random(values.shape) < 0.2
    text = "time,a,b,c\n" + "".join(
        f"t{i}," + ",".join("" if hole else repr(float(v)) for v, hole in zip(row, holed, strict=True)) + "\n"
        for i, (row, holed) in enumerate(zip(values, holes, strict=True))
    )
    path = file("t.csv", text + ",,,\n" * 9)
    for piece in (1, 7, 500):
        monkeypatch.setattr(delimited, "_PIECE", piece)
        table = read_delimited(path, request_for(time_column="time"))
        np.testing.assert_array_equal(table.values, np.where(holes, NAN, values))
        assert table.keys["time"].tolist() == [f"t{i}" for i in range(53)]
