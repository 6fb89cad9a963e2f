"""Rotary positions: turns, by complex numbers and by what they are for."""

from __future__ import annotations

import copy

import pytest
import torch

from stablelit.errors import ConfigurationError
from stablelit.nn import RotaryEmbedding, SelfAttention


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_neighbours_are_turned_as_points_of_a_plane():
    x = draw(2, 9, 3, 8)
    angle = torch.arange(9)[:, None] * 10_000.0 ** (-torch.arange(4) / 4)
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    first, second = x[..., 0::2], x[..., 1::2]
    found = RotaryEmbedding(8)(x)
    assert found[..., 0::2] == pytest.approx(first * cos - second * sin, abs=1e-5)
    assert found[..., 1::2] == pytest.approx(first * sin + second * cos, abs=1e-5)


def test_angles_stay_exact_where_a_module_becomes_half_precise():
    x = draw(1, 3000, 1, 4).bfloat16()
    whole, half = RotaryEmbedding(4), RotaryEmbedding(4)
    half(x[:, :2])
    assert half.to(torch.bfloat16)(x).equal(whole(x))


def test_a_score_depends_on_the_distance_alone():
    query, key = draw(16), draw(16, seed=1)
    rotary = RotaryEmbedding(16)
    q, k = (rotary(x.expand(1, 40, 1, 16))[0, :, 0] for x in (query, key))
    scores = q @ k.T
    for distance in (-7, 0, 3):
        diagonal = scores.diagonal(distance)
        assert diagonal == pytest.approx(diagonal[:1].expand_as(diagonal), abs=1e-4)
    assert scores.diagonal(3)[0] != pytest.approx(scores.diagonal(-7)[0].item(), abs=1e-2)


def test_short_sequences_after_long_ones_and_the_other_way_round_are_the_same():
    x = draw(1, 33, 2, 4)
    short_first, long_first = RotaryEmbedding(4), RotaryEmbedding(4)
    short = short_first(x[:, :5])
    assert long_first(x)[:, :5].equal(short)
    assert short_first(x).equal(long_first(x))


def test_it_has_no_part_in_a_checkpoint_and_works_in_bfloat16():
    rotary = RotaryEmbedding(4)
    x = draw(1, 7, 2, 4)
    full = rotary(x)
    assert not rotary.state_dict()
    assert rotary(x.bfloat16()).dtype == torch.bfloat16
    assert rotary(x.bfloat16()).float() == pytest.approx(full, abs=0.05)


@torch.no_grad()
def test_attention_with_rotary_positions_knows_the_order():
    torch.manual_seed(0)
    plain = SelfAttention(16, 4)
    turned = SelfAttention(16, 4, rotary=True)
    turned.load_state_dict(copy.deepcopy(plain.state_dict()))
    x = draw(2, 6, 16)
    back = torch.arange(5, -1, -1)
    assert plain(x[:, back])[:, back] == pytest.approx(plain(x), abs=1e-5)
    assert (turned(x[:, back])[:, back] - turned(x)).abs().max() > 1e-3
    # n_queries asks for the first places of the same answer
    assert turned(x, n_queries=2) == pytest.approx(turned(x)[:, :2], abs=1e-6)


@torch.no_grad()
def test_attention_without_biases_has_none():
    attention = SelfAttention(16, 4, bias=False)
    assert {name for name, _ in attention.named_parameters()} == {
        "query_key_value.weight",
        "out.weight",
        "query_norm.weight",
    }
    assert attention(draw(1, 3, 16), n_queries=1) == pytest.approx(attention(draw(1, 3, 16))[:, :1], abs=1e-6)


@pytest.mark.parametrize(("arguments", "says"), [({"width": 5}, "width=5"), ({"width": 4, "base": 1.0}, "base=1")])
def test_arguments_out_of_range_are_named(arguments, says):
    with pytest.raises(ConfigurationError, match=f"RotaryEmbedding: {says}"):
        RotaryEmbedding(**arguments)
