from __future__ import annotations

import numpy as np
import pytest
import torch

from stablelit.errors import ConfigurationError
from stablelit.families.proteins.metrics import MaskRateCrossEntropy


def test_each_residue_is_in_the_bin_of_its_sequences_rate():
    generator = torch.Generator().manual_seed(0)
    n = torch.randint(1, 64, (500,), generator=generator)
    k = (torch.rand(500, generator=generator) * n).long() + 1
    nats = torch.rand(500, generator=generator) * k
    edges = (0.25, 0.5, 0.75, 1.0)
    metric = MaskRateCrossEntropy(edges)
    for part in torch.arange(500).split(77):
        metric.update(nats[part], k[part], k[part] / n[part])
    # by whole numbers: k <= edge n
    place = np.array([next(i for i, e in enumerate(edges) if kk <= e * nn) for kk, nn in zip(k, n, strict=True)])
    for i in range(4):
        mine = torch.from_numpy(place == i)
        assert metric.compute()[i].item() == pytest.approx((nats[mine].sum() / k[mine].sum()).item(), rel=1e-6)
        assert int(metric.masked[i]) == int(k[mine].sum())


def test_a_share_that_is_an_edge_belongs_below_it_also_in_half_precision():
    metric = MaskRateCrossEntropy((0.1, 0.3, 1.0)).to(torch.bfloat16)
    rate = torch.tensor([3, 9, 30]) / torch.tensor([30, 30, 30])
    metric.update(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1, 1, 1]), rate)
    assert metric.compute().tolist() == [1.0, 2.0, 3.0]


def test_an_empty_bin_is_nan():
    metric = MaskRateCrossEntropy((0.5, 1.0))
    metric.update(torch.tensor([1.0]), torch.tensor([2]), torch.tensor([0.9]))
    assert metric.compute().isnan().tolist() == [True, False]


@pytest.mark.parametrize("edges", [(), (0.5, 0.5, 1.0), (0.0, 1.0), (0.5, 0.9)])
def test_edges_that_do_not_cover_all_rates_are_refused(edges):
    with pytest.raises(ConfigurationError, match="MaskRateCrossEntropy: edges="):
        MaskRateCrossEntropy(edges)
