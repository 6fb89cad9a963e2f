from __future__ import annotations

import pytest
import torch

from stablelit.errors import ConfigurationError
from stablelit.families.neutrinos.networks.event_transformer import EventTransformer
from tests.families.neutrinos.networks.ragged_events import randomised


def _tokens(counts: list[int]) -> dict:
    torch.manual_seed(0)
    n = sum(counts)
    return {
        "tokens": torch.randn(n, 16),
        "points": torch.randn(n, 4),
        "event": torch.tensor([i for i, count in enumerate(counts) for _ in range(count)]),
        "counts": torch.tensor(counts),
        "longest": max(counts),
        "events": torch.randn(len(counts), 9),
    }


def _by_whole_sequences(network: EventTransformer, given: dict) -> torch.Tensor:
    """One event at a time, unpadded, all places through all blocks, the summary token taken at the end."""
    answers = []
    for i, count in enumerate(given["counts"].tolist()):
        mine = given["event"] == i
        start = network.summary_token
        if network.event_embedding is not None:
            start = start + network.event_embedding(given["events"][i])
        x = torch.cat([start[None], given["tokens"][mine]])[None]
        points = given["points"][mine] * torch.tensor([500.0, 500.0, 500.0, 299.792458])
        for layer, block in enumerate(network.blocks):
            bias = torch.zeros(1, block.attention.heads, count + 1, count + 1)
            if network.relative_bias is not None and layer < len(network.blocks) - 1:
                bias = network.relative_bias(layer, network.relative_bias.planes(points[None], torch.tensor([count])))
            x = block(x, bias)
        answers.append(network.norm(x[0, 0]))
    return torch.stack(answers)


@pytest.mark.parametrize("relative_bias", [True, False])
@pytest.mark.parametrize("event_summary", [True, False])
def test_padded_events_give_what_each_gives_alone_with_its_gradients(relative_bias, event_summary):
    network = randomised(
        EventTransformer(16, 3, 4, relative_bias=relative_bias, event_summary=event_summary, bias_functions=3)
    )
    given = _tokens([3, 7, 1, 5])
    together, alone = network(**given), _by_whole_sequences(network, given)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    weight, parameters = torch.randn(together.shape), list(network.parameters())
    mine = torch.autograd.grad((together * weight).sum(), parameters)
    theirs = torch.autograd.grad((alone * weight).sum(), parameters)
    for gradient, expected in zip(mine, theirs, strict=True):
        torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=1e-3)
        assert gradient.abs().sum() > 0


def test_an_event_of_no_tokens_is_its_summary():
    network = randomised(EventTransformer(16, 2, 4))
    given = _tokens([2, 0, 3])
    torch.testing.assert_close(network(**given), _by_whole_sequences(network, given), atol=1e-5, rtol=1e-5)


def test_places_and_times_matter_through_the_bias_alone():
    given = _tokens([4, 6])
    moved = given | {"points": given["points"].flip(0)}
    with_bias = randomised(EventTransformer(16, 2, 4, relative_bias=True))
    without = randomised(EventTransformer(16, 2, 4, relative_bias=False))
    assert not torch.allclose(with_bias(**given), with_bias(**moved), atol=1e-4)
    assert torch.equal(without(**given), without(**moved))


def test_the_bias_does_not_see_where_and_when_an_event_is():
    network = randomised(EventTransformer(16, 2, 4))
    given = _tokens([4, 6])
    moved = given | {"points": given["points"] + torch.tensor([0.1, -0.2, 0.3, 0.5])}
    torch.testing.assert_close(network(**given), network(**moved), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"layers": 0}, "EventTransformer: layers=0"),
        ({"layers": 1}, "relative_bias=True is not allowed. Allowed: False with one layer"),
        ({"event_summary": "yes"}, "EventTransformer: event_summary='yes'"),
        ({"relative_bias": 1}, "EventTransformer: relative_bias=1"),
        ({"bias_functions": 0}, "functions=0"),
    ],
)
def test_arguments_out_of_range_are_refused_by_name(bad, message):
    with pytest.raises(ConfigurationError, match=message):
        EventTransformer(**({"d_model": 16, "layers": 2, "heads": 4} | bad))
