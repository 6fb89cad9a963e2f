from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn import functional

from stablelit.errors import ConfigurationError
from stablelit.families.neutrinos.networks import DynEdge
from tests.families.neutrinos.networks.ragged_events import Event, batch_of, random_events, randomised


def _one_event(network: DynEdge, event: Event) -> torch.Tensor:
    """Edge by edge, with the graph rebuilt by hand."""
    pulses = torch.cat(event["sensors"])
    n = len(pulses)
    x, features, equal, edges = pulses, [pulses], torch.zeros(4), 0
    for turn, convolution in enumerate(network.convolutions):
        following = []
        for i in range(n):
            distance = (x[:, : network.graph_columns] - x[i, : network.graph_columns]).norm(dim=1).tolist()
            nearest = sorted((j for j in range(n) if j != i), key=lambda j: (distance[j], j))[: network.neighbours]
            if turn == 0:
                equal += sum((pulses[i, :4] == pulses[j, :4]).float() for j in nearest)
                edges += len(nearest)
            sent = [convolution.layers(torch.cat([x[i], x[j] - x[i]])) for j in nearest]
            following.append(sum(sent, torch.zeros(convolution.layers[-2].out_features)))
        x = torch.stack(following)
        features.append(x)
    h = network.post_processing(torch.cat(features, 1))
    pooled = torch.cat([h.min(0).values, h.max(0).values, h.sum(0), h.mean(0)])
    known = torch.cat([equal / max(edges, 1), torch.tensor([float(n)]).log10()])
    return network.readout(torch.cat([functional.leaky_relu(pooled), known]))


@pytest.mark.slow
@pytest.mark.parametrize("graph_columns", [3, 4])
def test_the_network_is_what_it_is_edge_by_edge(graph_columns):
    network = randomised(DynEdge(((8, 6), (7, 5)), (9, 8), (7, 6), neighbours=3, graph_columns=graph_columns))
    events = random_events(5)
    expected = torch.stack([_one_event(network, event) for event in events])
    torch.testing.assert_close(network(batch_of(events)), expected, atol=1e-4, rtol=1e-4)


def test_an_event_of_one_pulse_has_no_edges():
    network = randomised(DynEdge(((8, 6), (7, 5)), (9, 8), (7,), neighbours=3))
    events = random_events(1, most_sensors=1, counts=[1])
    answer = network(batch_of(events))
    assert answer.isfinite().all()
    torch.testing.assert_close(answer[0], _one_event(network, events[0]), atol=1e-5, rtol=1e-5)


def test_the_sizes_are_those_of_the_paper():
    with torch.device("meta"):
        network = DynEdge.preset("paper")
        small = DynEdge.preset("small", neighbours=4)

    def stack(*sizes: int) -> int:
        return sum(a * b + b for a, b in itertools.pairwise(sizes))

    expected = stack(14, 128, 256) + 3 * stack(512, 336, 256) + stack(7 + 4 * 256, 336, 256) + stack(4 * 256 + 5, 128)
    assert sum(parameter.numel() for parameter in network.parameters()) == expected == 1_375_728
    assert network.width == 128
    assert (small.width, small.neighbours) == (64, 4)
    assert sum(parameter.numel() for parameter in small.parameters()) < 100_000


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"layer_sizes": ()}, "DynEdge: layer_sizes"),
        ({"layer_sizes": (8, 6)}, "DynEdge: layer_sizes=8"),
        ({"layer_sizes": ((8, 2),)}, "convolutions of graph_columns=3 outputs or more"),
        ({"post_processing": (0,)}, "DynEdge: post_processing=0"),
        ({"readout": []}, "DynEdge: readout"),
        ({"neighbours": 0}, "DynEdge: neighbours=0"),
        ({"graph_columns": 5}, "graph_columns=5"),
        ({"backend": "sparse"}, "backend='sparse'"),
    ],
)
def test_arguments_out_of_range_are_refused_by_name(bad, message):
    with pytest.raises(ConfigurationError, match=message):
        DynEdge(**({"layer_sizes": ((8, 6),), "post_processing": (4,), "readout": (4,)} | bad))


def test_an_unknown_preset_is_refused():
    with pytest.raises(ConfigurationError, match="preset='smal'.*Did you mean 'small'"):
        DynEdge.preset("smal")
