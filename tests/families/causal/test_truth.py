from __future__ import annotations

import numpy as np
import pytest

from stablelit.errors import ConfigurationError, DataError
from stablelit.families.causal.truth import read_truth

NAMES = ("raf", "mek", "erk")
# raf -> mek -> erk
CHAIN = np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]])


@pytest.fixture
def file(tmp_path):
    def write(name: str, content: str | np.ndarray) -> str:
        path = tmp_path / name
        if isinstance(content, str):
            path.write_text(content)
        else:
            np.save(path, content)
        return str(path)

    return write


@pytest.mark.parametrize("convention", ["row", "column"])
def test_one_edge_between_two_nodes_points_where_its_convention_says(file, convention):
    path = file("a.npy", np.array([[0, 1], [0, 0]]))
    graph = read_truth(path, ("a", "b"), convention)
    assert graph.dtype == bool
    # [0, 1] of the file is a -> b by rows, b -> a by columns
    expected = [[False, True], [False, False]] if convention == "row" else [[False, False], [True, False]]
    assert graph.tolist() == expected


FORMS = {
    "bare.csv": "0,1,0\n0,0,1\n0,0,0\n",
    "blanks.txt": "0 1 0\n0 0 1\n0 0 0\n",
    "header.csv": "raf,mek,erk\n0,1,0\n0,0,1\n0,0,0\n",
    "floats.tsv": "raf\tmek\terk\n0.0\t1.0\t0.0\n0.0\t0.0\t1.0\n0.0\t0.0\t0.0\n",
    "beside.csv": ",raf,mek,erk\nraf,0,1,0\nmek,0,0,1\nerk,0,0,0\n",
    "corner.csv": "node;raf;mek;erk\nraf;0;1;0\nmek;0;0;1\nerk;0;0;0\n",
    "only_beside.csv": "raf,0,1,0\nmek,0,0,1\nerk,0,0,0\n",
    "no_corner.csv": "raf,mek,erk\nraf,0,1,0\nmek,0,0,1\nerk,0,0,0\n",
    "numbered.csv": ",raf,mek,erk\n0,0,1,0\n1,0,0,1\n2,0,0,0\n",
    "other_order.csv": "erk,raf,mek\n0,0,0\n0,0,1\n1,0,0\n",
    "edges.csv": "Cause,Effect\nraf,mek\nmek,erk\n",
    "pairs.csv": "raf,mek\nmek,erk\n",
    "sources.tsv": "target\tweight\tsource\nmek\t0.3\traf\nerk\t2\tmek\n",
    "tetrad.txt": "Graph Nodes:\nraf;mek;erk\n\nGraph Edges:\n1. raf --> mek\n2. erk <-- mek\n\nAttributes:\nBIC: 3\n",
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_the_same_graph_is_read_alike(file, name):
    assert (read_truth(file(name, FORMS[name]), NAMES) == CHAIN).all()


def test_an_npz_has_the_truth_under_its_name(tmp_path):
    np.savez(tmp_path / "a.npz", truth=CHAIN, other=np.zeros(3))
    assert (read_truth(tmp_path / "a.npz", NAMES) == CHAIN).all()
    np.savez(tmp_path / "b.npz", a=CHAIN, b=CHAIN)
    with pytest.raises(DataError, match=r"b\.npz: has no array 'truth'. Found: a, b"):
        read_truth(tmp_path / "b.npz", NAMES)


def test_a_convention_turns_a_matrix_and_not_a_list_of_edges(file):
    assert (read_truth(file("m.csv", FORMS["header.csv"]), NAMES, "column") == CHAIN.T).all()
    assert (read_truth(file("e.csv", FORMS["edges.csv"]), NAMES, "column") == CHAIN).all()


def test_names_of_the_file_are_put_into_the_order_of_the_columns(file):
    graph = read_truth(file("m.csv", FORMS["header.csv"]), ("erk", "mek", "raf"))
    assert graph.tolist() == [[False, False, False], [True, False, False], [False, True, False]]


def test_columns_that_no_edge_names_are_in_the_graph(file):
    assert read_truth(file("e.csv", "Cause,Effect\nraf,mek\n"), NAMES).sum() == 1


def test_a_cycle_is_written_out_and_can_be_allowed(file):
    path = file("e.csv", "Cause,Effect\nraf,mek\nmek,erk\nerk,raf\n")
    with pytest.raises(
        DataError, match="has a cycle: (raf -> mek -> erk -> raf|mek -> erk -> raf -> mek|erk -> raf -> mek -> erk)"
    ):
        read_truth(path, NAMES)
    assert read_truth(path, NAMES, allow_cyclic=True).sum() == 3


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npy", np.eye(3), r"3 self-loop\(s\), the first raf -> raf"),
        ("a.npy", np.zeros((2, 2)), r"has 2 nodes and the data 3 columns \(raf, mek, erk\)"),
        ("a.npy", np.zeros((3, 2)), r"has shape \(3, 2\)\. Allowed: square"),
        ("a.npy", np.zeros(3), r"has shape \(3,\)"),
        ("a.npy", CHAIN * 0.7, r"has 0\.7 at \(0, 1\), and 2 entries are neither 0 nor 1.*\(weights != 0\)"),
        ("a.npy", np.array([["a"] * 3] * 3), "values of type <U1"),
        ("a.csv", "raf,mek,erc\n0,1,0\n0,0,1\n0,0,0\n", "has the node 'erc', which is no column.*Did you mean 'erk'"),
        ("a.csv", "raf,mek\n0,1\n0,0\n", "has no node 'erk'. Found: raf, mek"),
        ("a.csv", "raf,mek,mek\n0,1,0\n0,0,1\n0,0,0\n", "has no node 'erk'"),
        ("a.csv", "raf,mek,erk\n0,1,0\n0,0\n0,0,0\n", "row 1 of the matrix has 2 cells, the first 3"),
        ("a.csv", "raf,mek,erk\n0,yes,0\n0,0,1\n0,0,0\n", r"has 'yes' at \(0, 1\)"),
        (
            "a.csv",
            "raf,mek,erk\nmek,0,1,0\nraf,0,0,1\nerk,0,0,0\n",
            "the rows are called mek, raf, erk and the columns",
        ),
        ("a.csv", "raf,mek\nmek,erc\n", "call its columns Cause and Effect"),
        ("a.csv", "Cause,Effect\nraf,mek\nraf\n", "row 2 has 1 cells, the header 2"),
        ("a.csv", "Cause,Effect\nraf,mekk\n", "node 'mekk', which is no column.*Did you mean 'mek'"),
        ("a.csv", "Cause,Effect\nraf,mek\nraf,mek\n", "raf -> mek is there twice"),
        ("a.csv", "Cause,Effect\nraf,mek\nmek,raf\n", "has a cycle.*both ways is an undirected one"),
        ("a.csv", "Cause,Effect\nraf,raf\n", "self-loop"),
        ("a.txt", "Graph Edges:\n1. raf --- mek\n", r"'1\. raf --- mek' has no direction"),
        ("a.txt", "Graph Edges:\n1. raf <-> mek\n", "has no direction"),
        ("a.txt", "Graph Edges:\n1. raf o-> mek\n", "has no direction"),
        ("a.csv", "\n\n", "has no row"),
        ("a.graphml", "<graph/>", r"suffix '\.graphml'\. Known: \.npy"),
        ("a.npy", "no array", "cannot be read as .npy|is no .npy file"),
    ],
)
def test_what_is_no_true_graph_is_named(file, name, content, message):
    path = file(name, content)
    with pytest.raises(DataError, match=message):
        read_truth(path, NAMES)


def test_a_missing_file_and_another_convention_are_named(tmp_path):
    (tmp_path / "truth.csv").write_text("a")
    with pytest.raises(DataError, match=r"no such file.*Did you mean 'truth\.csv'"):
        read_truth(tmp_path / "thruth.csv", NAMES)
    with pytest.raises(ConfigurationError, match="convention='rows'"):
        read_truth(tmp_path / "truth.csv", NAMES, "rows")


def test_the_consensus_graph_of_sachs_has_its_20_edges(test_data):
    folder = test_data / "causal"
    names = (folder / "sachs.2005.continuous.txt").open().readline().split()
    graph = read_truth(folder / "sachs.2005.ground.truth.graph.txt", names)
    assert graph.sum() == 20
    assert graph[names.index("raf"), names.index("mek")]
    assert not graph[names.index("mek"), names.index("raf")]
    assert set(np.flatnonzero(graph[names.index("pkc")])) == {
        names.index(n) for n in ("jnk", "mek", "p38", "pka", "raf")
    }
