from __future__ import annotations

import math

import pytest
import torch

from stablelit.errors import ConfigurationError
from stablelit.families.sketches.heads import mlp_head
from stablelit.families.sketches.losses import byol_loss


def test_a_batch_norm_spreads_what_lies_in_a_narrow_cone():
    torch.manual_seed(0)
    cone = 10.0 + 0.01 * torch.randn(64, 8)

    def mean_cosine(norm):
        torch.manual_seed(1)
        z = torch.nn.functional.normalize(mlp_head(8, 32, 16, norm)(cone), dim=1)
        return float(((z @ z.T).sum().detach() - 64) / (64 * 63))

    assert mean_cosine("none") > 0.999
    assert mean_cosine("batch") < 0.9


def test_an_embedding_that_ends_in_relu_lies_in_one_octant():
    torch.manual_seed(0)
    x = torch.randn(20, 8)
    assert mlp_head(8, 16, 4, ends_in_relu=True)(x).min() == 0
    assert mlp_head(8, 16, 4)(x).min() < 0


@pytest.mark.parametrize(
    ("arguments", "says"), [((8, 16, 1), "out_dim"), ((8, 0, 4), "hidden"), ((8, 4, 4, "group"), "norm='group'")]
)
def test_a_head_that_cannot_be_is_refused(arguments, says):
    with pytest.raises(ConfigurationError, match=says):
        mlp_head(*arguments)


def test_the_loss_of_byol_is_the_squared_distance_of_unit_vectors():
    torch.manual_seed(0)
    p, z = torch.randn(9, 5, dtype=torch.double), torch.randn(9, 5, dtype=torch.double)
    by_hand = [float(((a / a.norm() - b / b.norm()) ** 2).sum()) for a, b in zip(p, z, strict=True)]
    assert float(byol_loss(p, z)) == pytest.approx(sum(by_hand) / 9, rel=1e-12)


def test_no_gradient_reaches_the_target():
    p, z = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    byol_loss(p, z).backward()
    assert p.grad is not None
    assert z.grad is None


def test_unrelated_vectors_of_many_dimensions_lose_2():
    generator = torch.Generator().manual_seed(3)
    p, z = (torch.randn(4000, 64, generator=generator) for _ in range(2))
    # a cosine has variance 1 / d
    assert float(byol_loss(p, z)) == pytest.approx(2.0, abs=4 * 2 / math.sqrt(64 * 4000))


def test_a_vector_of_zeros_is_no_nan():
    assert torch.isfinite(byol_loss(torch.zeros(2, 3), torch.zeros(2, 3)))
