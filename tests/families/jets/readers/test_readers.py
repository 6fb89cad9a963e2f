from __future__ import annotations

import builtins
from dataclasses import replace

import h5py
import numpy as np
import pytest

from stablelit.errors import DataError, MissingDependencyError
from stablelit.families.jets.jet_arrays import joined
from stablelit.families.jets.readers import FORMATS, check_suffixes, format_of, read_files, read_jets, write_jets

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


@pytest.fixture
def written(toy_jets, tmp_path):
    def write(mask=None, **more):
        mask = toy_jets.mask.astype(np.float32) if mask is None else mask
        with h5py.File(tmp_path / "mine.h5", "w") as file:
            file["particle_features"] = np.concatenate([toy_jets.particles, mask[..., None]], axis=-1)
            file["jet_features"] = toy_jets.jet
            for name, values in more.items():
                file[name] = values
        return tmp_path / "mine.h5"

    return write


def test_masks_of_a_half_are_masks_where_all_are(toy_jets, written):
    assert np.array_equal(read_jets(written(toy_jets.mask - 0.5)).mask, toy_jets.mask)


@pytest.mark.parametrize("value", [0.5, 2.0, -1.0, np.nan])
def test_a_mask_that_is_none_is_named(toy_jets, written, value):
    mask = toy_jets.mask.astype(np.float32)
    mask[7, 2] = value
    with pytest.raises(DataError, match=rf"mine\.h5: jet 7, particle 2 has mask={value:g} \(1 of 300"):
        read_jets(written(mask))


def test_labels_without_names_are_called_by_their_numbers(toy_jets, written):
    jets = read_jets(written(label=np.where(toy_jets.label == 0, 3, 11)))
    assert jets.classes == ("3", "11")
    assert np.array_equal(jets.label, toy_jets.label != 0)


@pytest.mark.parametrize("label", [np.zeros(3, int), np.full(300, 0.5)])
def test_labels_of_another_form_are_named(written, label):
    with pytest.raises(DataError, match=r"'label' has shape .* Allowed: whole numbers of shape \(300,\)"):
        read_jets(written(label=label))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask": np.full((300, 30), 2)}, r"a\.npz: jet 0, particle 0 has mask=2\. Allowed: True and False"),
        ({"label": np.full(300, 0.5)}, "'label' has values of type float64. Allowed: whole numbers"),
        ({"jet": np.full((300, 4), "a")}, "'jet' has values of type <U1"),
        ({"particles": None, "particels": np.zeros(3)}, r"lacks the array\(s\) particles.* Did you mean 'particels'\?"),
    ],
)
def test_arrays_of_another_kind_are_named(toy_jets, tmp_path, changes, message):
    names = ("particles", "mask", "jet", "label", "classes")
    arrays = {name: np.asarray(getattr(toy_jets, name)) for name in names} | changes
    np.savez(tmp_path / "a.npz", **{name: values for name, values in arrays.items() if values is not None})
    with pytest.raises(DataError, match=message):
        read_jets(tmp_path / "a.npz")


def test_the_name_of_an_array_of_energyflow_is_told(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 3, 4)), y=np.zeros(2))
    with pytest.raises(DataError, match="Did you mean 'X' for 'x'"):
        read_jets(tmp_path / "a.npz")


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
    np.savez(tmp_path / "other.npz", x=np.zeros(3), y=np.zeros(3))
    with pytest.raises(DataError, match=r"lacks.*particles.*Found: x, y.*or with X and y, as EnergyFlow"):
        read_jets(tmp_path / "other.npz")


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


def jetnet(path, jets, jet_features=None):
    with h5py.File(path, "w") as file:
        file["particle_features"] = np.concatenate([jets.particles, jets.mask[..., None]], axis=-1)
        file["jet_features"] = jets.jet if jet_features is None else jet_features
    return path


def in_gev(jets, **changes):
    particles = jets.particles * np.concatenate([np.ones((len(jets), 2)), jets.jet[:, :1]], axis=1)[:, None]
    return replace(jets, particles=particles.astype(np.float32), **changes)


def test_gev_become_fractions_and_it_is_said(toy_jets, tmp_path):
    reading = read_files(jetnet(tmp_path / "q.h5", in_gev(toy_jets)))
    assert np.allclose(reading.jets.particles, toy_jets.particles, atol=1e-6)
    assert any("q.h5: pT is in GeV" in note for note in reading.notes)


def test_gev_that_are_not_those_of_the_jet_are_refused(toy_jets, tmp_path):
    with pytest.raises(DataError, match=r"q\.h5: .*looks like GeV.*Mend the jets' pT"):
        read_jets(jetnet(tmp_path / "q.h5", in_gev(toy_jets), np.ones((300, 4))))


def test_absolute_positions_become_relative_and_it_is_said(toy_jets, tmp_path):
    particles = toy_jets.particles.copy()
    particles[..., :2] += np.array([0.9, 2.9]) * toy_jets.mask[..., None]
    reading = read_files(jetnet(tmp_path / "q.h5", replace(toy_jets, particles=particles)))
    assert any("q.h5: positions are absolute" in note for note in reading.notes)
    pt = reading.jets.particles[..., 2]
    assert np.allclose((pt * reading.jets.particles[..., 0]).sum(axis=1), 0, atol=1e-5)


def test_a_mask_that_disagrees_is_named_before_anything_is_converted(toy_jets, tmp_path):
    mask = toy_jets.mask.copy()
    mask[5, 0] = False
    with pytest.raises(DataError, match=r"q\.h5: jet 5, particle 0 has ptrel=.* absent"):
        read_jets(jetnet(tmp_path / "q.h5", in_gev(toy_jets, mask=mask)))
    particles = toy_jets.particles.copy()
    particles[6, 1, 2] = -0.2
    with pytest.raises(DataError, match=r"jet 6, particle 1 has ptrel=-0\.2"):
        read_jets(jetnet(tmp_path / "q.h5", replace(toy_jets, particles=particles)))


def test_files_of_150_particles_are_cut_while_they_are_read(toy_jets, tmp_path, monkeypatch):
    monkeypatch.setattr("stablelit.families.jets.readers.jetnet_hdf5.PIECE", 70)
    wide = replace(
        toy_jets,
        particles=np.pad(toy_jets.particles, ((0, 0), (120, 0), (0, 0))),
        mask=np.pad(toy_jets.mask, ((0, 0), (120, 0))),
    )
    reading = read_files(jetnet(tmp_path / "t150.hdf5", wide), n_particles=12)
    assert reading.jets.classes == ("t",)
    assert reading.jets.n_particles == 12
    assert reading.most_particles == int(toy_jets.mask.sum(axis=1).max())
    expected, lost = toy_jets.hardest(12)
    assert np.allclose(reading.jets.particles, expected.particles, atol=1e-6)
    assert reading.lost_pt_share == pytest.approx(lost, abs=1e-6)


def test_a_bad_jet_of_a_later_piece_has_its_place_in_the_file(toy_jets, tmp_path, monkeypatch):
    monkeypatch.setattr("stablelit.families.jets.readers.jetnet_hdf5.PIECE", 70)
    jet = toy_jets.jet.copy()
    jet[201, 2] = np.nan
    with pytest.raises(DataError, match=r"jet 201 has mass=nan"):
        read_jets(jetnet(tmp_path / "q.h5", toy_jets, jet))


def test_several_files_are_read_as_one_and_classes_matched_by_name(toy_jets, tmp_path):
    for name, rows in (("g", slice(0, 100)), ("q", slice(100, 180)), ("t", slice(180, 300))):
        jetnet(tmp_path / f"{name}.hdf5", toy_jets.take(rows))
    write_jets(tmp_path / "more.npz", toy_jets.take(slice(0, 50)).hardest(40)[0])
    several = read_jets(tmp_path / "*.hdf5"), read_jets([tmp_path / f"{n}.hdf5" for n in "gqt"])
    for jets in several:
        assert jets.classes == ("g", "q", "t")
        assert np.bincount(jets.label).tolist() == [100, 80, 120]
        assert np.allclose(jets.particles, toy_jets.particles, atol=1e-6)
    mixed = read_jets([tmp_path / "t.hdf5", tmp_path / "more.npz"])
    assert mixed.particles.shape == (170, 40, 3)
    assert mixed.classes == ("t", "q", "g")
    names = np.array(toy_jets.classes)[toy_jets.label[:50]]
    assert np.array(mixed.classes)[mixed.label[120:]].tolist() == names.tolist()


def test_classes_that_are_numbers_come_in_the_order_of_numbers(toy_jets):
    parts = [replace(toy_jets.take(slice(0, 2)), label=np.zeros(2, int), classes=(name,)) for name in ("12", "3")]
    whole = joined(parts)
    assert whole.classes == ("3", "12")
    assert whole.label.tolist() == [1, 1, 0, 0]


def test_a_pattern_that_matches_nothing_and_a_file_named_twice_are_refused(toy_jets, tmp_path):
    with pytest.raises(DataError, match=r"\*\.h5: no file matches"):
        read_jets(tmp_path / "*.h5")
    path = jetnet(tmp_path / "q.h5", toy_jets)
    with pytest.raises(DataError, match="named twice"):
        read_jets([path, tmp_path / "*.h5"])
    with pytest.raises(DataError, match="list of paths is empty"):
        read_jets([])


def test_a_directory_is_told_to_be_a_pattern(tmp_path):
    for look in (check_suffixes, read_jets):
        with pytest.raises(DataError, match=r"is a directory.*\*\.h5"):
            look(tmp_path)


@pytest.mark.parametrize("suffix", [".parquet", ".root", ".pt"])
def test_formats_that_are_only_read_name_those_that_are_written(tmp_path, suffix):
    with pytest.raises(DataError, match=r"only read. Allowed: \.h5 \.hdf5 \(JetNet HDF5\); \.npz .*stablelit\)\.$"):
        format_of(tmp_path / f"jets{suffix}")


@pytest.mark.parametrize("suffix", sorted({s for form in FORMATS for s in form.suffixes}))
def test_in_every_format_a_missing_file_a_directory_and_an_empty_file_are_named(tmp_path, suffix):
    if suffix == ".root":
        pytest.importorskip("uproot", reason="uproot is an optional dependency: stablelit[root]")
    with pytest.raises(DataError, match=rf"none{suffix}: no such file"):
        read_jets(tmp_path / f"none{suffix}")
    (tmp_path / f"d{suffix}").mkdir()
    with pytest.raises(DataError, match="is a directory"):
        read_jets(tmp_path / f"d{suffix}")
    (tmp_path / f"zero{suffix}").touch()
    with pytest.raises(DataError, match=rf"zero{suffix}: the file is empty"):
        read_jets(tmp_path / f"zero{suffix}")
