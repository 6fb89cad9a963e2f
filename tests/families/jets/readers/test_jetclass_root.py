from __future__ import annotations

import builtins

import numpy as np
import pytest

from stablelit.errors import DataError, MissingDependencyError
from stablelit.families.jets.readers import read_jets


def test_without_uproot_the_extra_is_named(tmp_path, monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name in ("uproot", "awkward"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingDependencyError, match=r"stablelit\[root\]"):
        read_jets(tmp_path / "a.root")


@pytest.fixture
def root():
    """Writes a tree of JetClass with uproot, which is an optional dependency."""
    reason = "uproot is an optional dependency: stablelit[root]"
    awkward = pytest.importorskip("awkward", reason=reason)
    uproot = pytest.importorskip("uproot", reason=reason)

    def write(
        path, seen_jets, names=("part_energy", "part_px", "part_py", "part_pz"), tree="tree", change=(), form="mktree"
    ):
        flat = seen_jets.flat.astype(np.float32)
        for place, column, value in change:
            flat[place, column] = value
        branches = {n: awkward.unflatten(flat[:, i], seen_jets.counts) for i, n in enumerate(names)}
        scalars = {"label_QCD": seen_jets.label == 0, "label_Tbqq": seen_jets.label == 1}
        with uproot.recreate(path) as file:
            kinds = {**dict.fromkeys(branches, "var * float32"), **dict.fromkeys(scalars, "bool")}
            for name in tree.split():
                getattr(file, form)(name, kinds)
                file[name].extend({**branches, **scalars})
            file["note"] = "not a tree"
        return path

    return write


def test_momenta_and_labels_come_out_as_derived_one_by_one(seen_jets, root, tmp_path, monkeypatch):
    monkeypatch.setattr("stablelit.families.jets.readers.jetclass_root.PIECE", 9)
    jets = read_jets(root(tmp_path / "a.root", seen_jets, tree="Events"))
    seen_jets.assert_read_as(jets, mass_tolerance=0.5)
    assert jets.classes == ("QCD", "Tbqq")
    assert jets.label.tolist() == seen_jets.label.tolist()


def test_an_rntuple_is_read_like_a_tree(seen_jets, root, tmp_path, monkeypatch):
    uproot = pytest.importorskip("uproot", reason="uproot is an optional dependency: stablelit[root]")
    if not hasattr(uproot.WritableDirectory, "mkrntuple"):
        pytest.skip("this uproot writes no RNTuple")
    monkeypatch.setattr("stablelit.families.jets.readers.jetclass_root.PIECE", 9)
    seen_jets.assert_read_as(read_jets(root(tmp_path / "a.root", seen_jets, form="mkrntuple")), mass_tolerance=0.5)


def test_several_trees_of_jets_ask_which(seen_jets, root, tmp_path):
    with pytest.raises(DataError, match=r"several trees hold jets: first, second\. Allowed: one"):
        read_jets(root(tmp_path / "a.root", seen_jets, tree="second first"))


def test_values_that_are_not_finite_are_named(seen_jets, root, tmp_path, monkeypatch):
    monkeypatch.setattr("stablelit.families.jets.readers.jetclass_root.PIECE", 9)
    place = int(seen_jets.counts[:21].sum()) + 2
    path = root(tmp_path / "a.root", seen_jets, change=[(place, 3, np.nan)])
    with pytest.raises(DataError, match=r"a\.root: jet 21, particle 2 has part_pz=nan"):
        read_jets(path)


def test_near_branch_names_are_given(seen_jets, root, tmp_path):
    path = root(tmp_path / "a.root", seen_jets, names=("part_energy", "Part_px", "part_py", "part_pz"))
    with pytest.raises(DataError, match=r"no column part_px.*Did you mean.*'Part_px'"):
        read_jets(path)


@pytest.mark.parametrize("share", [0.9, 0.5, 0.02])
def test_a_truncated_file_is_refused(seen_jets, root, tmp_path, share):
    path = root(tmp_path / "a.root", seen_jets)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match=r"a\.root: "):
        read_jets(path)


@pytest.mark.usefixtures("root")
def test_another_format_under_this_suffix_is_refused(tmp_path):
    (tmp_path / "a.root").write_text("pt,eta,phi\n" * 50)
    with pytest.raises(DataError, match=r"a\.root: cannot be read as ROOT"):
        read_jets(tmp_path / "a.root")


def test_a_file_without_a_tree_is_refused(root, tmp_path):
    import uproot

    with uproot.recreate(tmp_path / "a.root") as file:
        file["note"] = "not a tree"
    with pytest.raises(DataError, match=r"has no TTree or RNTuple. Found: note \(TObjString\)"):
        read_jets(tmp_path / "a.root")
