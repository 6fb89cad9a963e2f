from __future__ import annotations

import builtins

import numpy as np
import pytest

from stablelit.errors import DataError, MissingDependencyError
from stablelit.families.jets.readers import read_jets

pa = pytest.importorskip("pyarrow", reason="pyarrow is an optional dependency: stablelit[parquet]")
import pyarrow.parquet as pq  # noqa: E402


def lists(seen_jets, flat):
    return pa.ListArray.from_arrays(np.concatenate([[0], np.cumsum(seen_jets.counts)]), pa.array(flat))


def momentum_columns(seen_jets):
    names = ("part_energy", "part_px", "part_py", "part_pz")
    return {name: lists(seen_jets, seen_jets.flat[:, i].astype(np.float32)) for i, name in enumerate(names)}


@pytest.fixture
def columns(seen_jets):
    return {**momentum_columns(seen_jets), "jet_label": pa.array(161 + 2 * seen_jets.label), "aux": ["x"] * 40}


@pytest.fixture
def written(tmp_path):
    def write(columns, **options):
        pq.write_table(pa.table(columns), tmp_path / "jets.parquet", **options)
        return tmp_path / "jets.parquet"

    return write


def test_momenta_and_labels_come_out_as_derived_one_by_one(seen_jets, columns, written):
    jets = read_jets(written(columns, row_group_size=9))
    seen_jets.assert_read_as(jets, mass_tolerance=0.5)
    assert jets.classes == ("161", "163")
    assert jets.label.tolist() == seen_jets.label.tolist()


def test_classes_of_pieces_are_matched(seen_jets, columns, written, monkeypatch):
    monkeypatch.setattr("stablelit.families.jets.readers.jetclass_parquet.PIECE", 3)
    jets = read_jets(written({**columns, "jet_label": pa.array(np.arange(40)[::-1] // 4)}))
    assert jets.classes == tuple(str(i) for i in range(10))
    assert jets.label.tolist() == (np.arange(40)[::-1] // 4).tolist()


def test_one_hot_labels_give_classes_their_names(seen_jets, written):
    one_hot = {"label_QCD": pa.array(seen_jets.label == 0), "label_Tbqq": pa.array(seen_jets.label == 1)}
    jets = read_jets(written({**momentum_columns(seen_jets), **one_hot}))
    assert jets.classes == ("QCD", "Tbqq")
    assert jets.label.tolist() == seen_jets.label.tolist()


@pytest.mark.parametrize(
    ("also", "message"), [(True, r"2 classes \(label_a, label_b\)"), (False, r"0 classes \(none\)")]
)
def test_a_jet_of_two_classes_or_none_is_named(seen_jets, written, also, message):
    first, second = np.ones(40, dtype=bool), np.zeros(40, dtype=bool)
    first[8], second[8] = also, also
    with pytest.raises(DataError, match=rf"jet 8 is of {message}"):
        read_jets(written({**momentum_columns(seen_jets), "label_a": pa.array(first), "label_b": pa.array(second)}))


def test_angles_and_pt_are_read_where_there_are_no_momenta(seen_jets, written):
    pt, deta, dphi, eta = [], [], [], []
    for i in range(40):
        seen = seen_jets.angles(i)
        axis_eta, axis_phi = (seen[0][1], seen[0][2]) if seen else (0.0, 0.0)
        pt += [a for a, _, _ in seen]
        deta += [b - axis_eta for _, b, _ in seen]
        dphi += [np.remainder(c - axis_phi + np.pi, 2 * np.pi) - np.pi for _, _, c in seen]
        eta.append(seen_jets.relative(i)[1][1] if seen else 0.0)
    values = {"part_pt": pt, "part_deta": deta, "part_dphi": dphi}
    jets = read_jets(written({**{k: lists(seen_jets, v) for k, v in values.items()}, "jet_eta": pa.array(eta)}))
    seen_jets.assert_read_as(jets)


@pytest.mark.parametrize("kind", ["large", "missing"])
def test_other_lists_are_lists(seen_jets, columns, written, kind):
    for name in ("part_px", "part_py", "part_pz", "part_energy"):
        if kind == "large":
            columns[name] = columns[name].cast(pa.large_list(pa.float64()))
        else:
            columns[name] = pa.array([None if not len(x) else x for x in columns[name].to_pylist()])
    seen_jets.assert_read_as(read_jets(written(columns)), mass_tolerance=0.5)


def test_lists_of_a_fixed_size_are_read(written):
    momenta = np.random.default_rng(0).uniform(10, 20, (6, 3, 3))
    fixed = {
        name: pa.FixedSizeListArray.from_arrays(pa.array(momenta[..., i].ravel()), 3)
        for i, name in enumerate(("part_px", "part_py", "part_pz"))
    }
    assert read_jets(written(fixed)).jet[:, 0] == pytest.approx(np.hypot(*momenta.sum(axis=1).T[:2]), rel=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, None])
def test_values_that_are_not_finite_are_named(seen_jets, columns, written, value, monkeypatch):
    monkeypatch.setattr("stablelit.families.jets.readers.jetclass_parquet.PIECE", 4)
    values = columns["part_py"].to_pylist()
    values[17][3] = value
    shown = "inf" if value == np.inf else "nan"
    with pytest.raises(DataError, match=rf"jets\.parquet: jet 17, particle 3 has part_py={shown}"):
        read_jets(written({**columns, "part_py": pa.array(values, type=pa.list_(pa.float64()))}))


def test_lists_of_unequal_length_name_the_jet(seen_jets, columns, written):
    values = columns["part_pz"].to_pylist()
    values[6].append(1.0)
    with pytest.raises(DataError, match=r"jet 6 has \d+ values of part_px but \d+ of part_pz"):
        read_jets(written({**columns, "part_pz": pa.array(values)}))


def test_near_column_names_are_given(columns, written):
    columns["part_Px"] = columns.pop("part_px")
    with pytest.raises(DataError, match=r"no column part_px.*Did you mean 'part_Px'"):
        read_jets(written(columns))


def test_columns_that_are_no_lists_of_numbers_are_named(columns, written):
    with pytest.raises(DataError, match=r"part_px is of type double. Allowed: lists"):
        read_jets(written({**columns, "part_px": pa.array(np.zeros(40))}))
    with pytest.raises(DataError, match=r"part_px is of type list"):
        read_jets(written({**columns, "part_px": pa.array([["a"]] * 40)}))


@pytest.mark.parametrize("label", [-1, 0.5, None, "top"])
def test_a_label_that_is_none_is_named(columns, written, label):
    labels = pa.array([label] + [type(label or 0)(1)] * 39)
    with pytest.raises(DataError, match=r"jet_label"):
        read_jets(written({**columns, "jet_label": labels}))


def test_a_file_without_rows_is_refused(columns, written):
    with pytest.raises(DataError, match="no jets"):
        read_jets(written({name: pa.array(values)[:0] for name, values in columns.items()}))


@pytest.mark.parametrize("share", [0.99, 0.5, 0.02])
def test_a_truncated_file_is_refused(columns, written, share):
    path = written(columns)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match=r"jets\.parquet: cannot be read as parquet"):
        read_jets(path)


def test_a_file_with_damage_inside_is_refused(columns, written):
    path = written(columns)
    whole = bytearray(path.read_bytes())
    whole[40:400] = bytes(360)
    path.write_bytes(whole)
    with pytest.raises(DataError, match=r"jets\.parquet"):
        read_jets(path)


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingDependencyError, match=r"stablelit\[parquet\]"):
        read_jets(tmp_path / "a.parquet")
