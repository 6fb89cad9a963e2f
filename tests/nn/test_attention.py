from __future__ import annotations

import math

import pytest
import torch

from stablelit.errors import ConfigurationError
from stablelit.nn import SelfAttention


def _randomised(attention: SelfAttention) -> SelfAttention:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.4)
    return attention


def _by_loops(attention: SelfAttention, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """One query, one head, one batch element at a time."""
    n, length, d = x.shape
    heads, width = attention.heads, d // attention.heads
    projected = attention.query_key_value(x)
    answer = torch.zeros(n, length, d)
    for b in range(n):
        for h in range(heads):
            mine = slice(h * width, (h + 1) * width)
            query, key, value = (projected[b, :, part * d : (part + 1) * d][:, mine] for part in range(3))
            if attention.query_norm is not None:
                query, key = (
                    (y - y.mean(1, keepdim=True)) / (y.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
                    for y in (query, key)
                )
                query = query * attention.query_norm.weight
            for i in range(length):
                score = torch.stack([query[i] @ key[j] / math.sqrt(width) + bias[b, h, i, j] for j in range(length)])
                answer[b, i, mine] = score.softmax(0) @ value
    return attention.out(answer)


@pytest.mark.parametrize("qk_norm", [True, False])
@pytest.mark.parametrize("learned", [True, False], ids=["learned bias", "fixed bias"])
def test_attention_is_what_its_formula_says(qk_norm, learned):
    attention = _randomised(SelfAttention(12, heads=3, qk_norm=qk_norm))
    x, bias = torch.randn(2, 5, 12), torch.randn(2, 3, 5, 5, requires_grad=learned)
    torch.testing.assert_close(attention(x, bias), _by_loops(attention, x, bias), atol=1e-5, rtol=1e-4)


def test_a_learned_bias_has_the_gradient_of_the_formula():
    attention = _randomised(SelfAttention(8, heads=2))
    x, bias = torch.randn(2, 4, 8), torch.randn(2, 2, 4, 4, requires_grad=True)
    (expected,) = torch.autograd.grad(_by_loops(attention, x, bias).square().sum(), bias)
    (gradient,) = torch.autograd.grad(attention(x, bias).square().sum(), bias)
    torch.testing.assert_close(gradient, expected, atol=1e-4, rtol=1e-3)


def test_a_key_that_is_masked_is_as_if_absent():
    attention = _randomised(SelfAttention(8, heads=2))
    x = torch.randn(3, 6, 8)
    mask = (torch.arange(6) < 4).expand(3, 1, 1, 6)
    torch.testing.assert_close(attention(x, mask)[:, :4], attention(x[:, :4]))


def test_a_few_queries_get_what_all_would():
    attention = _randomised(SelfAttention(8, heads=2))
    x = torch.randn(3, 6, 8)
    torch.testing.assert_close(attention(x, n_queries=2), attention(x)[:, :2])


def test_normalised_scores_do_not_grow_with_the_weights():
    attention = _randomised(SelfAttention(16, heads=2, qk_norm=True))
    x = torch.randn(2, 5, 16)
    before = attention(x)
    with torch.no_grad():
        attention.query_key_value.weight[:32] *= 1000
        attention.query_key_value.bias[:32] *= 1000
    torch.testing.assert_close(attention(x), before, atol=1e-3, rtol=1e-3)


def test_dropout_acts_in_training_only_with_either_kind_of_mask():
    attention = _randomised(SelfAttention(8, heads=2, dropout=0.5))
    x, bias = torch.randn(2, 4, 8), torch.zeros(2, 2, 4, 4, requires_grad=True)
    for mask in (None, bias):
        assert not torch.equal(attention.train()(x, mask), attention(x, mask))
        assert torch.equal(attention.eval()(x, mask), attention(x, mask))


@pytest.mark.parametrize("learned", [True, False])
def test_bf16_autocast_is_near_float32(learned):
    attention = _randomised(SelfAttention(16, heads=2))
    x, bias = torch.randn(2, 5, 16), torch.randn(2, 2, 5, 5, requires_grad=learned)
    exact = attention(x, bias)
    with torch.autocast("cpu", torch.bfloat16):
        rough = attention(x, bias)
    assert rough.dtype == torch.bfloat16
    assert (rough - exact).abs().max() < 0.03 * exact.abs().max()


@pytest.mark.parametrize(
    "bad",
    [
        {"width": 0},
        {"heads": 0},
        {"heads": 5},
        {"heads": "4"},
        {"dropout": 1.0},
        {"dropout": -0.1},
        {"qk_norm": "no"},
    ],
)
def test_arguments_out_of_range_are_refused_by_name(bad):
    with pytest.raises(ConfigurationError, match=f"SelfAttention: {next(iter(bad))}="):
        SelfAttention(**({"width": 16, "heads": 4} | bad))
