from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from stablelit.errors import ConfigurationError
from stablelit.functional.averaging import average_dtype, blend_, copy_, ema_decay, half_life_decay


def test_the_warm_up_is_the_published_one_and_ends_at_the_decay():
    assert [ema_decay(n, 0.9999) for n in (1, 2, 90)] == [2 / 11, 3 / 12, 91 / 100]
    assert ema_decay(10**6, 0.9999) == 0.9999
    decays = [ema_decay(n, 0.99) for n in range(2000)]
    assert decays == sorted(decays)


@pytest.mark.parametrize("warm_up", [True, False])
def test_the_first_update_copies(warm_up):
    assert ema_decay(0, 0.9, warm_up) == 0.0
    average, value = [torch.full((3,), 1e8)], [torch.tensor([1.0, -2.0, 3.1])]
    blend_(average, value, 0.0)
    assert torch.equal(average[0], value[0])


def test_without_a_warm_up_the_first_weights_of_the_post_mortem_keep_69_percent():
    share = math.prod(ema_decay(n, 0.9999, warm_up=False) for n in range(1, 3700))
    assert share == pytest.approx(0.69, abs=0.005)
    assert math.prod(ema_decay(n, 0.9999) for n in range(1, 3700)) < 1e-20


@pytest.mark.parametrize("every", [1, 5])
def test_after_a_half_life_half_of_a_value_is_left(every):
    average = [torch.ones(1, dtype=torch.float64)]
    for _ in range(40 // every):
        blend_(average, [torch.zeros(1, dtype=torch.float64)], half_life_decay(40, every))
    assert float(average[0]) == pytest.approx(0.5)


def test_it_equals_torchs_averaged_model():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 2))
    theirs = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    ours = [p.detach().clone() for p in net.parameters()]
    for n in range(20):
        with torch.no_grad():
            for p in net.parameters():
                p.add_(torch.randn_like(p))
        theirs.update_parameters(net)
        blend_(ours, list(net.parameters()), ema_decay(n, 0.9, warm_up=False))
    for a, b in zip(theirs.module.parameters(), ours, strict=True):
        assert torch.equal(a, b)


def test_tensors_of_every_type_are_averaged_together():
    values = [torch.tensor([2.0]), torch.tensor([3.0], dtype=torch.bfloat16), torch.tensor([4.0], dtype=torch.float64)]
    averages = [torch.zeros(1, dtype=average_dtype(v)) for v in values]
    blend_(averages, values, 0.75)
    assert [a.item() for a in averages] == [0.5, 0.75, 1.0]
    assert [a.dtype for a in averages] == [torch.float32, torch.float32, torch.float64]


def test_an_average_in_float32_moves_where_one_in_bfloat16_stands_still():
    still, average = torch.ones(1, dtype=torch.bfloat16), torch.ones(1)
    for _ in range(1000):
        blend_([still, average], [torch.full((1,), 1.1, dtype=torch.bfloat16)] * 2, 0.999)
    assert float(still) == 1.0
    assert float(average) == pytest.approx(1.1 - 0.1 * 0.999**1000, abs=2e-3)


def test_values_that_need_gradients_are_neither_changed_nor_tracked():
    value = nn.Parameter(torch.ones(2))
    average = [torch.zeros(2)]
    blend_(average, [value], 0.5)
    assert not average[0].requires_grad
    assert torch.equal(value.detach(), torch.ones(2))
    copy_([value], average)
    assert torch.equal(value.detach(), torch.full((2,), 0.5))
    assert value.requires_grad


def test_rows_of_unequal_length_are_an_error_and_not_cut():
    with pytest.raises(ValueError, match="zip"):
        blend_([torch.zeros(1)], [torch.zeros(1), torch.zeros(1)], 0.5)
    blend_([], [], 0.5)


@pytest.mark.parametrize(("half_life", "every"), [(0.0, 1), (math.nan, 1), (10, 0)])
def test_a_half_life_out_of_range_is_refused(half_life, every):
    with pytest.raises(ConfigurationError):
        half_life_decay(half_life, every)
