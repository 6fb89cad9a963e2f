"""The count of values against pyarrow's own, and footers that are none."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stablelit.data.parquet_footer import count_values
from stablelit.errors import DataError


def counted_by_pyarrow(path) -> int:
    metadata = pq.ParquetFile(path).metadata
    places = itertools.product(range(metadata.num_row_groups), range(metadata.num_columns))
    return sum(metadata.row_group(k).column(c).num_values for k, c in places)


@pytest.fixture
def table():
    lists = [[1.0] * (i % 4) for i in range(50)]
    texts = [None if i % 7 == 0 else f"name {i}" for i in range(50)]
    return pa.table(
        {
            "lists": pa.array(lists, pa.list_(pa.float32())),
            "repeated": np.zeros(50),
            "texts": texts,
            "flags": [True, None] * 25,
            "nested": [{"a": i, "b": {"c": [i, i]}} for i in range(50)],
            "maps": pa.array([[("k", 1)]] * 50, pa.map_(pa.string(), pa.int64())),
        }
    ).replace_schema_metadata({"a": "b" * 300})


@pytest.mark.parametrize("rows", [7, 50, 1])
@pytest.mark.parametrize("compression", ["none", "snappy"])
def test_the_count_is_pyarrows(table, tmp_path, rows, compression):
    path = tmp_path / "a.parquet"
    # more row groups and columns than the short form of a list's head can say
    pq.write_table(table, path, row_group_size=rows, compression=compression, write_page_index=rows == 7)
    assert count_values(path) == counted_by_pyarrow(path)
    assert count_values(path) > 50 * table.num_columns


def test_every_cut_of_a_footer_is_refused(table, tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(table, path)
    whole = path.read_bytes()
    length = int.from_bytes(whole[-8:-4], "little")
    for kept in range(0, length, 37):
        footer = whole[-8 - length : -8][:kept]
        path.write_bytes(whole[: -8 - length] + footer + kept.to_bytes(4, "little") + b"PAR1")
        with pytest.raises(DataError, match=r"a\.parquet: its parquet footer cannot be read"):
            count_values(path)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"\xff\xff\xff\x7fPAR1", b"12345678", b"\x19" * 99], ids=len)
def test_a_file_without_a_footer_is_refused(tmp_path, content):
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(DataError, match="has no parquet footer"):
        count_values(tmp_path / "a.parquet")


def test_structures_in_each_other_have_an_end(tmp_path):
    footer = b"\x1c" * 5000
    (tmp_path / "a.parquet").write_bytes(footer + len(footer).to_bytes(4, "little") + b"PAR1")
    with pytest.raises(DataError, match="more than 32 structures"):
        count_values(tmp_path / "a.parquet")
