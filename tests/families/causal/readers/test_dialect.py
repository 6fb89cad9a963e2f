from __future__ import annotations

import pytest

from stablelit.errors import DataError
from stablelit.families.causal.readers.dialect import sniff
from stablelit.families.causal.readers.table import NotObserved

NA = NotObserved.of("t", [-200, "", "NA"])


@pytest.mark.parametrize(
    ("text", "delimiter", "names", "skip"),
    [
        ("a,b\n1,2\n", ",", ("a", "b"), 1),
        ("a;b\n1,5;2,5\n3;4\n", ";", ("a", "b"), 1),
        # a comma would cut this into more cells, of which fewer are numbers
        ("1,5;2,5\n3,5;4,5\n", ";", ("x0", "x1"), 0),
        ("a\tb c\n1\t2\n", "\t", ("a", "b c"), 1),
        ("a|b\n1|2\n", "|", ("a", "b"), 1),
        ("a   b\n1  2\n 3 4\n", "", ("a", "b"), 1),
        ("date,a\n2004-03-10 18:00:00,1\n2004-03-10 19:00:00,2\n", ",", ("date", "a"), 1),
        ("1,2\n3,4\n", ",", ("x0", "x1"), 0),
        ("1,NA\n3,4\n", ",", ("x0", "x1"), 0),
        # a logger that ends every line in a delimiter
        ("a,b\n1,2,\n3,4,\n", ",", ("a", "b"), 1),
        # numpy.savetxt
        ("# a b\n1 2\n3 4\n", "", ("a", "b"), 1),
        ("# written by a logger\n# another, line\na,b\n1,2\n", ",", ("a", "b"), 3),
        ("# units: K, K, K\n1,2\n3,4\n", ",", ("x0", "x1"), 1),
        ("a\n1\n2\n", ",", ("a",), 1),
    ],
)
def test_a_dialect_is_found_out(file, text, delimiter, names, skip):
    dialect, _ = sniff(file("t.csv", text), NA)
    assert (dialect.delimiter, dialect.names, dialect.skip) == (delimiter, names, skip)


def test_rows_have_the_numbers_of_their_lines(file):
    path = file("t.csv", '# c\na,b\n1,2\n\n"3","4"\n5,6\n')
    dialect, _ = sniff(path, NA)
    assert list(dialect.rows(path)) == [(3, ["1", "2"]), (5, ["3", "4"]), (6, ["5", "6"])]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1", "utf-8"])
def test_encodings_of_other_times_are_read(file, encoding):
    dialect, notes = sniff(file("t.csv", "T °C,b\n1,2\n", encoding), NA)
    assert dialect.names == ("T °C", "b")
    assert notes == (["is not UTF-8: read as Latin-1"] if encoding == "latin-1" else [])


def test_what_is_no_table_is_named(file):
    with pytest.raises(DataError, match="is no text"):
        sniff(file("t.csv", b"PK\x03\x04\x00\x00"), NA)
    with pytest.raises(DataError, match="has no row"):
        sniff(file("t.csv", "# only a comment\n"), NA)


def test_a_missing_header_is_told(file):
    assert sniff(file("t.csv", "1,2\n3,4\n"), NA)[1] == ["has no header: its columns are called x0 to x1"]
