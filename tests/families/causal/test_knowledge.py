from __future__ import annotations

import itertools

import numpy as np
import pytest

from stablelit.errors import ConfigurationError
from stablelit.families.causal.knowledge import EdgeKnowledge

NAMES = ["pump", "valve", "flow", "heat"]


def test_edges_by_name_and_by_index_are_the_same():
    by_name = EdgeKnowledge(NAMES, forbidden=[("flow", "pump")], required=[("pump", "valve")])
    by_index = EdgeKnowledge(NAMES, forbidden=[[2, 0]], required=[[0, np.int64(1)]])
    assert by_name == by_index
    assert hash(by_name) == hash(by_index)
    assert np.argwhere(by_name.forbidden).tolist() == [[2, 0]]
    assert np.argwhere(by_name.required).tolist() == [[0, 1]]
    assert by_name.allowed.sum() == 4 * 3 - 1
    assert by_name != EdgeKnowledge(NAMES)


def test_tiers_forbid_every_edge_from_a_later_one_to_an_earlier_one_and_no_other():
    knowledge = EdgeKnowledge(NAMES, tiers=[["pump"], ["flow", "heat"]])
    tier = {"pump": 0, "flow": 1, "heat": 1}
    for (i, a), (j, b) in itertools.product(enumerate(NAMES), repeat=2):
        expected = a in tier and b in tier and tier[a] > tier[b]
        assert knowledge.forbidden[i, j] == expected, (a, b)


def test_the_diagonal_is_neither_allowed_nor_forbidden():
    knowledge = EdgeKnowledge(NAMES, tiers=[["pump"], ["flow"]])
    assert not np.diag(knowledge.allowed).any()
    assert not np.diag(knowledge.forbidden).any()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"forbidden": [("pmup", "flow")]}, r"forbidden='pmup'.*Did you mean 'pump'\?"),
        ({"required": [("pump", 4)]}, "index from 0 to 3"),
        ({"required": [("pump", -1)]}, "index from 0 to 3"),
        ({"required": [(0, True)]}, "required=True"),
        ({"forbidden": [("pump", "pump")]}, "two different nodes"),
        ({"forbidden": ["pump"]}, "pairs"),
        ({"forbidden": "pump"}, "pairs"),
        ({"forbidden": [("pump", "flow", "heat")]}, "pairs"),
        ({"required": [("pump", "flow")], "forbidden": [("pump", "flow")]}, "pump -> flow.*forbidden too"),
        ({"required": [("flow", "pump")], "tiers": [["pump"], ["flow"]]}, "flow -> pump.*later tier"),
        ({"tiers": [["pump"], ["pump", "flow"]]}, "tiers='pump'.*tiers 0 and 1"),
        ({"tiers": ["pump", "flow"]}, "list of lists"),
        ({"tiers": [["pump"], ["flwo"]]}, "Did you mean 'flow'"),
    ],
)
def test_a_contradiction_is_told_with_the_names(arguments, words):
    with pytest.raises(ConfigurationError, match=words):
        EdgeKnowledge(NAMES, **arguments)


def test_a_cycle_of_required_edges_is_shown():
    edges = [("pump", "valve"), ("valve", "flow"), ("flow", "valve"), ("flow", "heat")]
    with pytest.raises(ConfigurationError) as caught:
        EdgeKnowledge(NAMES, required=edges)
    assert "valve -> flow -> valve" in str(caught.value) or "flow -> valve -> flow" in str(caught.value)


@pytest.mark.parametrize("names", [[], ["a"], "ab", [0, 1]])
def test_two_names_at_least(names):
    with pytest.raises(ConfigurationError, match="names"):
        EdgeKnowledge(names)


def test_a_name_that_comes_twice_is_told():
    with pytest.raises(ConfigurationError, match=r"\['flow'\] more than once"):
        EdgeKnowledge(["flow", "pump", "flow"])


def test_an_order_is_mended_with_as_few_moves_as_required_edges_ask():
    knowledge = EdgeKnowledge(NAMES, required=[("heat", "pump"), ("flow", "heat")])
    assert knowledge.in_order([0, 1, 2, 3]).tolist() == [1, 2, 3, 0]
    assert knowledge.in_order([2, 3, 1, 0]).tolist() == [2, 3, 1, 0]
    for order in itertools.permutations(range(4)):
        place = np.argsort(knowledge.in_order(order))
        assert place[2] < place[3] < place[0]


def test_a_graph_is_permitted_where_it_has_all_required_and_no_forbidden_edges():
    knowledge = EdgeKnowledge(NAMES, required=[(0, 1)], forbidden=[(1, 2)])
    graph = np.zeros((4, 4), dtype=bool)
    assert not knowledge.permits(graph)
    graph[0, 1] = True
    assert knowledge.permits(graph)
    graph[1, 2] = True
    assert not knowledge.permits(graph)


def test_knowledge_follows_its_columns():
    knowledge = EdgeKnowledge(NAMES, required=[("pump", "flow")], tiers=[["pump", "valve"], ["heat"]])
    part = knowledge.among(["heat", "flow", "pump"])
    assert part.names == ("heat", "flow", "pump")
    assert np.argwhere(part.required).tolist() == [[2, 1]]
    assert np.argwhere(part.forbidden).tolist() == [[0, 2]]
    with pytest.raises(ConfigurationError, match="Did you mean 'heat'"):
        knowledge.among(["heta"])


def test_the_matrices_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        EdgeKnowledge.nothing(3).forbidden[0, 1] = True
    assert EdgeKnowledge.nothing(3).names == ("x0", "x1", "x2")
