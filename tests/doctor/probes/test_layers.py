"""What passes between layers, read from the graph of a loss."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stablelit.doctor.evidence import Evidence
from stablelit.doctor.evidence.layers import ActivationFact
from stablelit.doctor.probes.layers import LayerProbe
from stablelit.doctor.probes.layers_graph import read_graph
from stablelit.doctor.rules.layers import LAYER_RULES
from tests.doctor.probes.loops import BATCH, CLASSES, FEATURES, batches, loop, mlp

# trainings, of seconds each
pytestmark = pytest.mark.slow


def found(evidence: Evidence) -> list[str]:
    told = [rule.check(evidence) for rule in LAYER_RULES if rule.can_check(evidence)]
    return [finding.name for finding in told if finding is not None]


def activation(evidence: Evidence, place: int = 0) -> ActivationFact:
    assert evidence.layers is not None
    return evidence.layers.activations[place]


class Residual(nn.Module):
    def __init__(self, zero: bool = False) -> None:
        super().__init__()
        self.stem = nn.Linear(FEATURES, 12)
        self.blocks = nn.ModuleList(nn.ModuleList([nn.Linear(12, 12), nn.Linear(12, 12)]) for _ in range(2))
        self.head = nn.Linear(12, CLASSES)
        if zero:
            for _, last in self.blocks:  # type: ignore[misc]
                nn.init.zeros_(last.weight)
            nn.init.zeros_(self.head.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for first, last in self.blocks:  # type: ignore[misc]
            x = x + last(F.relu(first(x)))
        out: Tensor = self.head(x)
        return out


def _names(module: nn.Module, tensors: list[Tensor]) -> list[str]:
    names = {id(p): name.removesuffix(".weight") for name, p in module.named_parameters()}
    return [names[id(tensor)] for tensor in tensors]


def test_weights_are_read_from_input_to_loss_through_skips_and_functions() -> None:
    net = Residual()
    graph = read_graph(net(torch.randn(4, FEATURES)).square().mean())
    order = ["stem", "blocks.0.0", "blocks.0.1", "blocks.1.0", "blocks.1.1", "head"]
    assert _names(net, [weight.tensor for weight in graph.weights]) == order
    assert [weight.depth for weight in graph.weights] == [6, 5, 4, 3, 2, 1]
    assert _names(net, [a.weight for a in graph.activations]) == ["blocks.0.0", "blocks.1.0"]


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_run_that_was_interrupted_knows_what_was_seen_before(steps: int, tmp_path: Path) -> None:
    net, whole, again = mlp(16, 16, act=nn.Tanh), LayerProbe(), LayerProbe()
    optimizer = torch.optim.SGD(net.parameters(), 0.5)
    loop(whole, net, optimizer, steps)
    torch.save(whole.state_dict(), tmp_path / "state")
    copy = deepcopy(net)
    expected = loop(whole, net, optimizer, 3, seed=1).layers
    again.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    # a checkpoint before the first look has it too
    assert again.state_dict()["looks"] == steps
    resumed = loop(again, copy, torch.optim.SGD(copy.parameters(), 0.5), 3, seed=1).layers
    assert expected is not None
    assert expected.looks == steps + 3
    assert resumed == expected


def test_embeddings_and_what_follows_the_last_weight_are_left_out() -> None:
    net = nn.Sequential(nn.Embedding(9, 6), nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 1), nn.Sigmoid())
    graph = read_graph(net(torch.arange(9)).mean())
    assert _names(net, [weight.tensor for weight in graph.weights]) == ["1", "3"]
    assert [a.kind for a in graph.activations] == ["tanh"]


@pytest.mark.parametrize("ready", ["no graph", "a leaf"])
def test_a_loss_without_a_graph_is_empty(ready: str) -> None:
    loss = torch.tensor(1.0, requires_grad=ready == "a leaf")
    assert read_graph(loss).weights == []


def test_live_units_are_those_whose_output_is_not_zero() -> None:
    """Counted a second time from the activations themselves, over the same four batches."""
    net = mlp(12)
    nn.init.normal_(net[0].bias, -1.5, 1.0)
    live = torch.zeros(12, dtype=torch.bool)
    for x, _ in batches(4):
        live |= (net[0](x) > 0).any(0)
    evidence = loop(LayerProbe(), net, torch.optim.SGD(net.parameters(), 0.0), steps=4)
    assert activation(evidence).live == pytest.approx(float(live.float().mean()))


def test_saturated_values_are_those_where_the_derivative_is_below_two_percent() -> None:
    net = mlp(12, act=nn.Tanh)
    nn.init.normal_(net[0].weight, std=1.0)
    evidence = loop(LayerProbe(), net, torch.optim.SGD(net.parameters(), 0.0), steps=1)
    derivative = 1 - torch.tanh(net[0](batches(1)[0][0])).square()
    assert activation(evidence).saturated == pytest.approx(float((derivative <= 0.02).float().mean()), abs=1e-3)


def test_channels_are_the_units_of_a_convolution() -> None:
    net = nn.Sequential(nn.Conv1d(1, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(5 * (FEATURES - 2), CLASSES))
    evidence = loop(LayerProbe(), net, loss_of=lambda net, x, y: F.cross_entropy(net(x[:, None]), y))
    assert activation(evidence).units == 5


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "build",
    [
        pytest.param(lambda s: mlp(16, 16, seed=s), id="relu"),
        pytest.param(lambda s: mlp(16, 16, 16, 16, act=nn.Tanh, seed=s), id="five-tanh-layers"),
        pytest.param(lambda s: mlp(32, 32, 32, 32, 32, 32, seed=s), id="seven-relu-layers"),
        pytest.param(lambda s: mlp(16, act=nn.Sigmoid, seed=s), id="sigmoid"),
        pytest.param(lambda s: mlp(16, 16, act=nn.GELU, seed=s), id="gelu"),
        pytest.param(lambda s: Residual(zero=True), id="zero-residual"),
    ],
)
def test_a_sound_net_is_left_alone(build, seed: int) -> None:  # type: ignore[no-untyped-def]
    net = build(seed)
    evidence = loop(LayerProbe(), net, torch.optim.Adam(net.parameters(), 3e-3), steps=40, seed=seed)
    assert found(evidence) == []


def test_units_born_dead_are_told_in_the_third_look() -> None:
    net = mlp()
    nn.init.constant_(net[0].bias, -20.0)
    evidence = loop(LayerProbe(), net, steps=3)
    assert found(evidence) == ["dead-units"]
    assert activation(evidence).born_live == 0.0


def test_units_that_steps_have_killed_were_live_at_first() -> None:
    net = mlp(16, 16)

    def kill(step: int, net: nn.Module) -> None:
        if step == 4:
            nn.init.constant_(net[2].bias, -50.0)  # type: ignore[index, arg-type]

    evidence = loop(LayerProbe(), net, torch.optim.SGD(net.parameters(), 0.01), steps=30, before_batch=kill)
    assert found(evidence) == ["dead-units"]
    assert activation(evidence, 1).born_live > 0.5


def test_a_loss_that_few_samples_feel_says_nothing_of_units() -> None:
    def hinge(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(net(x), y, reduction="none")[:2].sum()

    evidence = loop(LayerProbe(), mlp(), loss_of=hinge)
    assert evidence.layers is not None
    assert evidence.layers.activations == []


def test_gradients_that_fade_are_told_where_the_loss_does_not_fall() -> None:
    net = mlp(*[16] * 7, act=nn.Sigmoid)
    evidence = loop(LayerProbe(), net, torch.optim.SGD(net.parameters(), 0.01), steps=60)
    for step in range(60):
        evidence.curves.setdefault("loss", type(evidence.curve("loss"))()).add(step, 1.1)
    assert found(evidence) == ["vanishing-gradients"]


def test_sizes_of_gradients_are_root_mean_squares() -> None:
    net, twin = mlp(), mlp()
    evidence = loop(LayerProbe(), net, steps=1)
    x, y = batches(1)[0]
    F.cross_entropy(twin(x), y).backward()
    assert evidence.layers is not None
    for fact in evidence.layers.weights:
        gradient = twin.get_parameter(fact.name).grad
        assert gradient is not None
        assert fact.gradient_rms == pytest.approx(float(gradient.square().mean().sqrt()), rel=1e-5)


def test_an_output_that_forgets_its_sample_is_told_and_a_constant_input_is_not() -> None:
    def pooled(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        hidden = net[:2](x).mean(0, keepdim=True).expand(BATCH, -1)  # type: ignore[index]
        return F.cross_entropy(net[2](hidden), y)  # type: ignore[index]

    assert found(loop(LayerProbe(), mlp(12), loss_of=pooled)) == ["output-constant"]
    probe = LayerProbe()
    probe._output.choose(nn.Linear(FEATURES, 2), "head")
    probe._output.watch((torch.ones(BATCH, FEATURES), torch.zeros(BATCH)))
    probe._output._note(nn.Linear(1, 1), (), torch.ones(BATCH, 2))
    probe._output.take(0)
    assert probe._output.looks == 0


def test_hooks_go_and_the_gradient_stays_what_it_was() -> None:
    net, other = mlp(), mlp()
    loop(LayerProbe(), net, steps=5)
    optimizer = torch.optim.Adam(other.parameters(), 1e-2)
    for x, y in batches(5):
        optimizer.zero_grad()
        F.cross_entropy(other(x), y).backward()
        optimizer.step()
    assert not any(part._forward_hooks for part in net.modules())
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))
