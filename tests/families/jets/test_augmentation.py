from __future__ import annotations

import math

import pytest
import torch

from stablelit.families.jets.augmentation import (
    ANGLE_SMEARING_RAD,
    LN_PTREL_SMEARING,
    permute,
    reflect,
    smear,
)
from stablelit.families.jets.module import AUGMENTATIONS, SYMMETRIES, JetVAE

TINY = {"latent_dim": 3, "particle_hidden": 8, "edge_hidden": 8, "hyperedge_hidden": 4}


def test_reflection_turns_phi_of_the_chosen_jets_only(batch):
    chosen = torch.arange(12) % 2 == 0
    reflected = reflect(batch["particles"], chosen)
    assert torch.equal(reflected[chosen][..., 1], -batch["particles"][chosen][..., 1])
    assert torch.equal(reflected[~chosen], batch["particles"][~chosen])
    assert torch.equal(reflected[..., ::2], batch["particles"][..., ::2])


def test_permuted_jets_hold_the_same_particles_in_the_order_of_their_keys(batch):
    mask = batch["mask"].clone()
    mask[5, 3], mask[6, :4] = False, False
    # what is behind the mask would show if it moved
    particles = torch.where(mask[..., None], batch["particles"], torch.rand(*mask.shape, 3))
    keys = torch.rand(mask.shape)
    moved = permute(particles, mask, keys)
    for jet in range(len(mask)):
        there = mask[jet].nonzero().flatten().tolist()
        order = sorted(there, key=lambda i, jet=jet: float(keys[jet, i]))
        assert torch.equal(moved[jet, there], particles[jet, order])
        assert torch.equal(moved[jet][~mask[jet]], particles[jet][~mask[jet]])


def test_all_orders_of_three_particles_are_equally_likely():
    particles = torch.arange(1.0, 4.0)[None, :, None].expand(6000, 3, 3)
    moved = permute(particles, torch.ones(6000, 3, dtype=torch.bool), torch.rand(6000, 3))
    orders, counts = moved[..., 0].unique(dim=0, return_counts=True)
    assert len(orders) == 6
    # 1000 each, with a standard deviation of 29
    assert (counts - 1000).abs().max() < 6 * 29


def test_smearing_is_as_wide_as_it_says_and_keeps_momenta_positive():
    particles = torch.tensor([0.1, -0.2, 1e-4]).expand(40, 250, 3)
    mask = torch.ones(40, 250, dtype=torch.bool)
    mask[:, 200:] = False
    moved = smear(particles, mask, torch.randn(40, 250, 3))
    assert not moved[~mask].any()
    assert (moved[mask][:, 2] > 0).all()
    steps = torch.cat([moved[mask][:, :2] - particles[mask][:, :2], (moved[mask][:, 2:] / 1e-4).log()], dim=1)
    wanted = torch.tensor([ANGLE_SMEARING_RAD, ANGLE_SMEARING_RAD, LN_PTREL_SMEARING])
    error = 1 / math.sqrt(2 * 8000)
    assert torch.allclose(steps.std(dim=0) / wanted, torch.ones(3), atol=5 * error)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_each_is_switched_on_by_its_name_and_leaves_absent_particles_absent(batch, name):
    module = JetVAE(**TINY, augment=[name])
    moved = module.augmented(batch["particles"], batch["mask"])
    assert not torch.equal(moved, batch["particles"])
    assert not moved[~batch["mask"]].any()
    assert (moved[batch["mask"]][:, 2] > 0).all()


def test_the_symmetries_are_what_is_on_where_nothing_is_said():
    assert JetVAE(**TINY).augment == SYMMETRIES
