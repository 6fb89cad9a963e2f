from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stablelit.errors import ConfigurationError, DataError
from stablelit.families.causal.knowledge import EdgeKnowledge
from stablelit.families.causal.metrics.cpdag import cpdag_of
from stablelit.families.causal.node_scores import SCORES
from stablelit.families.causal.panel import SensorPanel
from stablelit.families.causal.polish import learn_graph, polish
from stablelit.families.causal.row_statistics import statistics_of_rows
from stablelit.families.causal.sem import SyntheticSEM
from stablelit.families.causal.sufficient_statistics import SufficientStatistics
from stablelit.functional.edge_thresholds import is_acyclic, structural_hamming_distance
from tests.families.causal.all_dags import all_dags, linear_rows, random_graph, random_weights

EVERY_SCORE = ("auto", *SCORES)


def _toy(seed, nodes=8, n=1000, noise="normal"):
    rng = np.random.default_rng(seed)
    graph, weights = random_graph(rng, nodes), random_weights(rng, nodes)
    return linear_rows(graph, weights, getattr(rng, noise)(size=(n, nodes))), graph, np.where(graph, weights, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize(("score", "noise"), [("equal_variance", "normal"), ("non_gaussian", "laplace")])
def test_a_graph_that_can_be_told_apart_comes_back_with_its_weights(score, noise):
    for seed in range(4):
        rows, graph, weights = _toy(seed, noise=noise, n=3000)
        found = polish(statistics_of_rows(rows), score)
        assert (found.adjacency == graph).all()
        assert found.weights == pytest.approx(weights, abs=0.15)
        assert found.noise_variance == pytest.approx(np.full(8, 2.0 if noise == "laplace" else 1.0), rel=0.2)
        assert found.score_name == score
        place = np.argsort(found.order)
        assert all(place[i] < place[j] for i, j in np.argwhere(found.adjacency))


@pytest.mark.slow
def test_gaussian_noise_of_any_variance_gives_the_class():
    # in the data of seed 2 a path all but cancels an edge, and the graph without it scores better than the true one
    for seed in (0, 1, 3, 4):
        rows, graph, _ = _toy(seed, n=4000)
        found = polish(statistics_of_rows(rows * np.linspace(0.5, 3, 8)), "gaussian")
        assert (cpdag_of(found.adjacency) == cpdag_of(graph)).all()


@pytest.mark.slow
def test_of_a_class_it_is_the_same_graph_from_every_start_and_seed():
    rows, _, _ = _toy(1)
    statistics = statistics_of_rows(rows)
    results = {
        polish(
            statistics, "gaussian", starts=[np.random.default_rng(seed).permutation(8)], seed=seed
        ).adjacency.tobytes()
        for seed in range(5)
    }
    assert len(results) == 1


@pytest.mark.slow
@pytest.mark.parametrize("noise", ["normal", "laplace"])
@pytest.mark.parametrize("score", ["auto", "gaussian", "non_gaussian"])
def test_units_of_the_columns_do_not_matter(score, noise):
    for seed in range(2):
        rows, _, _ = _toy(seed, noise=noise, n=400)
        factor = 10.0 ** np.random.default_rng(seed).uniform(-3, 3, 8)
        plain, scaled = (learn_graph(r, score=score) for r in (rows, rows * factor))
        assert (plain.adjacency == scaled.adjacency).all()
        assert scaled.weights == pytest.approx(plain.weights * factor / factor[:, None], rel=1e-6)
        assert scaled.noise_variance == pytest.approx(plain.noise_variance * factor**2, rel=1e-6)


def test_weights_are_least_squares_in_the_units_of_the_input():
    rows, _, _ = _toy(2, n=200)
    rows = rows * np.logspace(-2, 2, 8)
    centred = rows - rows.mean(axis=0)
    for score in SCORES:
        found = polish(statistics_of_rows(rows), score)
        for node in range(8):
            parents = np.flatnonzero(found.adjacency[:, node])
            if len(parents):
                slopes = np.linalg.lstsq(centred[:, parents], centred[:, node], rcond=None)[0]
                assert found.weights[parents, node] == pytest.approx(slopes, rel=1e-6)
                residual = centred[:, node] - centred[:, parents] @ slopes
                assert found.noise_variance[node] == pytest.approx(np.mean(residual**2))
        assert ((found.weights != 0) == found.adjacency).all()


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), nodes=st.integers(2, 7), n=st.integers(2, 40), score=st.sampled_from(EVERY_SCORE))
def test_the_result_is_a_graph_without_a_cycle_that_knowledge_permits(seed, nodes, n, score):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, nodes)) * 10.0 ** rng.uniform(-2, 2, nodes)
    if nodes > 3 and rng.random() < 0.5:
        rows[:, 1] = rows[:, 0] - 2 * rows[:, 2]
    order, names = rng.permutation(nodes), [f"x{i}" for i in range(nodes)]
    pairs = [(int(order[i]), int(order[j])) for i in range(nodes) for j in range(i + 1, nodes)]
    required = [pair for pair in pairs if rng.random() < 0.2]
    forbidden = [pair for pair in pairs if pair not in required and rng.random() < 0.3]
    knowledge = EdgeKnowledge(names, forbidden, required)
    found = polish(statistics_of_rows(rows), score, [rng.permutation(nodes)], knowledge=knowledge, restarts=1)
    assert is_acyclic(found.adjacency)
    assert knowledge.permits(found.adjacency)
    assert np.isfinite(found.weights).all()
    assert np.isfinite(found.score)
    assert sorted(found.order.tolist()) == list(range(nodes))


def test_two_nodes():
    rng = np.random.default_rng(0)
    noise = rng.uniform(size=(2000, 2))
    assert learn_graph(noise).adjacency.sum() == 0
    found = learn_graph(np.column_stack([noise[:, 0] + 2 * noise[:, 1], noise[:, 1]]))
    assert found.adjacency.tolist() == [[False, False], [True, False]]
    assert found.weights[1, 0] == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("score", EVERY_SCORE)
def test_collinear_columns_make_a_graph_without_a_warning(score):
    rows, _, _ = _toy(0, nodes=3)
    rows = np.column_stack([rows, rows[:, 0], rows[:, 1] + rows[:, 2]])
    with warnings.catch_warnings(), np.errstate(all="raise", under="ignore"):
        warnings.simplefilter("error")
        found = learn_graph(rows, score=score)
    assert is_acyclic(found.adjacency)
    # the copy is tied to what it is a copy of
    assert found.adjacency[0, 3] or found.adjacency[3, 0] or found.adjacency[:, [0, 3]].any(axis=0).all()


@pytest.mark.slow
def test_auto_looks_at_the_shape_of_the_residuals():
    gaussian, laplace = (learn_graph(_toy(3, noise=noise)[0]) for noise in ("normal", "laplace"))
    assert gaussian.score_name == "gaussian"
    assert gaussian.gaussian_p_value > 1e-3
    assert laplace.score_name == "non_gaussian"
    assert laplace.gaussian_p_value < 1e-6
    rows, _, _ = _toy(3, noise="laplace")
    without = polish(SufficientStatistics(np.cov(rows.T), len(rows)))
    assert without.score_name == "gaussian"
    assert without.gaussian_p_value is None


def test_where_a_node_was_set_tells_a_direction_that_gaussian_noise_does_not():
    rng = np.random.default_rng(0)
    for cause, effect in ((0, 1), (1, 0)):
        rows, intervened = rng.normal(size=(600, 2)), np.zeros((600, 2), dtype=bool)
        intervened[:300, effect] = True
        rows[300:, effect] += 1.2 * rows[300:, cause]
        panel = SensorPanel.from_values(rows, intervened=intervened)
        found = learn_graph(panel, score="gaussian")
        assert np.argwhere(found.adjacency).tolist() == [[cause, effect]]
        assert found.weights[cause, effect] == pytest.approx(1.2, abs=0.15)


@pytest.mark.slow
def test_rows_with_holes_and_a_past_are_read_from_a_panel():
    draw = SyntheticSEM(
        nodes=6, rows=4000, edges=6, noise="laplace", autoregression=0.6, corruption={"mcar": 0.1}, seed=3
    ).draw()
    found = learn_graph(draw.panel, lags=1)
    assert (found.adjacency == draw.panel.truth).all()
    assert found.names == draw.panel.names
    as_array = learn_graph(np.where(draw.panel.mask, draw.panel.values, np.nan), lags=1, names=draw.panel.names)
    assert (as_array.weights == found.weights).all()


def test_a_start_is_searched_from():
    """With no restart and the truth among the starts, nothing worse than the truth comes out."""
    for seed in range(3):
        rows, graph, _ = _toy(seed, nodes=10, n=300)
        score = SCORES["gaussian"](statistics_of_rows(rows))
        order = np.argsort(_ancestors(graph))
        found = polish(statistics_of_rows(rows), "gaussian", starts=[order], restarts=0)
        assert found.score <= score.of_graph(graph) + 1e-6


def _ancestors(graph):
    """Number of ancestors: a topological key."""
    reach = graph.copy()
    for _ in range(len(graph)):
        reach |= (reach.astype(int) @ graph.astype(int)) > 0
    return reach.sum(axis=0)


@pytest.mark.slow
def test_the_score_is_that_of_the_graph():
    for name in SCORES:
        rows, _, _ = _toy(5, noise="laplace", n=300)
        found = polish(statistics_of_rows(rows), name, penalty=1.0)
        assert SCORES[name](statistics_of_rows(rows), 1.0).of_graph(found.adjacency) == pytest.approx(found.score)
        best_of_few = min(SCORES[name](statistics_of_rows(rows[:, :3]), 1.0).of_graph(graph) for graph in all_dags(3))
        assert polish(statistics_of_rows(rows[:, :3]), name, penalty=1.0).score == pytest.approx(best_of_few)


def test_a_higher_penalty_gives_fewer_edges():
    rows = np.random.default_rng(0).normal(size=(100, 8))
    counts = [polish(statistics_of_rows(rows), "gaussian", penalty=p).adjacency.sum() for p in (0.0, 0.5, 4.0)]
    assert counts[0] == 28
    assert counts[0] > counts[1] > counts[2] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"score": "gausian"}, r"score='gausian'.*Did you mean 'gaussian'"),
        ({"starts": [[0, 1, 2, 2]]}, "starts="),
        ({"starts": [[0, 1, 2]]}, "nodes 0 to 3"),
        ({"restarts": -1}, "restarts=-1"),
        ({"restarts": 1.5}, "restarts=1.5"),
        ({"penalty": -0.1}, "penalty=-0.1"),
        ({"knowledge": EdgeKnowledge(["a", "b"])}, "knowledge="),
        ({"knowledge": EdgeKnowledge(["x1", "x0", "x2", "x3"])}, r"among\(names\)"),
    ],
)
def test_bad_arguments_are_told(arguments, words):
    with pytest.raises(ConfigurationError, match=words):
        polish(SufficientStatistics(np.eye(4), 50), **arguments)


def test_a_covariance_alone_is_not_enough():
    with pytest.raises(ConfigurationError, match=r"SufficientStatistics.*learn_graph"):
        polish(np.eye(3))


def test_a_data_frame_brings_its_names():
    class Frame:
        columns = ("pump", "flow")

        def __array__(self, dtype=None, copy=None):
            return np.random.default_rng(0).normal(size=(20, 2))

    assert learn_graph(Frame()).names == ("pump", "flow")


def test_bad_data_are_told():
    rows, _, _ = _toy(0, nodes=3, n=30)
    with pytest.raises(DataError, match="never varies"):
        learn_graph(np.column_stack([rows, np.ones(30)]))
    with pytest.raises(DataError, match="never observed"):
        learn_graph(np.column_stack([rows, np.full(30, np.nan)]))
    with pytest.raises(DataError, match="learn_graph: data have shape"):
        learn_graph(rows[:, 0])
    with pytest.raises(DataError, match=r"not numbers throughout \(could not convert"):
        learn_graph([["a", "b"], ["c", "d"]])
    with pytest.raises(DataError, match="no rows"):
        polish(SufficientStatistics(np.eye(2), 10), "non_gaussian")
    with pytest.raises(ConfigurationError, match="names="):
        learn_graph(SensorPanel.from_values(rows), names=["a", "b", "c"])


def test_proteins_of_cells(test_data):
    """Sachs et al. 2005, the 853 cells without a specific intervention, against the 20 edges of the folder's graph."""
    folder = test_data / "causal"
    if not folder.is_dir():
        pytest.skip(f"no sample data at {folder}")
    with open(folder / "sachs.2005.continuous.txt") as file:
        names = file.readline().split()
    rows = np.loadtxt(folder / "sachs.2005.continuous.txt", skiprows=1, max_rows=853)
    truth = np.zeros((11, 11), dtype=bool)
    for line in (folder / "sachs.2005.ground.truth.graph.txt").read_text().splitlines():
        if "-->" in line:
            cause, effect = line.split(". ")[1].split(" --> ")
            truth[names.index(cause), names.index(effect)] = True
    found = learn_graph(rows, score="gaussian", names=names)
    skeleton = found.adjacency | found.adjacency.T
    # every joined pair is joined in the published graph; the directions within the class are a matter of choice
    assert not (skeleton & ~(truth | truth.T)).any()
    assert found.adjacency.sum() == 8
    assert structural_hamming_distance(found.adjacency, truth) <= 15 < truth.sum()
