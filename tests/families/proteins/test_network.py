"""The diffusion transformer: what it must not see, what it must, and how it begins."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from stablelit.errors import ConfigurationError
from stablelit.families.proteins.alphabet import PAD, UNKNOWN
from stablelit.families.proteins.network import DiffusionTransformer, build_network

SMALL = {"d_model": 16, "blocks": 2, "heads": 2, "condition": 8, "dropout": 0.0, "gate_init": 1.0}


def small(**changes):
    torch.manual_seed(0)
    network = DiffusionTransformer(**(SMALL | changes))
    with torch.no_grad():
        # as after some training: modulations begin without effect
        for name, p in network.named_parameters():
            if "modulation" in name or name.startswith("head"):
                p.add_(0.3 * torch.randn_like(p))
    return network.eval()


def draw(*shape, high=20):
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(1))


def test_codes_put_unknown_and_padding_behind_the_mask():
    tokens = torch.tensor([[0, 19, UNKNOWN, PAD]])
    assert DiffusionTransformer(**SMALL).input_codes(tokens).tolist() == [[0, 19, 21, 22]]
    assert DiffusionTransformer(36, **SMALL).input_codes(tokens).tolist() == [[0, 19, 37, 38]]


@pytest.mark.parametrize("conditioned", [True, False])
@torch.no_grad()
def test_padding_changes_nothing(conditioned):
    network = small(time_conditioning=conditioned)
    codes, sigma = draw(2, 7, high=21), torch.tensor([0.3, 2.0])
    padded = torch.cat([codes, torch.full((2, 4), 22)], dim=1)
    mask = torch.arange(11).expand(2, 11) < 7
    torch.testing.assert_close(network(padded, sigma, mask)[:, :7], network(codes, sigma), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_it_is_told_the_noise_exactly_where_it_is_said_to_be():
    codes = draw(2, 7, high=21)
    for conditioned in (True, False):
        network = small(time_conditioning=conditioned)
        answers = [network(codes, torch.full((2,), sigma)) for sigma in (0.1, 3.0)]
        assert answers[0].equal(answers[1]) is not conditioned


@torch.no_grad()
def test_every_residue_sees_every_other_and_its_side():
    network, codes, sigma = small(), draw(1, 9), torch.ones(1)
    before = network(codes, sigma)
    for place in range(9):
        changed = codes.clone()
        changed[0, place] = (codes[0, place] + 1) % 20
        assert ((network(changed, sigma) - before).abs().amax(-1) > 1e-6).all()
    assert not torch.allclose(network(codes.flip(1), sigma).flip(1), before, atol=1e-3)


def test_the_head_begins_with_zeros_or_with_a_variance_of_a_third():
    codes, sigma = draw(40, 30, high=21), torch.ones(40)
    assert not DiffusionTransformer(**SMALL)(codes, sigma).any()
    torch.manual_seed(0)
    wide = DiffusionTransformer(36, d_model=256, blocks=1, heads=2, dropout=0.0, head_init="kaiming")
    assert wide(codes, sigma).var().item() == pytest.approx(1 / 3, rel=0.1)


def test_with_gates_at_zero_the_blocks_begin_as_the_identity():
    torch.manual_seed(0)
    for conditioned in (True, False):
        network = DiffusionTransformer(**(SMALL | {"gate_init": 0.0}), time_conditioning=conditioned)
        x = torch.randn(2, 5, 16)
        level = network.noise_level(torch.ones(2)) if conditioned else None
        assert network.blocks[0](x, level).equal(x)


@pytest.mark.parametrize("conditioned", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_answers_at_some_sites_are_those_of_all_and_so_are_their_gradients(conditioned, share):
    network, sigma = small(time_conditioning=conditioned), torch.tensor([0.3, 2.0, 0.7])
    codes = draw(3, 9, high=21)
    pad_mask = torch.arange(9) < torch.tensor([9, 6, 7])[:, None]
    sites = (torch.rand(3, 9, generator=torch.Generator().manual_seed(2)) < share) & pad_mask
    weights = torch.randn(3, 9, 20, generator=torch.Generator().manual_seed(3))
    answers, gradients = [], []
    for asked in (sites, None):
        network.zero_grad()
        answer = network(codes, sigma, pad_mask, asked)
        (answer * weights)[sites].sum().backward()
        answers.append(answer)
        gradients.append([torch.zeros_like(p) if p.grad is None else p.grad for p in network.parameters()])
    torch.testing.assert_close(answers[0][sites], answers[1][sites], rtol=1e-4, atol=1e-5)
    assert not answers[0][~sites].any()
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_every_parameter_trains():
    network = small(time_conditioning=True)
    network(draw(3, 8, high=21), torch.tensor([0.1, 1.0, 4.0])).square().mean().backward()
    still = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


def test_bfloat16_autocast_answers_in_float32():
    network = small()
    codes, sigma = draw(2, 7, high=21), torch.tensor([1e-6, 30.0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        answer = network(codes, sigma)
    assert answer.dtype == torch.float32
    assert answer.isfinite().all()
    torch.testing.assert_close(answer, network(codes, sigma), rtol=0, atol=0.1)


def test_weights_in_bfloat16_are_told_the_same_noise():
    network = small(time_conditioning=True)
    codes, sigma = draw(5, 7, high=21), torch.tensor([1e-6, 0.01, 0.3, 2.0, 30.0])
    half = copy.deepcopy(network).bfloat16()(codes, sigma)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, network(codes, sigma), rtol=0, atol=0.1)


def test_presets_are_sizes_that_settings_change():
    tiny = build_network("tiny", "Asker", n_states=20, time_conditioning=True)
    changed = build_network({"preset": "tiny", "blocks": 3}, "Asker", n_states=20, time_conditioning=True)
    assert (tiny.width, len(tiny.blocks), len(changed.blocks)) == (64, 2, 3)
    # 12 d^2 of a block, embedding and head, the condition's: 64 / 2 / 4 with 128
    block = 12 * 64**2 + 5 * 64 + 129 * 6 * 64
    expected = 2 * block + 23 * 64 + 65 * 20 + 129 * 128 * 2 + 129 * 2 * 64
    assert sum(p.numel() for p in tiny.parameters()) == expected


def test_flops_are_twice_the_products_thrice():
    network = DiffusionTransformer(**SMALL)
    tokens = 5 * 8
    products = tokens * (2 * 12 * 16**2 + 16 * 20) + 2 * 2 * 5 * 8 * 8 * 16
    assert network.flops_per_batch(5, 8) == 3 * 2 * products


@pytest.mark.parametrize(
    ("network", "says"),
    [
        ("huge", "network.preset='huge'.*tiny, small, base"),
        ({"preset": "tiny", "block": 3}, "network.block=3.*Did you mean 'blocks'"),
        ({"n_states": 30}, "network.n_states=30"),
        ({"heads": 5}, "heads=5.*divisor"),
        ({"head_init": "zeros"}, "head_init='zeros'.*Did you mean 'zero'"),
        ({"d_model": 12, "heads": 4}, "width=3.*even"),
        ({"gate_init": math.nan}, "gate_init=nan"),
    ],
)
def test_a_network_that_cannot_be_is_refused_by_name(network, says):
    with pytest.raises(ConfigurationError, match=says):
        build_network(network, "Asker", n_states=20, time_conditioning=True)
