from __future__ import annotations

import builtins

import h5py
import numpy as np
import pytest

from stablelit.errors import DataError, MissingDependencyError
from stablelit.families.jets.readers import read_jets, write_jets

SUFFIXES = (".h5", ".hdf5", ".npz")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_was_written_is_read(toy_jets, tmp_path, suffix):
    path = tmp_path / f"jets{suffix}"
    write_jets(path, toy_jets)
    back = read_jets(path)
    for name in ("mask", "jet", "label"):
        assert np.array_equal(getattr(back, name), getattr(toy_jets, name))
    assert np.allclose(back.particles, toy_jets.particles, atol=1e-6)
    assert back.classes == toy_jets.classes
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_file_of_jetnet_names_its_class_by_the_file(toy_jets, tmp_path):
    path = tmp_path / "g150.hdf5"
    features = np.concatenate([toy_jets.particles, toy_jets.mask[..., None]], axis=-1)
    with h5py.File(path, "w") as file:
        file["particle_features"], file["jet_features"] = features, toy_jets.jet
    back = read_jets(path)
    assert back.classes == ("g",)
    assert not back.label.any()
    assert np.array_equal(back.mask, toy_jets.mask)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_missing_file_is_named_with_its_neighbours(tmp_path, suffix):
    (tmp_path / f"gluons{suffix}").write_bytes(b"x")
    with pytest.raises(DataError, match=rf"gluon{suffix}: no such file.*gluons{suffix}"):
        read_jets(tmp_path / f"gluon{suffix}")
    with pytest.raises(DataError, match="no directory"):
        read_jets(tmp_path / "nowhere" / f"a{suffix}")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_directory_is_no_file(tmp_path, suffix):
    (tmp_path / f"d{suffix}").mkdir()
    with pytest.raises(DataError, match="is a directory"):
        read_jets(tmp_path / f"d{suffix}")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_another_format_under_this_suffix_is_refused(tmp_path, suffix):
    path = tmp_path / f"text{suffix}"
    path.write_text("pt,eta,phi\n1,2,3\n" * 100)
    with pytest.raises(DataError, match=f"text{suffix}"):
        read_jets(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="empty"):
        read_jets(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("share", [0.999, 0.5, 0.01])
def test_a_truncated_file_is_refused(toy_jets, tmp_path, suffix, share):
    path = tmp_path / f"cut{suffix}"
    write_jets(path, toy_jets)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match=f"cut{suffix}"):
        read_jets(path)


def test_a_truncated_hdf5_file_is_called_truncated(toy_jets, tmp_path):
    write_jets(tmp_path / "a.h5", toy_jets)
    whole = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "a.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"truncated.*fetch it again"):
        read_jets(tmp_path / "a.h5")


def test_foreign_hdf5_lists_what_is_there_and_what_is_near(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["particle_feature"], file["weights"] = np.zeros((3, 30, 4)), np.zeros(3)
    with pytest.raises(DataError, match=r"Found: particle_feature, weights\. Did you mean 'particle_feature'\?"):
        read_jets(tmp_path / "other.h5")


@pytest.mark.parametrize(
    ("particles", "jets", "message"),
    [
        ((5, 30, 3), (5, 4), r"\(5, 30, 3\).*etarel, phirel, ptrel, mask"),
        ((5, 30), (5, 4), r"\(5, 30\)"),
        ((5, 30, 4), (5, 5), r"\(5, 5\).*num_particles"),
        ((5, 30, 4), (6, 4), "5 jets in 'particle_features' but 6"),
        ((0, 30, 4), (0, 4), "no jets"),
    ],
)
def test_wrong_shapes_are_named(tmp_path, particles, jets, message):
    with h5py.File(tmp_path / "odd.h5", "w") as file:
        file["particle_features"], file["jet_features"] = np.zeros(particles), np.zeros(jets)
    with pytest.raises(DataError, match=message):
        read_jets(tmp_path / "odd.h5")


def test_values_that_are_no_numbers_are_named(tmp_path):
    with h5py.File(tmp_path / "text.h5", "w") as file:
        file["particle_features"], file["jet_features"] = np.full((2, 3, 4), b"0.1"), np.zeros((2, 4))
    with pytest.raises(DataError, match=r"'particle_features' has values of type \|S3"):
        read_jets(tmp_path / "text.h5")


def test_foreign_npz_lists_what_is_there(tmp_path):
    np.savez(tmp_path / "qg.npz", X=np.zeros(3), y=np.zeros(3))
    with pytest.raises(DataError, match=r"lacks.*particles.*Found: X, y"):
        read_jets(tmp_path / "qg.npz")


def test_pickles_are_not_opened(tmp_path):
    np.savez(
        tmp_path / "evil.npz",
        **{k: np.array([{}], dtype=object) for k in ("particles", "mask", "jet", "label", "classes")},
    )
    with pytest.raises(DataError, match="Python objects"):
        read_jets(tmp_path / "evil.npz")


def test_an_unknown_suffix_lists_the_known_ones(tmp_path):
    with pytest.raises(DataError, match=r"'\.hdf'.*\.h5.*\.hdf5.*\.npz.*Did you mean"):
        read_jets(tmp_path / "jets.hdf")


def test_features_that_are_not_finite_name_file_jet_and_particle(toy_jets, tmp_path):
    particles = toy_jets.particles.copy()
    particles[8, 2, 0] = np.nan
    with h5py.File(tmp_path / "q.h5", "w") as file:
        file["particle_features"] = np.concatenate([particles, toy_jets.mask[..., None]], axis=-1)
        file["jet_features"] = toy_jets.jet
    with pytest.raises(DataError, match=r"q\.h5: jet 8, particle 2 has etarel=nan"):
        read_jets(tmp_path / "q.h5")


def test_a_failed_write_leaves_the_old_file(toy_jets, tmp_path, monkeypatch):
    path = tmp_path / "jets.npz"
    write_jets(path, toy_jets)
    before = path.read_bytes()
    monkeypatch.setattr(np, "savez", lambda *a, **k: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_jets(path, toy_jets)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["jets.npz"]


def test_without_h5py_the_extra_is_named(tmp_path, monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "h5py":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingDependencyError, match=r"stablelit\[hdf5\]"):
        read_jets(tmp_path / "a.h5")
