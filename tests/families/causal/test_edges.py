from __future__ import annotations

import csv
import doctest
import math

import networkx
import numpy as np
import pytest
import torch

import stablelit.families.causal.edges as module
from stablelit.errors import DataError
from stablelit.families.causal.edges import Edge, EdgeList, edge_verdicts
from stablelit.functional.edge_thresholds import structural_hamming_distance
from tests.families.causal.metrics.conftest import random_dag

NAMES = ["pump, main", 'valve "B"', "flow", "Temp. °C"]
WEIGHTS = np.zeros((4, 4))
WEIGHTS[0, 1], WEIGHTS[2, 1], WEIGHTS[2, 3] = 1 / 3, -2.5, 1e-17
TRUTH = np.zeros((4, 4), dtype=int)
TRUTH[0, 1] = TRUTH[1, 2] = TRUTH[0, 3] = 1


def example(**kwargs):
    return EdgeList.from_weights(WEIGHTS, NAMES, **kwargs)


def test_the_strongest_edge_is_first_and_the_row_is_the_source():
    edges = list(example(confidence=np.full((4, 4), 0.25)))
    assert edges[0] == Edge("flow", 'valve "B"', -2.5, 0.25)
    assert [edge.weight for edge in edges] == [-2.5, 1 / 3, 1e-17]
    assert len(example()) == 3


def test_edges_of_equal_weight_are_sorted_by_name():
    ends = [(e.source, e.target) for e in EdgeList.from_weights(np.ones((3, 3)), ["b", "c", "a"])]
    assert ends == sorted(ends)
    assert len(ends) == 6, "the diagonal is not looked at"


def test_verdicts_say_what_became_of_each_edge():
    edges = example(truth=torch.from_numpy(TRUTH))
    assert {(e.source, e.target): e.verdict for e in edges} == {
        ("flow", 'valve "B"'): "reversed",
        ("pump, main", 'valve "B"'): "correct",
        ("flow", "Temp. °C"): "false",
    }
    assert edges.missing == (("pump, main", "Temp. °C"),)
    assert all(edge.verdict is None for edge in example())


def test_verdicts_add_up_to_the_structural_hamming_distance():
    rng = np.random.default_rng(0)
    both_ways = 0
    for _ in range(200):
        predicted, truth = random_dag(rng, 6) | random_dag(rng, 6, 0.2), random_dag(rng, 6)
        said = {name: int(marks.sum()) for name, marks in edge_verdicts(predicted, truth).items()}
        for cost in (1, 2):
            assert cost * said["reversed"] + said["false"] + said["missing"] == structural_hamming_distance(
                predicted, truth, cost
            )
        assert said["correct"] + said["reversed"] + said["false"] == predicted.sum()
        both_ways += (predicted & predicted.T).any()
    assert both_ways > 50


def test_csv_comes_back_exactly(tmp_path):
    edges = example(confidence=np.full((4, 4), 1 / 7), truth=TRUTH)
    edges.to_csv(tmp_path / "edges.csv")
    again = EdgeList.from_csv(tmp_path / "edges.csv", NAMES)
    assert again.edges == edges.edges
    assert again.names == edges.names
    with (tmp_path / "edges.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["source", "target", "weight", "confidence", "verdict"]
    assert rows[1] == ["flow", 'valve "B"', "-2.5", repr(1 / 7), "reversed"]
    assert len(rows) == 4, "missing edges are no part of the estimate"


def test_csv_without_confidence_and_without_edges(tmp_path):
    example().to_csv(tmp_path / "a.csv")
    assert EdgeList.from_csv(tmp_path / "a.csv", NAMES).edges == example().edges
    EdgeList(NAMES, []).to_csv(tmp_path / "b.csv")
    assert EdgeList.from_csv(tmp_path / "b.csv").edges == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("source,target,weight\na,b,1\n", "a.csv: no column 'confidence'"),
        ("", r"a\.csv: the file is empty"),
        ("\n", "no column 'source'"),
        ("source,target,weight,confidence,verdict\na,b,1,,\na,c,heavy,,\n", "a.csv:3: .*'heavy'"),
        ("source,target,weight,confidence,verdict\na,b,1\n", "a.csv:2: another number of fields"),
        ("source,target,weight,confidence,verdict\na,b,1,,,,\n", "a.csv:2: another number of fields"),
        ("source,target,weight,confidence,verdict\na,b,1,,right\n", "verdict 'right'"),
        ("source,target,weight,confidence,verdict\na,b,1,1.5,\n", "confidence 1.5"),
    ],
)
def test_a_broken_csv_is_refused_with_its_line(text, message, tmp_path):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        EdgeList.from_csv(tmp_path / "a.csv")


def test_graphml_comes_back_with_all_nodes_and_what_is_known(tmp_path):
    example(truth=TRUTH).to_graphml(tmp_path / "graph.graphml")
    graph = networkx.read_graphml(tmp_path / "graph.graphml")
    assert list(graph.nodes) == NAMES
    assert graph.is_directed()
    assert dict(graph.edges["flow", 'valve "B"']) == {"weight": -2.5, "verdict": "reversed"}
    assert graph.number_of_edges() == 3
    EdgeList(["a", "b"], []).to_graphml(tmp_path / "empty.graphml")
    assert list(networkx.read_graphml(tmp_path / "empty.graphml").nodes) == ["a", "b"]


def test_networkx_has_the_weights():
    matrix = networkx.to_numpy_array(example().to_networkx(), nodelist=NAMES)
    assert (matrix == WEIGHTS).all()


def test_the_table_is_aligned_and_says_what_it_leaves_out():
    lines = example(confidence=np.full((4, 4), 0.5), truth=TRUTH).table().splitlines()
    assert lines[0] == 'flow -> valve "B"          -2.5  50 %  reversed'
    assert lines[1] == 'pump, main -> valve "B"  0.3333  50 %   correct'
    assert lines[3] == "missing: pump, main -> Temp. °C"
    assert example().table(most=1).splitlines()[1:] == ["... and 2 more"]
    assert str(EdgeList(NAMES, [])) == "no edges among 4 nodes"
    assert "missing: pump, main" in str(EdgeList.from_weights(WEIGHTS * 0, NAMES, truth=TRUTH))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"names": NAMES[:3]}, r"3 names for weights of shape \(4, 4\)"),
        ({"names": ["a", "b", "a", "c"]}, "the name 'a' is there 2 times"),
        ({"weights": np.full((4, 4), math.nan)}, "EdgeList: weights: 12 of 16 are NaN"),
        ({"weights": np.zeros((2, 4, 4))}, r"weights of shape \(2, 4, 4\)"),
        ({"confidence": np.zeros((3, 3))}, r"confidence of shape \(3, 3\) for 4 nodes"),
        ({"confidence": np.full((4, 4), -1.0)}, "confidence -1; allowed: between 0 and 1"),
        ({"truth": np.zeros((3, 3))}, r"truth of shape \(3, 3\) for 4 nodes"),
        ({"truth": WEIGHTS}, "true edges: 3 entries are neither 0 nor 1"),
        ({"truth": np.eye(4)}, "true edges: 4 self-loops"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(DataError, match=message):
        EdgeList.from_weights(**{"weights": WEIGHTS, "names": NAMES, **arguments})


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([Edge("a", "bb", 1.0)], "there is no node 'bb'. Did you mean 'b'"),
        ([Edge("a", "a", 1.0)], "from a node to itself"),
        ([Edge("a", "b", 1.0), Edge("a", "b", 2.0)], "is there twice"),
        ([Edge("a", "b", math.nan)], "its weight is NaN"),
    ],
)
def test_edges_that_fit_no_graph_are_refused(edges, message):
    with pytest.raises(DataError, match=f"EdgeList: the edge 'a' -> .*{message}"):
        EdgeList(["a", "b"], edges)


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(module).failed == 0
