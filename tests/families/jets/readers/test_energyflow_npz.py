from __future__ import annotations

import numpy as np
import pytest

from stablelit.errors import DataError
from stablelit.families.jets.readers import read_jets


def as_energyflow(jets, width=60):
    x = np.zeros((len(jets.momenta), width, 4))
    for i in range(len(jets.momenta)):
        for j, (pt, eta, phi) in enumerate(jets.angles(i)):
            # the published files have azimuths from 0 on
            x[i, j] = pt, eta, phi % (2 * np.pi), 211
    return x


@pytest.fixture
def path(seen_jets, tmp_path):
    np.savez_compressed(tmp_path / "QG_jets.npz", X=as_energyflow(seen_jets), y=seen_jets.label.astype(float))
    return tmp_path / "QG_jets.npz"


def changed(path, place, value, key="X"):
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    arrays[key][place] = value
    np.savez(path, **arrays)


def test_momenta_and_labels_come_out_as_derived_one_by_one(seen_jets, path):
    jets = read_jets(path)
    seen_jets.assert_read_as(jets)
    assert jets.classes == ("g", "q")
    assert jets.label.tolist() == seen_jets.label.tolist()


def test_a_file_without_labels_has_one_class(seen_jets, tmp_path):
    np.savez(tmp_path / "x.npz", X=as_energyflow(seen_jets)[..., :3])
    assert read_jets(tmp_path / "x.npz").classes == ("jet",)


def test_a_negative_momentum_is_named(path):
    changed(path, (7, 2, 0), -3.5)
    with pytest.raises(DataError, match=r"QG_jets\.npz: jet 7, particle 2 has pt=-3\.5 .*standardised"):
        read_jets(path)


@pytest.mark.parametrize(("column", "name"), [(0, "pt"), (1, "y"), (2, "phi")])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_named(path, column, name, value):
    changed(path, (9, 3, column), value)
    with pytest.raises(DataError, match=rf"jet 9, particle 3 has {name}={value}"):
        read_jets(path)


def test_a_position_without_momentum_is_named(path):
    changed(path, (5, 1, 0), 0.0)
    with pytest.raises(DataError, match=r"jet 5, particle 1 has pt=0 but a position"):
        read_jets(path)


def test_fractions_instead_of_gev_are_refused(seen_jets, tmp_path):
    x = as_energyflow(seen_jets)
    x[..., 0] /= np.maximum(x[..., 0].sum(axis=1, keepdims=True), 1.0)
    np.savez(tmp_path / "x.npz", X=x)
    with pytest.raises(DataError, match=r"add up to pT=0\.9.*fractions.*Allowed: pT in GeV"):
        read_jets(tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": np.zeros((3, 4))}, r"X has shape \(3, 4\)"),
        ({"X": np.zeros((3, 5, 7))}, r"\(jets, particles, 4\) with pt, y, phi"),
        ({"X": np.zeros((0, 5, 4))}, "no jets"),
        ({"X": np.full((2, 5, 4), "a")}, "type <U1"),
        ({"X": np.zeros((3, 5, 4)), "y": np.zeros(2)}, r"y has shape \(2,\)"),
        ({"X": np.zeros((3, 5, 4)), "y": np.array([0, 1, 2])}, r"jet 2 has y=2.*0 \(gluon\) and 1 \(quark\)"),
        ({"X": np.zeros((3, 5, 4)), "y": np.zeros(3)}, "all 3 jets are empty"),
    ],
)
def test_other_arrays_are_named(tmp_path, arrays, message):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(DataError, match=message):
        read_jets(tmp_path / "x.npz")


@pytest.mark.parametrize("share", [0.999, 0.5, 0.01])
def test_a_truncated_file_is_refused(path, share):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match=r"QG_jets\.npz: cannot be read|QG_jets\.npz: has arrays of Python objects"):
        read_jets(path)


def test_jets_of_no_one_and_two_particles_are_read(tmp_path):
    x = np.zeros((4, 3, 4))
    x[1, 0], x[2, :2], x[3] = (50.0, 0.1, 3.0, 211), (50.0, 0.1, 3.0, 211), (20.0, 0.2, 3.1, 22)
    np.savez(tmp_path / "few.npz", X=x, y=np.zeros(4))
    jets = read_jets(tmp_path / "few.npz")
    assert jets.mask.sum(axis=1).tolist() == [0, 1, 2, 3]
    kept, n_empty = jets.without_empty()
    assert (len(kept), n_empty) == (3, 1)
    assert kept.particles[0, 0].tolist() == pytest.approx([0.0, 0.0, 1.0], abs=1e-6)
