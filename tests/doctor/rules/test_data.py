from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stablelit.doctor.evidence import Curve, Evidence
from stablelit.doctor.evidence.batches import BatchFacts, EdgeFacts, LeafFacts
from stablelit.doctor.evidence.operations import FirstUse
from stablelit.doctor.probes.batches import BatchProbe
from stablelit.doctor.rules.data import DATA_RULES, _out_of_scale
from stablelit.findings import Finding
from tests.doctor.probes.traced import Host, seeded, watch

CLASSES = torch.arange(64) % 4


def found(evidence: Evidence) -> dict[str, Finding]:
    findings = [rule.check(evidence) for rule in DATA_RULES if rule.can_check(evidence)]
    return {finding.name: finding for finding in findings if finding is not None}


def mlp(inputs: int, outputs: int = 4, *first: nn.Module) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(*first, nn.Linear(inputs, 32), nn.ReLU(), nn.Linear(32, outputs))


def classified(x: Tensor, network: nn.Module | None = None, y: Tensor = CLASSES, looks: int = 4) -> dict[str, Finding]:
    network = network or mlp(x.shape[1])
    host = Host(network, lambda m, b: F.cross_entropy(m.network(b[0]), b[1]))
    return found(watch(host, [(x, y)] * looks))


ROWS = seeded(64, 10)
ONE_HOT = F.one_hot(torch.arange(64) % 10, 10).float()
RAW: dict[str, Tensor] = {
    "times-300": ROWS * 300,
    "offset-1000": ROWS + 1000,
    "one-feature-1e4": ROWS * torch.tensor([1e4] + [1.0] * 9),
    "grey-values": (seeded(64, 10, seed=2).sigmoid() * 255).round(),
}
SCALED: dict[str, Tensor] = {
    "standardised": ROWS,
    "one-hot": ONE_HOT,
    "counts": torch.poisson(torch.full((64, 10), 3.0), generator=torch.Generator().manual_seed(0)),
    "shares": seeded(64, 10).sigmoid(),
    "sparse": ROWS * (seeded(64, 10, seed=3) > 1.5),
    "small": ROWS * 1e-2,
    "coordinates": seeded(64, 10).tanh() * 5,
    "bias-column": torch.cat([ROWS[:, 1:], torch.ones(64, 1)], 1),
    "degrees-beside-units": ROWS * torch.tensor([20.0, 5.0] + [1.0] * 8),
}


@pytest.mark.parametrize("name", RAW)
def test_raw_numbers_are_told_where_weights_get_them_and_not_behind_a_norm(name: str) -> None:
    assert set(classified(RAW[name])) == {"input-unscaled"}
    assert classified(RAW[name], mlp(10, 4, nn.BatchNorm1d(10))) == {}
    torch.manual_seed(0)
    after = nn.Sequential(nn.Linear(10, 32), nn.LayerNorm(32), nn.ReLU(), nn.Linear(32, 4))
    assert classified(RAW[name], after) == {}


@pytest.mark.parametrize("name", SCALED)
def test_numbers_of_usual_sizes_are_not_talked_about(name: str) -> None:
    assert classified(SCALED[name]) == {}


def test_tokens_are_no_unscaled_numbers() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Embedding(5000, 8), nn.Flatten(), nn.Linear(48, 4))
    tokens = torch.randint(0, 5000, (64, 6), generator=torch.Generator().manual_seed(0))
    assert classified(tokens, network) == {}


@pytest.mark.parametrize(("scale", "offset"), [(1e4, 0.0), (1.0, 1e3)], ids=["times-1e4", "plus-1000"])
def test_targets_of_thousands_are_told_and_not_where_the_module_scales_its_output(scale: float, offset: float) -> None:
    y = seeded(64, 1, seed=5) * scale + offset

    def told(prediction: Any) -> set[str]:
        host = Host(mlp(10, 1), lambda m, b: F.mse_loss(prediction(m.network(b[0])), b[1]))
        return set(found(watch(host, [(ROWS, y)] * 2)))

    assert told(lambda p: p) == {"target-unscaled"}
    assert told(lambda p: p * scale + offset) == set()


@pytest.mark.parametrize("zeroed", [False, True])
def test_targets_of_usual_size_are_not_talked_about_even_if_the_head_begins_at_zero(zeroed: bool) -> None:
    network = mlp(10, 1)
    if zeroed:
        nn.init.zeros_(network[2].weight)
        nn.init.zeros_(network[2].bias)
    host = Host(network, lambda m, b: F.mse_loss(m.network(b[0]), b[1]))
    for scale in (0.02, 1.0, 5.0):
        assert found(watch(host, [(ROWS, seeded(64, 1, seed=5) * scale)] * 2)) == {}


def test_equal_samples_are_told_only_where_the_target_asks_for_more() -> None:
    x = ROWS[:1].expand(64, 10).clone()
    assert set(classified(x)) == {"input-constant"}
    assert classified(x, y=torch.zeros(64, dtype=torch.long)) == {}
    assert classified(x, looks=2) == {}
    assert classified(torch.cat([x[:63], ROWS[1:2]])) == {}


def test_a_graph_whose_nodes_have_no_features_of_their_own_is_no_constant_input() -> None:
    graph = {"x": torch.ones(8, 3), "edge_index": torch.tensor([[0, 1, 2], [1, 2, 3]]), "y": torch.arange(8) % 4}

    def step(m: Host, b: Any) -> Tensor:
        return F.cross_entropy(m.network(b["x"]), b["y"])

    assert found(watch(Host(mlp(3), step), [graph] * 4)) == {}


@pytest.mark.parametrize(
    ("edges", "loops", "nodes", "told"),
    [(0, 0, 100, True), (0, 100, 100, True), (1, 99, 100, False), (0, 0, 4, False)],
    ids=["none", "loops", "one-edge", "single-atoms"],
)
def test_graphs_without_edges(edges: int, loops: int, nodes: int, told: bool) -> None:
    facts = BatchFacts(looks=4, edges=EdgeFacts(4, nodes, edges, loops))
    assert ("graph-without-edges" in found(Evidence(batches=facts))) is told


def test_a_nan_in_the_data_set_is_told_only_when_the_loss_has_become_one() -> None:
    facts = BatchFacts(looks=3, stored_non_finite={"batch[0]": 5})
    facts.leaves = {"batch[0]": LeafFacts("batch[0]", "float", role="input")}
    healthy = Evidence(batches=facts, curves={"loss": Curve([0, 1], [1.0, 0.9])})
    broken = Evidence(batches=facts, curves={"loss": Curve([0, 1], [1.0, math.nan])})
    assert found(healthy) == {}
    assert set(found(broken)) == {"input-not-finite"}
    facts.leaves["batch[0]"].role = "target"
    assert set(found(broken)) == {"target-not-finite"}


def test_a_nan_of_the_target_is_told_as_one_of_the_target() -> None:
    y = seeded(64, 1)
    y[3] = math.nan
    host = Host(mlp(10, 1), lambda m, b: F.mse_loss(m.network(b[0]), b[1]))
    evidence = watch(host, [(ROWS, y)] * 2)
    evidence.curves["loss"] = Curve([0, 1], [math.nan, math.nan])
    assert set(found(evidence)) == {"target-not-finite"}


def test_rules_say_nothing_of_a_batch_that_holds_no_tensor() -> None:
    probe = BatchProbe()
    probe.batch_start(SimpleNamespace(current_epoch=0), None, ["text"], 0)
    evidence = Evidence()
    probe.tell(evidence)
    assert found(evidence) == {}


@pytest.mark.parametrize("normalised", [False, True])
def test_raw_numbers_behind_a_norm_are_not_blamed_for_a_loss_that_stays_at_chance(normalised: bool) -> None:
    network = mlp(10, 4, nn.BatchNorm1d(10)) if normalised else mlp(10)
    nn.init.zeros_(network[-1].weight)  # type: ignore[arg-type]
    nn.init.zeros_(network[-1].bias)  # type: ignore[arg-type]
    host = Host(network, lambda m, b: F.cross_entropy(m.network(b[0]), b[1]))
    evidence = watch(host, [(ROWS * 300, CLASSES)] * 2)
    assert found(evidence) == {}
    evidence.step = 120
    evidence.curves["loss"] = Curve(range(120), [math.log(4)] * 120)
    assert set(found(evidence)) == (set() if normalised else {"input-unscaled"})


@pytest.mark.parametrize(("rms", "told"), [(1e-4, True), (0.05, False)], ids=["tiny", "a-row-of-length-one"])
def test_inputs_next_to_nil_are_told_where_the_loss_stays_at_chance(rms: float, told: bool) -> None:
    use = FirstUse("x", "linear", rms=rms, features=400 if not told else 8)
    assert bool(_out_of_scale(use)) == told
