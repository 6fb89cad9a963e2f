"""Losses that are no plain mean over rows: three ranks of unequal parts beside one process that has all rows."""

from __future__ import annotations

import pytest
import torch

from stablelit.families.causal.likelihoods import mean_over_scored
from stablelit.families.causal.losses import correlation_penalty, cross_correlation
from stablelit.families.neutrinos.losses import mean_over_known
from stablelit.functional.rank_gather import mean_over_ranks
from tests.ranks.two_ranks import on_ranks

WORLD, ROWS = 3, 10
NAMES = ["scored", "scored-on-one-rank", "known", "known-on-one-rank", "cross_correlation", "correlation_penalty"]


def rows():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, 6, generator=generator, dtype=torch.float64)
    scored = torch.rand(ROWS, 6, generator=generator) < 0.7
    return x, scored


def losses(x, scored):
    """Each as a module takes it of its part of the batch, from rows x that have a gradient."""
    first = torch.zeros_like(scored)
    # one cell of the whole batch, which is row 3's: most ranks have none
    first[(x.detach()[:, 0] == rows()[0][3, 0]).nonzero().flatten(), 2] = True
    truth = torch.where(scored[:, 0], 1.0, torch.nan)
    of_one = torch.where(first.any(1), 1.0, torch.nan)
    codes = [x[:, :3].tanh(), x[:, 3:] ** 2]
    return {
        "scored": mean_over_scored(x**2, scored, mean_over_ranks(scored.sum())),
        "scored-on-one-rank": mean_over_scored(x**2, first, mean_over_ranks(first.sum())),
        "known": mean_over_known(x[:, 1] ** 2, truth, among_ranks=True),
        "known-on-one-rank": mean_over_known(x[:, 1] ** 2, of_one, among_ranks=True),
        "cross_correlation": cross_correlation(codes),
        "correlation_penalty": correlation_penalty(codes),
    }


def with_gradients(x, scored):
    x = x.clone().requires_grad_()
    found = losses(x, scored)
    assert list(found) == NAMES
    return {k: (loss.item(), torch.autograd.grad(loss, x, retain_graph=True)[0].tolist()) for k, loss in found.items()}


def _of_a_rank(rank):
    # four, three and three rows
    x, scored = rows()
    return with_gradients(x[rank::WORLD], scored[rank::WORLD])


@pytest.fixture(scope="module")
def of_ranks(tmp_path_factory):
    return on_ranks(_of_a_rank, tmp_path_factory.mktemp("gloo") / "store", WORLD)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_mean_over_ranks_is_the_loss_of_all_rows_and_so_is_its_gradient(name, of_ranks):
    loss, gradient = with_gradients(*rows())[name]
    assert sum(of[name][0] for of in of_ranks) / WORLD == pytest.approx(loss, rel=1e-6)
    for rank, of in enumerate(of_ranks):
        # DDP's mean over ranks divides by their number
        mine = torch.tensor(of[name][1], dtype=torch.float64) / WORLD
        expected = torch.tensor(gradient, dtype=torch.float64)[rank::WORLD]
        torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-9)
