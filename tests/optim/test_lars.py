"""LARS beside a loop over parameters in double precision."""

from __future__ import annotations

import copy
import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from stablelit.errors import ConfigurationError
from stablelit.optim import LARS, build_optimizers, warmup_schedule


def net() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4)).double()


def gradients(model, step):
    generator = torch.Generator().manual_seed(step)
    return [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in model.parameters()]


def train(model, optimizer, steps):
    for step in steps:
        for p, gradient in zip(model.parameters(), gradients(model, step), strict=True):
            p.grad = gradient
        optimizer.step()


def by_the_formula(model, steps, lr, momentum, weight_decay, eta, nesterov=False, exclude=True):
    """Parameter by parameter, number by number where it decides."""
    weights = [p.detach().clone() for p in model.parameters()]
    buffers = [torch.zeros_like(w) for w in weights]
    for step in steps:
        for w, m, g in zip(weights, buffers, gradients(model, step), strict=True):
            u = g
            if w.dim() > 1 or not exclude:
                u = g + weight_decay * w
                norms = math.sqrt(float((w * w).sum())), math.sqrt(float((u * u).sum()))
                u = u * (eta * norms[0] / (norms[1] + 1e-8) if min(norms) > 0 else 1.0)
            m.mul_(momentum).add_(u)
            w.sub_(lr * (u + momentum * m if nesterov else m))
    return weights


def assert_same(model, weights):
    for p, w in zip(model.parameters(), weights, strict=True):
        assert (p - w).norm() <= 1e-12 * w.norm()


SETTINGS = {"lr": 0.4, "momentum": 0.9, "weight_decay": 0.03, "eta": 0.02}


@pytest.mark.parametrize("exclude", [True, False])
@pytest.mark.parametrize("changes", [{}, {"momentum": 0.0}, {"weight_decay": 0.0}, {"nesterov": True}])
def test_every_parameter_moves_by_the_formula(changes, exclude):
    model, settings = net(), {**SETTINGS, **changes}
    expected = by_the_formula(model, range(4), exclude=exclude, **settings)
    train(model, LARS(model.parameters(), exclude_bias_and_norm=exclude, **settings), range(4))
    assert_same(model, expected)


def test_a_layer_moves_by_a_share_of_its_norm_whatever_its_gradient():
    for scale in (1e-3, 1.0, 1e6):
        w = nn.Parameter(torch.randn(5, 4, generator=torch.Generator().manual_seed(0)).double())
        before = w.detach().clone()
        optimizer = LARS([w], lr=0.5, eta=0.02, momentum=0.0, weight_decay=0.0, eps=0.0)
        w.grad = scale * torch.ones_like(w)
        optimizer.step()
        assert float((w.detach() - before).norm() / before.norm()) == pytest.approx(0.01, rel=1e-12)


def test_a_norm_of_zero_is_no_ratio():
    zero, still = nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.ones(2, 2))
    zero.grad, still.grad = torch.ones(2, 2), torch.zeros(2, 2)
    LARS([zero, still], lr=0.5, eta=0.02, weight_decay=0.0, eps=0.0).step()
    assert torch.equal(zero.detach(), torch.full((2, 2), -0.5))
    assert torch.equal(still.detach(), torch.ones(2, 2))


def test_what_has_no_gradient_stays():
    model = net()
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = LARS(model.parameters(), **SETTINGS)
    optimizer.step()
    for p in list(model.parameters())[:1]:
        p.grad = torch.ones_like(p)
    optimizer.step()
    moved = [not torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True)]
    assert moved == [True, False, False, False, False, False]
    assert len(optimizer.state) == 1


def test_the_gradient_is_left_as_it_was():
    model = net()
    train(model, LARS(model.parameters(), **SETTINGS), [0])
    for p, gradient in zip(model.parameters(), gradients(model, 0), strict=True):
        assert torch.equal(p.grad, gradient)


def test_a_state_that_is_loaded_goes_on_exactly():
    model = net()
    optimizer = LARS(model.parameters(), **SETTINGS)
    train(model, optimizer, range(2))
    again = net()
    again.load_state_dict(model.state_dict())
    resumed = LARS(again.parameters(), lr=9.0)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(model, optimizer, range(2, 5))
    train(again, resumed, range(2, 5))
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), again.parameters(), strict=True))


def test_a_closure_is_asked_with_gradient_and_its_loss_returned():
    w = nn.Parameter(torch.ones(2, 2))
    optimizer = LARS([w], lr=1.0)

    def closure():
        optimizer.zero_grad()
        loss = w.square().sum()
        loss.backward()
        return loss

    assert float(optimizer.step(closure).detach()) == 4.0
    assert float(w[0, 0].detach()) < 1.0


def test_groups_have_their_own_settings():
    model = net()
    head = {"params": model[4].parameters(), "lr": 0.01, "eta": 0.5}
    optimizer = LARS([{"params": model[:4].parameters()}, head], **SETTINGS)
    slow = by_the_formula(model, range(3), **{**SETTINGS, "lr": 0.01, "eta": 0.5})
    fast = by_the_formula(model, range(3), **SETTINGS)
    train(model, optimizer, range(3))
    assert_same(model, [*fast[:4], *slow[4:]])


def test_a_schedule_and_a_rate_that_is_a_tensor_move_it():
    model, twin = net(), net()
    module = SimpleNamespace(
        named_parameters=model.named_parameters,
        trainer=SimpleNamespace(train_dataloader=object(), estimated_stepping_batches=10),
    )
    built = build_optimizers(module, partial(LARS, eta=0.02), partial(warmup_schedule, warmup=4), 0.4)
    train(model, built["optimizer"], [0])
    assert 0 < built["optimizer"].param_groups[0]["lr"] < 0.4
    first = built["optimizer"].param_groups[0]["lr"]
    train(twin, LARS(twin.parameters(), lr=torch.tensor(first, dtype=torch.float64), eta=0.02), [0])
    assert_same(model, [p.detach() for p in twin.parameters()])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"lr": -1.0}, "LARS: lr=-1.0 is not allowed.*at least 0"),
        ({"momentum": 1.5}, "momentum=1.5.*at most 1"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1"),
        ({"eta": 0.0}, "eta=0.0.*above 0"),
        ({"eps": -1.0}, "eps=-1.0"),
        ({"nesterov": "yes"}, "nesterov='yes'.*True or False"),
        ({"exclude_bias_and_norm": 1}, "exclude_bias_and_norm=1.*True or False"),
    ],
)
def test_arguments_out_of_range_are_named(arguments, says):
    with pytest.raises(ConfigurationError, match=says):
        LARS(net().parameters(), **arguments)


def test_a_group_is_checked_too():
    with pytest.raises(ConfigurationError, match="eta=-1"):
        LARS([{"params": net().parameters(), "eta": -1}])
