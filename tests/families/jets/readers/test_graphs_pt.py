from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from stablelit.errors import DataError
from stablelit.families.jets.readers import read_jets


def graphs_of(seen_jets, kind="angles"):
    graphs = []
    for i, momenta in enumerate(seen_jets.momenta):
        if kind == "momenta":
            x = torch.tensor(momenta, dtype=torch.float)
        else:
            x = torch.tensor(seen_jets.angles(i), dtype=torch.float).reshape(-1, 3)
        if kind == "mass":
            x = torch.cat([x, torch.full((len(x), 1), 0.14)], dim=1)
        n = len(x)
        graph = Data(x=x, y=torch.tensor([int(seen_jets.label[i])]))
        graph.edge_index = torch.combinations(torch.arange(n)).T
        graph.hyperedge_index = torch.stack([torch.arange(3 * (n // 3)), torch.arange(3 * (n // 3)) // 3])
        graph.hyperedge_attr = torch.zeros(n // 3, 2)
        graphs.append(graph)
    return graphs


@pytest.fixture
def saved(tmp_path):
    def save(what, **options):
        torch.save(what, tmp_path / "data.pt", **options)
        return tmp_path / "data.pt"

    return save


@pytest.mark.parametrize("kind", ["angles", "mass", "momenta"])
@pytest.mark.parametrize("as_dict", [False, True])
def test_momenta_and_labels_come_out_as_derived_one_by_one(seen_jets, saved, kind, as_dict):
    graphs = graphs_of(seen_jets, kind)
    jets = read_jets(saved({"graphs": graphs, "metadata": {"n": 40}} if as_dict else graphs))
    seen_jets.assert_read_as(jets, mass_tolerance=0.5)
    assert jets.classes == ("0", "1")
    assert jets.label.tolist() == seen_jets.label.tolist()


def test_files_of_the_old_container_are_read(seen_jets, saved):
    seen_jets.assert_read_as(read_jets(saved(graphs_of(seen_jets), _use_new_zipfile_serialization=False)))


@pytest.mark.parametrize("method", ["zscore", "minmax"])
def test_standardised_momenta_are_restored_with_their_own_numbers(seen_jets, saved, method):
    graphs, flat, stats = graphs_of(seen_jets, "momenta"), seen_jets.flat, {}
    for i, name in enumerate(("E", "px", "py", "pz")):
        column = flat[:, i]
        if method == "zscore":
            stats[name] = {"mean": float(column.mean()), "std": float(column.std()), "method": method}
            offset, scale = stats[name]["mean"], stats[name]["std"]
        else:
            stats[name] = {"min": float(column.min()), "max": float(column.max()), "method": method}
            offset, scale = stats[name]["min"], stats[name]["max"] - stats[name]["min"]
        for graph in graphs:
            graph.x[:, i] = (graph.x[:, i] - offset) / scale
    for graph in graphs:
        graph.particle_norm_stats = stats
        graph.y = torch.tensor([float(graph.y), 6.9, 0.1, 4.4])
    jets = read_jets(saved(graphs))
    assert np.allclose(jets.jet[1:, 0], [seen_jets.relative(i)[1][0] for i in range(1, 40)], rtol=1e-3)
    assert jets.label.tolist() == seen_jets.label.tolist()


def test_standardised_features_without_their_numbers_are_refused(seen_jets, saved):
    graphs = graphs_of(seen_jets)
    flat = torch.cat([g.x for g in graphs])
    for graph in graphs:
        graph.x = (graph.x - flat.mean(0)) / flat.std(0)
    with pytest.raises(DataError, match=r"jet \d+, particle \d+ has pt=-.*undo that with the means"):
        read_jets(saved(graphs))


def test_graphs_without_a_class_are_of_one(seen_jets, saved):
    assert read_jets(saved([Data(x=g.x) for g in graphs_of(seen_jets)])).classes == ("jet",)


@pytest.mark.parametrize(
    ("name", "place", "value", "message"),
    [
        ("hyperedge_index", (0, 1), 99, r"jet 9 has hyperedge_index\[0\] from 0 to 99, but \d+ particles"),
        ("hyperedge_index", (1, 1), 99, r"jet 9 has hyperedge_index\[1\] from 0 to 99, but \d+ hyperedges"),
        ("hyperedge_index", (0, 0), -1, r"jet 9 has hyperedge_index\[0\] from -1"),
        ("edge_index", (1, 0), 99, r"jet 9 has edge_index\[1\] from \d to 99, but \d+ particles"),
    ],
)
def test_indices_that_point_at_nothing_are_named(seen_jets, saved, name, place, value, message):
    graphs = graphs_of(seen_jets)
    graphs[9][name][place] = value
    with pytest.raises(DataError, match=message):
        read_jets(saved(graphs))


def test_an_index_one_beyond_the_last_particle_is_named(seen_jets, saved):
    graphs = graphs_of(seen_jets)
    graphs[9].hyperedge_index[0, 1] = len(graphs[9].x)
    with pytest.raises(DataError, match=r"jet 9 has hyperedge_index\[0\]"):
        read_jets(saved(graphs))


def test_indices_of_another_form_are_named(seen_jets, saved):
    graphs = graphs_of(seen_jets)
    graphs[5].hyperedge_index = graphs[5].hyperedge_index.float()
    with pytest.raises(DataError, match=r"jet 5 has hyperedge_index of shape .* and type torch\.float32"):
        read_jets(saved(graphs))


def test_values_that_are_not_finite_are_named(seen_jets, saved):
    graphs = graphs_of(seen_jets)
    graphs[12].x[2, 1] = torch.nan
    with pytest.raises(DataError, match=r"data\.pt: jet 12, particle 2 has eta=nan"):
        read_jets(saved(graphs))


def test_numpy_among_the_metadata_is_refused_with_the_lines_that_convert(seen_jets, saved):
    path = saved({"graphs": graphs_of(seen_jets), "metadata": {"mean_pt": np.float64(20.0)}})
    with pytest.raises(DataError, match=r"numpy.*Convert it once.*weights_only=False.*torch\.save"):
        read_jets(path)


class Evil:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code of the file was run')",))


def test_a_pickle_does_not_run(saved):
    with pytest.raises(DataError, match=r"not opened, because a pickle can run code"):
        read_jets(saved([Evil()]))


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ([], "no jets"),
        ({"jets": []}, r"dict without 'graphs'. Found: jets"),
        (torch.zeros(3), "holds a Tensor, not a list of graphs"),
        ([torch.zeros(3)], "not a list of graphs"),
        ([Data(x=torch.zeros(4, 7))], r"jet 0 has x of shape \(4, 7\)"),
        ([Data(x=torch.ones(4, 3)), Data()], r"jet 1 has x = None"),
        ([Data(x=torch.eye(3).to_sparse())], r"jet 0 has x of shape \(3, 3\) and type torch.float32, torch.sparse_coo"),
        ([Data(x=torch.ones(3, 3, dtype=torch.cfloat))], r"jet 0 has x .*complex64"),
        ([Data(x=torch.ones(4, 3)), Data(x=torch.ones(4, 4))], r"have 3 features a particle and some 4"),
        ([Data(x=torch.full((2, 3), 9.0), y=torch.tensor([0.5]))], r"jet 0 has the class y="),
        ([Data(x=torch.full((2, 3), 9.0), y="q")], r"jet 0 has the class y='q'\. Allowed: an integer"),
        ([Data(x=torch.full((2, 3), 9.0), y=torch.zeros(0))], r"jet 0 has the class y=tensor"),
        ([Data(x=torch.full((2, 3), 9.0), edge_index=[[0], [1]])], r"jet 0 has edge_index = \[\[0\], \[1\]\]"),
        ([Data(x=torch.full((2, 3), 9.0), particle_norm_stats="zscore")], r"particle_norm_stats is 'zscore'"),
        ([Data(x=torch.full((2, 3), 9.0), particle_norm_stats={"pt": 5.0})], r"is \{'pt': 5.0\}.*each with its mean"),
        ([Data(x=torch.zeros(0, 3))], "all 1 jets are empty"),
    ],
)
def test_other_contents_are_named(saved, what, message):
    with pytest.raises(DataError, match=message):
        read_jets(saved(what))


@pytest.mark.parametrize("share", [0.99, 0.5, 0.01])
@pytest.mark.parametrize("new", [True, False])
def test_a_truncated_file_is_refused(seen_jets, saved, share, new):
    path = saved(graphs_of(seen_jets), _use_new_zipfile_serialization=new)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match=r"data\.pt: "):
        read_jets(path)


def test_another_format_under_this_suffix_is_refused(tmp_path):
    (tmp_path / "data.pt").write_text("pt,eta,phi\n" * 50)
    with pytest.raises(DataError, match=r"data\.pt: "):
        read_jets(tmp_path / "data.pt")


@pytest.mark.slow
def test_large_files_are_mapped_and_say_the_same(seen_jets, saved, monkeypatch):
    monkeypatch.setattr("stablelit.families.jets.readers.graphs_pt.MAPPED_FROM_BYTES", 0)
    seen_jets.assert_read_as(read_jets(saved(graphs_of(seen_jets))))
    seen_jets.assert_read_as(read_jets(saved(graphs_of(seen_jets), _use_new_zipfile_serialization=False)))
