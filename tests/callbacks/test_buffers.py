from __future__ import annotations

import pytest
import torch
from torch import nn

from stablelit.callbacks._buffers import BufferKeeper


class Holder(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
        self.register_buffer("queue", torch.zeros(2**17))
        self.register_buffer("average", torch.tensor(1.0), persistent=False)
        self.register_buffer("absent", None)


def everything(module):
    return {name: value.clone() for name, value in module.named_buffers()}


def change(module, value):
    module.norm(value * torch.ones(4, 3) + torch.arange(4.0)[:, None])
    module.queue[5] = value
    module.average = torch.tensor(value)  # replaced, not filled
    module.mask[0] = value


@pytest.mark.parametrize("value", [2.0, float("nan")])
def test_what_a_batch_has_changed_is_put_back(value):
    module = Holder()
    change(module, 1.0)
    keeper = BufferKeeper(module)
    change(module, 3.0)
    keeper.keep()
    before = everything(module)
    change(module, value)
    assert not torch.equal(before["norm.running_mean"], module.norm.running_mean)
    keeper.restore()
    assert all(torch.equal(before[name], value) for name, value in module.named_buffers())


@pytest.mark.parametrize("where", ["norm.running_var", "queue", "average"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_one_number_that_is_not_finite_is_seen(where, value):
    module = Holder()
    keeper = BufferKeeper(module)
    assert not keeper.has_nonfinite()
    dict(module.named_buffers())[where].view(-1)[-1] = value
    assert keeper.has_nonfinite()
    keeper.restore()
    assert not keeper.has_nonfinite()


def test_infinities_on_purpose_are_no_alarm():
    module = Holder()
    keeper = BufferKeeper(module)
    module.mask.fill_(-torch.inf)
    assert not keeper.has_nonfinite()
    assert BufferKeeper(nn.Linear(2, 2)).has_nonfinite() is None


def test_a_large_buffer_that_nobody_touched_is_not_copied_again():
    module = Holder()
    keeper = BufferKeeper(module)
    (place,) = keeper._large
    version = place.copy._version
    keeper.keep()
    assert place.copy._version == version
    module.queue[0] = 1.0
    keeper.keep()
    assert place.copy[0] == 1.0
