"""HDF5 that points out of itself, claims what it has not, or would keep its library busy for ever."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from stablelit.errors import DataError
from stablelit.families.jets.readers import read_jets
from stablelit.families.jets.readers.hdf5_data import rows_at_a_time

N = 4


def write(path, particles=True, jets=True, label=None):
    with h5py.File(path, "w") as file:
        if particles:
            values = np.zeros((N, 3, 4), dtype=np.float32)
            values[..., 2:] = 1 / 3, 1
            file["particle_features"] = values
        if jets:
            file["jet_features"] = np.tile(np.array([500.0, 0, 80, 3], dtype=np.float32), (N, 1))
        if label is not None:
            file["label"] = np.zeros(N, dtype=np.int64)
            file["label"].attrs["classes"] = label
    return path


@pytest.mark.parametrize("label", ["g", np.bytes_(b"g")], ids=["in-the-heap", "of-fixed-length"])
def test_names_of_classes_are_read_however_they_lie(tmp_path, label):
    assert read_jets(write(tmp_path / "a.h5", label=label)).classes == ("g",)


def test_numbers_of_another_file_are_not_read(tmp_path):
    write(tmp_path / "other.h5")
    (tmp_path / "secret").write_bytes(bytes(range(256)) * 4)
    path = write(tmp_path / "a.h5", particles=False)
    for make in (
        lambda file: file.__setitem__(
            "particle_features", h5py.ExternalLink(tmp_path / "other.h5", "particle_features")
        ),
        lambda file: (
            file.__setitem__("there", h5py.ExternalLink(tmp_path / "other.h5", "/")),
            file.__setitem__("particle_features", h5py.SoftLink("/there/particle_features")),
        ),
        lambda file: file.create_dataset(
            "particle_features", (N, 3, 4), np.float32, external=[(str(tmp_path / "secret"), 0, 1024)]
        ),
        lambda file: file.create_virtual_dataset("particle_features", virtual(tmp_path / "other.h5")),
    ):
        with h5py.File(path, "a") as file:
            for name in ("particle_features", "there"):
                if file.get(name, getlink=True):
                    del file[name]
            make(file)
        with pytest.raises(DataError, match=r"a\.h5: .*(another file|has no data set 'particle_features')"):
            read_jets(path)


def virtual(path):
    layout = h5py.VirtualLayout((N, 3, 4), np.float32)
    layout[...] = h5py.VirtualSource(path, "particle_features", (N, 3, 4))
    return layout


@pytest.mark.parametrize("shape", [(10**9, 3, 4), (2, 10**12, 4), (2, 60_000, 4)], ids=["rows", "particles", "a-row"])
def test_a_shape_that_was_never_written_takes_no_memory(tmp_path, shape):
    path = write(tmp_path / "a.h5", particles=False, jets=False)
    with h5py.File(path, "a") as file:
        file.create_dataset("particle_features", shape, np.float32, chunks=(1, 1, 4))
        file.create_dataset("jet_features", (shape[0], 4), np.float32, chunks=(1, 4))
    with pytest.raises(DataError, match=r"a\.h5: .*(takes|bytes a row)"):
        read_jets(path)


def test_a_heap_without_lengths_is_refused_before_hdf5_goes_round_in_it(tmp_path):
    path = write(tmp_path / "a.h5", label="g,q")
    raw = bytearray(path.read_bytes())
    heap = raw.index(b"GCOL")
    # the first object becomes free space of no length
    raw[heap + 16 : heap + 18], raw[heap + 24 : heap + 32] = b"\0\0", bytes(8)
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"a heap of texts is damaged at byte"):
        read_jets(path)


def test_long_rows_are_read_fewer_at_a_time(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        short, long = file.create_dataset("a", (9, 4), "f4"), file.create_dataset("b", (9, 2**12), "f8")
        assert rows_at_a_time(short, most=20_000) == 20_000
        assert rows_at_a_time(long, most=20_000) == 2**27 // 2**15
