from __future__ import annotations

import doctest

import pytest
import torch

from stablelit.errors import ConfigurationError, DataError
from stablelit.families.jets import metrics
from stablelit.families.jets.metrics import GROUPS, JetMetrics, Jets, JetScores, collection, score_jets
from stablelit.families.jets.metrics.wasserstein import Estimate

W1 = ("mass", "pt", "multiplicity", "etarel", "phirel", "ptrel", "delta_r", "efp")


@pytest.fixture
def quick_coverage(monkeypatch):
    original = metrics.coverage_and_mmd

    def small(real, generated, n_jets=8, n_batches=2, seed=42, replace=False):
        return original(real, generated, min(n_jets, 8), min(n_batches, 2), seed, replace)

    monkeypatch.setattr(collection.coverage, "coverage_and_mmd", small)


@pytest.mark.slow
def test_one_call_measures_what_the_single_metrics_do(real, generated, quick_coverage):
    scores = score_jets(*real, *generated, seed=7)
    names = {f"{name}_w1" for name in W1} | {"fpd", "kpd", "coverage", "mmd"}
    assert set(scores.estimates) == names
    single = (
        metrics.JetMassW1(seed=7),
        metrics.JetPtW1(seed=7),
        metrics.MultiplicityW1(seed=7),
        metrics.ParticleW1(seed=7),
        metrics.EFPW1(seed=7),
        metrics.FrechetPhysicsDistance(seed=7),
        metrics.KernelPhysicsDistance(seed=7),
        metrics.JetCoverageMMD(seed=7),
    )
    found = scores.flat()
    seen = set()
    for metric in single:
        metric.update(*real, real=True)
        metric.update(*generated, real=False)
        for name, value in metric.compute().items():
            if not name.startswith("efp_1"):
                assert found[name] == pytest.approx(float(value), rel=1e-9), name
                seen.add(name)
    assert seen == set(found)


def test_numpy_arrays_are_taken(toy_jets):
    jets = (toy_jets.particles, toy_jets.mask)
    scores = score_jets(*jets, *jets, groups="w1")
    assert scores.estimates["mass_w1"].value == 0.0
    assert scores.estimates["mass_w1"].floor > 0.0


def test_table_has_a_line_for_each_quantity_with_its_floor():
    scores = JetScores({"mass_w1": Estimate(0.0123, 0.002, 0.0045), "mmd": Estimate(0.5)}, 30, 20)
    lines = scores.table().splitlines()
    assert lines[1].split() == ["mass_w1", "0.0123", "+-", "0.002", "0.0045"]
    assert lines[2].split() == ["mmd", "0.5"]
    assert lines[3] == "20 generated against 30 real jets"


def test_metric_remembers_real_jets_only_as_long_as_they_are_the_same(real, generated):
    metric, fresh = JetMetrics(["w1"], n_bootstrap=0), JetMetrics(["w1"], n_bootstrap=0)
    other = Jets(real.particles.clone(), real.mask)
    other.particles[0, 0, 2] += 0.5
    for reference in (real, real, other):
        metric.reset()
        fresh = JetMetrics(["w1"], n_bootstrap=0)
        for one in (metric, fresh):
            one.update(*reference, real=True)
            one.update(*generated, real=False)
        assert metric.compute() == fresh.compute()


def test_groups_are_a_switch(real, generated):
    scores = score_jets(*real, *generated, groups=["kpd"])
    assert set(scores.estimates) == {"kpd"}
    for wrong, message in (("fdp", "Did you mean 'fpd'"), ([], "at least one of w1")):
        with pytest.raises(ConfigurationError, match=message):
            JetMetrics(wrong)
    with pytest.raises(ConfigurationError, match="n_bootstrap=-1"):
        JetMetrics(n_bootstrap=-1)


def test_what_too_few_jets_cannot_tell_is_left_out_and_said(real):
    few = real.take(torch.arange(30))
    scores = score_jets(*few, *few, groups=["w1", "fpd", "kpd"])
    assert "fpd" not in scores.estimates
    assert "kpd" in scores.estimates
    assert [finding.name for finding in scores.findings] == ["too-few-jets-for-fpd", "fewer-jets-than-published"]
    assert "fpd needs 200" in scores.findings[0].message
    assert "30 real and 30 generated" in scores.table()
    assert "kpd took every jet at most once" in scores.findings[1].message


def test_enough_jets_are_not_remarked_upon():
    assert collection.size_findings(GROUPS, 50_000, 60_000) == []


def test_wrong_arrays_are_refused(real):
    with pytest.raises(DataError, match=r"generated jets: particles of shape \(400, 8, 2\)"):
        score_jets(*real, real.particles[..., :2], real.mask)
    with pytest.raises(DataError, match="real jets: there are none"):
        score_jets(real.particles[:0], real.mask[:0], *real)


def test_examples_run():
    for module in (collection, metrics.active_units):
        assert doctest.testmod(module).failed == 0
