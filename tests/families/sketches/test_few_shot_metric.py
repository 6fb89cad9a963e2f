from __future__ import annotations

import math
import statistics

import pytest
import torch

from stablelit.errors import ConfigurationError
from stablelit.families.sketches.few_shot_metric import FewShotAccuracy

ACCURACIES = torch.rand(40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_it_is_the_mean_over_episodes_with_its_interval():
    metric = FewShotAccuracy(5)
    metric.update(ACCURACIES[:30])
    for one in ACCURACIES[30:]:
        metric.update(one)
    found = {name: float(value) for name, value in metric.compute().items()}
    assert found["accuracy"] == pytest.approx(statistics.fmean(ACCURACIES.tolist()), rel=1e-12)
    assert found["interval"] == pytest.approx(1.96 * statistics.stdev(ACCURACIES.tolist()) / math.sqrt(40), rel=1e-9)
    assert (found["episodes"], found["chance"]) == (40, 0.2)


def test_what_two_ranks_have_adds_up():
    whole, parts = FewShotAccuracy(5), [FewShotAccuracy(5), FewShotAccuracy(5)]
    whole.update(ACCURACIES)
    for part, values in zip(parts, ACCURACIES.split(15), strict=False):
        part.update(values)
    parts[1].update(ACCURACIES[30:])
    for name, reduction in whole._reductions.items():
        setattr(parts[0], name, reduction(torch.stack([getattr(part, name) for part in parts])))
    torch.testing.assert_close(parts[0].compute(), whole.compute(), rtol=1e-12, atol=1e-12)


def test_a_model_in_bfloat16_does_not_round_it():
    metric = FewShotAccuracy(5).to(torch.bfloat16)
    metric.update(ACCURACIES)
    torch.testing.assert_close(metric.compute()["accuracy"], ACCURACIES.mean())


def test_one_episode_has_no_interval():
    metric = FewShotAccuracy(5)
    metric.update(torch.tensor(0.4))
    assert metric.compute()["interval"].isnan()


def test_one_way_is_no_task():
    with pytest.raises(ConfigurationError, match="n_way=1 is not allowed"):
        FewShotAccuracy(1)
