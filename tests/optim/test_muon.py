"""Muon for hidden matrices: against the singular value decomposition, torch's own, and AdamW for the rest."""

from __future__ import annotations

import copy
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from stablelit.errors import ConfigurationError
from stablelit.optim import MuonAdamW, build_optimizers, warmup_schedule
from stablelit.optim.muon import orthogonalized


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 8)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 24), nn.GELU(), nn.Linear(24, 8)) for _ in range(2))
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.embedding(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


def net() -> Net:
    torch.manual_seed(3)
    return Net()


def train(model, optimizer, steps=4, schedule=None):
    generator = torch.Generator().manual_seed(7)
    for _ in range(steps):
        x, y = (torch.randint(n, (16,), generator=generator) for n in (5, 3))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        if schedule is not None:
            schedule.step()


def is_hidden(name, parameter):
    return name.startswith("blocks.") and parameter.dim() == 2


@pytest.mark.parametrize("shape", [(5, 12), (12, 5), (8, 8)])
def test_the_singular_vectors_stay_and_the_values_go_towards_one(shape):
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u, _, v = torch.linalg.svd(x, full_matrices=False)
    inside = u.mT @ orthogonalized(x, 5) @ v.mT
    values = inside.diagonal(dim1=-2, dim2=-1)
    assert values.min() > 0.6
    assert values.max() < 1.3
    assert (inside - torch.diag_embed(values)).abs().max() < 1e-4


def test_a_matrix_of_zeros_stays_so():
    assert orthogonalized(torch.zeros(2, 3, 4)).equal(torch.zeros(2, 3, 4))


@pytest.mark.parametrize("nesterov", [True, False])
def test_hidden_matrices_move_by_the_formula(nesterov):
    """The iteration acts on singular values alone: each goes through the polynomial, beside its own vectors."""
    model, rate, decay, momentum = net(), 0.02, 0.1, 0.95
    optimizer = MuonAdamW(model.named_parameters(), lr=0.01, muon_scale=2.0, weight_decay=decay, nesterov=nesterov)
    hidden = {n: p for n, p in model.named_parameters() if is_hidden(n, p)}
    assert len(hidden) == 4
    sums = {n: torch.zeros_like(p, dtype=torch.float64) for n, p in hidden.items()}
    for _ in range(3):
        before = {n: p.detach().double() for n, p in hidden.items()}
        train(model, optimizer, 1)
        for n, p in hidden.items():
            gradient = p.grad.double()
            sums[n] = momentum * sums[n] + gradient
            u, s, v = torch.linalg.svd(gradient + momentum * sums[n] if nesterov else sums[n], full_matrices=False)
            s = s / s.square().sum().sqrt()
            for _ in range(5):
                s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
            expected = (1 - rate * decay) * before[n] - 0.2 * max(p.shape) ** 0.5 * rate * (u * s) @ v
            # in float32 the smallest singular values, of 1e-4 of the largest and below, are not known better
            assert (p.detach() - expected).abs().max() < 1e-3 * (expected - before[n]).abs().max()


def test_all_other_parameters_move_as_with_adamw():
    model, peer = net(), net()
    settings = {"lr": 0.01, "weight_decay": 0.1, "betas": (0.9, 0.98)}
    optimizer = MuonAdamW(model.named_parameters(), **settings)
    theirs = torch.optim.AdamW([p for n, p in peer.named_parameters() if not is_hidden(n, p)], **settings)
    for _ in range(4):
        peer.load_state_dict({k: v for k, v in model.state_dict().items()})
        for one, other in ((model, optimizer), (peer, theirs)):
            train(one, other, 1)
        for (name, p), q in zip(model.named_parameters(), peer.parameters(), strict=True):
            assert is_hidden(name, p) or p.equal(q)


def test_a_state_that_is_loaded_goes_on_exactly():
    whole, half = net(), net()
    straight, first = (MuonAdamW(m.named_parameters(), lr=0.01) for m in (whole, half))
    train(whole, straight, 4)
    train(whole, straight, 4)
    train(half, first, 4)
    again = copy.deepcopy(half)
    second = MuonAdamW(again.named_parameters(), lr=0.5, momentum=0.1)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    train(again, second, 4)
    assert all(p.equal(q) for p, q in zip(whole.parameters(), again.parameters(), strict=True))


def test_a_schedule_moves_both_rates_and_what_is_frozen_stays():
    model = net()
    model.blocks[0][0].weight.requires_grad_(False)
    frozen = model.blocks[0][0].weight.clone()
    trainer = SimpleNamespace(train_dataloader=object(), estimated_stepping_batches=10)
    model.trainer = trainer
    made = build_optimizers(model, partial(MuonAdamW, muon_scale=3.0), partial(warmup_schedule, warmup=4), 0.01)
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    train(model, optimizer, 2, schedule)
    adamw, muon = optimizer.param_groups
    assert adamw["lr"] == pytest.approx(0.01 * 3 / 5)
    assert muon["lr"] == pytest.approx(3 * adamw["lr"])
    assert model.blocks[0][0].weight.equal(frozen)
    assert len(muon["params"]) == 3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"lr": -1.0}, "lr=-1"),
        ({"muon_scale": 0.0}, "muon_scale=0"),
        ({"momentum": 2.0}, "momentum=2"),
        ({"newton_schulz_steps": 0}, "newton_schulz_steps=0"),
        ({"nesterov": "no"}, "nesterov='no'"),
        ({"hidden": ["layers"]}, "hidden=.*layers.*embedding.weight, blocks.0.0.weight.*optimizer=adamw"),
    ],
)
def test_arguments_out_of_range_are_named(arguments, says):
    with pytest.raises(ConfigurationError, match=f"MuonAdamW: {says}"):
        MuonAdamW(net().named_parameters(), **arguments)


def test_parameters_without_names_are_refused():
    with pytest.raises(ConfigurationError, match="MuonAdamW: parameters without names.*named_parameters"):
        MuonAdamW(net().parameters())
