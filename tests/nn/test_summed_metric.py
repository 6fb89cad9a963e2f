"""Sums that a model's precision does not touch."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stablelit.families.jets.metrics import ActiveUnits
from stablelit.nn.summed_metric import SummedMetric


class Total(SummedMetric):
    def __init__(self) -> None:
        super().__init__()
        self.add_sum("total")
        self.add_sum("parts", 3)
        self.add_count("count", 2)

    def update(self, values):
        self.total += values.sum()
        self.parts += values
        self.count += 1

    def compute(self):
        return self.total


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_states_stay_exact_where_a_module_becomes_half_precise(dtype):
    module = nn.ModuleDict({"metric": Total()}).to(dtype)
    metric = module["metric"]
    for _ in range(300):
        metric.update(torch.tensor([1.0, 1e-3, 2.0], dtype=torch.float64))
    assert float(metric.compute()) == pytest.approx(300 * 3.001, rel=1e-12)
    assert metric.count.tolist() == [300, 300]
    metric.reset()
    assert metric.total.dtype == metric.parts.dtype == torch.float64
    assert metric.count.dtype == torch.long


def test_active_units_of_a_model_in_bfloat16_are_those_of_one_in_float32():
    mean = 3.0 + torch.randn(4000, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.05, 0.2])
    plain, half = ActiveUnits(2), ActiveUnits(2).to(torch.bfloat16)
    for metric in (plain, half):
        for part in mean.split(100):
            metric.update(part)
    assert plain.variances().equal(half.variances())
    assert half.compute()["active_units"] == 1
