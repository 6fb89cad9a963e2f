from __future__ import annotations

import pickle

import h5py
import numpy as np
import pytest

from stablelit.errors import DataError
from stablelit.families.jets.readers import files, read_jets

COLUMNS = [f"{name}_{i}" for i in range(200) for name in ("E", "PX", "PY", "PZ")]
TRUTH = ["truthE", "truthPX", "truthPY", "truthPZ"]


def write_table(path, momenta, label, columns=None, labels=("ttv", "is_signal_new"), kind=None):
    """What pandas' `to_hdf(key="table", format="table")` writes, but for the index that nothing here reads."""
    columns = [*COLUMNS[: momenta.shape[1]], *TRUTH] if columns is None else columns
    momenta = np.pad(momenta, ((0, 0), (0, len(columns) - momenta.shape[1]))).astype(np.float32)
    dtype = [
        ("index", "<i8"),
        ("values_block_0", "<f4", (len(columns),)),
        *[("values_block_1", "<i8", (len(labels),))][: len(labels)],
    ]
    rows = np.zeros(len(momenta), dtype=dtype)
    rows["index"], rows["values_block_0"] = np.arange(len(momenta)), momenta
    if labels:
        rows["values_block_1"][:, -1] = label
    with h5py.File(path, "w") as file:
        group = file.create_group("table")
        group.attrs["pandas_type"] = np.bytes_(b"frame_table")
        table = group.create_dataset("table", data=rows, chunks=(min(16, len(rows)),) if len(rows) else None)
        # PyTables pickles what is no numpy value, in the oldest protocol
        table.attrs["values_block_0_kind"] = np.bytes_(pickle.dumps(columns, protocol=0) if kind is None else kind)
        if labels:
            table.attrs["values_block_1_kind"] = np.bytes_(pickle.dumps(list(labels), protocol=0))


def write_fixed(path, momenta, label):
    with h5py.File(path, "w") as file:
        group = file.create_group("table")
        group.attrs["pandas_type"], group.attrs["nblocks"] = np.bytes_(b"frame"), 2
        group["block0_items"] = np.array(COLUMNS[: momenta.shape[1]], dtype="S8")
        group["block0_values"] = momenta.astype(np.float32)
        group["block1_items"] = np.array(["ttv", "is_signal_new"], dtype="S13")
        group["block1_values"] = np.stack([np.zeros_like(label), label], axis=1)


@pytest.fixture
def rows(seen_jets):
    return seen_jets.padded(50).reshape(len(seen_jets.momenta), -1)


@pytest.mark.parametrize("write", [write_table, write_fixed])
def test_momenta_and_labels_come_out_as_derived_one_by_one(seen_jets, rows, tmp_path, write):
    write(tmp_path / "train.h5", rows, seen_jets.label)
    jets = read_jets(tmp_path / "train.h5")
    # energies are stored in float32: E^2 - p^2 of 1000 GeV is known to about 0.1 GeV^2
    seen_jets.assert_read_as(jets, mass_tolerance=0.5)
    assert jets.classes == ("qcd", "top")
    assert jets.label.tolist() == seen_jets.label.tolist()


def test_pieces_join_to_the_whole(seen_jets, rows, tmp_path, monkeypatch):
    write_table(tmp_path / "train.h5", rows, seen_jets.label)
    whole = read_jets(tmp_path / "train.h5")
    monkeypatch.setattr("stablelit.families.jets.readers.top_tagging_hdf5.PIECE", 7)
    pieces = read_jets(tmp_path / "train.h5")
    assert np.array_equal(whole.particles, pieces.particles)
    assert np.array_equal(whole.label, pieces.label)


def test_a_bad_value_in_a_later_piece_has_its_place_in_the_file(seen_jets, rows, tmp_path, monkeypatch):
    rows[23, 4 * 2 + 1] = np.nan
    write_table(tmp_path / "train.h5", rows, seen_jets.label)
    monkeypatch.setattr("stablelit.families.jets.readers.top_tagging_hdf5.PIECE", 7)
    with pytest.raises(DataError, match=r"train\.h5: jet 23, particle 2 has PX=nan"):
        read_jets(tmp_path / "train.h5")


def test_a_negative_energy_is_named(seen_jets, rows, tmp_path):
    rows[12, 4 * 1] *= -1
    write_table(tmp_path / "train.h5", rows, seen_jets.label)
    with pytest.raises(DataError, match=r"jet 12, particle 1 has E=-"):
        read_jets(tmp_path / "train.h5")


def test_a_table_without_labels_has_one_class(seen_jets, rows, tmp_path):
    write_table(tmp_path / "train.h5", rows, seen_jets.label, labels=())
    assert read_jets(tmp_path / "train.h5").classes == ("jet",)


def test_near_column_names_are_given(rows, seen_jets, tmp_path):
    columns = [name.replace("PX", "Px") for name in COLUMNS[: rows.shape[1]]]
    write_table(tmp_path / "train.h5", rows, seen_jets.label, columns)
    with pytest.raises(DataError, match=r"no column 'PX_0'.*Found 202 columns.*Did you mean 'Px_0'"):
        read_jets(tmp_path / "train.h5")


def test_a_label_that_is_none_is_named(rows, seen_jets, tmp_path):
    label = seen_jets.label.copy()
    label[4] = 3
    write_table(tmp_path / "train.h5", rows, label)
    with pytest.raises(DataError, match=r"jet 4 has is_signal_new=3"):
        read_jets(tmp_path / "train.h5")


def test_names_that_would_run_code_are_not_unpickled(rows, seen_jets, tmp_path):
    evil = b"cos\nsystem\n(S'touch evil'\ntR."
    write_table(tmp_path / "train.h5", rows, seen_jets.label, kind=evil)
    with pytest.raises(DataError, match=r"cannot be read without running code.*os\.system"):
        read_jets(tmp_path / "train.h5")


def test_a_table_without_rows_is_refused(tmp_path):
    write_table(tmp_path / "train.h5", np.zeros((0, 8)), np.zeros(0))
    with pytest.raises(DataError, match="no jets"):
        read_jets(tmp_path / "train.h5")


@pytest.mark.parametrize("share", [0.99, 0.5, 0.02])
def test_a_truncated_table_is_refused(rows, seen_jets, tmp_path, share):
    write_table(tmp_path / "train.h5", rows, seen_jets.label)
    whole = (tmp_path / "train.h5").read_bytes()
    (tmp_path / "train.h5").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match=r"train\.h5"):
        read_jets(tmp_path / "train.h5")


def test_several_tables_ask_which(rows, seen_jets, tmp_path):
    write_table(tmp_path / "a.h5", rows, seen_jets.label)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file.move("table", "train")
        file.copy("train", "val")
    with pytest.raises(DataError, match="pandas tables train, val"):
        read_jets(tmp_path / "a.h5")


def test_a_table_compressed_as_pandas_does_it_is_read(seen_jets, rows, tmp_path):
    plugins = pytest.importorskip("hdf5plugin", reason="hdf5plugin is an optional dependency: stablelit[hdf5]")
    write_table(tmp_path / "plain.h5", rows, seen_jets.label)
    with h5py.File(tmp_path / "plain.h5") as plain, h5py.File(tmp_path / "packed.h5", "w") as packed:
        group = packed.create_group("table")
        group.attrs.update(plain["table"].attrs)
        table = group.create_dataset("table", data=plain["table/table"][:], **plugins.Blosc())
        table.attrs.update(plain["table/table"].attrs)
    seen_jets.assert_read_as(read_jets(tmp_path / "packed.h5"), mass_tolerance=0.5)


def test_a_filter_that_is_missing_is_explained(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.zeros(3)
    with (
        pytest.raises(DataError, match="hdf5plugin"),
        files.opened_hdf5(tmp_path / "a.h5", "anything"),
    ):
        raise OSError("Can't synchronously read data (required filter 'blosc' is not registered)")
