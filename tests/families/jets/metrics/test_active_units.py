from __future__ import annotations

import pytest
import torch

from stablelit.errors import ConfigurationError, DataError
from stablelit.families.jets.metrics import ActiveUnits


def test_units_above_the_threshold_are_counted():
    mean = torch.randn(500, 6) * torch.tensor([1.0, 0.5, 0.11, 0.09, 0.01, 0.0]) + torch.arange(6) * 10.0
    units = ActiveUnits(latent_dim=6)
    for part in mean.split(77):
        units.update(part)
    assert torch.allclose(units.variances(), mean.double().var(dim=0), rtol=1e-9)
    expected = int((mean.double().var(dim=0) > 0.01).sum())
    scores = units.compute()
    assert float(scores["active_units"]) == expected
    assert float(scores["active_units_share"]) == expected / 6


def test_wrong_input_is_refused():
    with pytest.raises(ConfigurationError, match="delta"):
        ActiveUnits(2, delta=0.0)
    units = ActiveUnits(2)
    units.update(torch.zeros(1, 2))
    with pytest.raises(DataError, match="1 jets. Allowed: at least 2"):
        units.compute()
    units.update(torch.tensor([[1.0, float("nan")]]))
    with pytest.raises(DataError, match="diverged"):
        units.compute()
