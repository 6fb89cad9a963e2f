"""Runs that fail in known ways get their verdict, and runs that learn get none."""

from __future__ import annotations

import warnings

import pytest

from stablelit.callbacks import ContrastiveHealthMonitor
from stablelit.findings import FindingWarning, read_findings
from tests.callbacks.contrast import (
    SOON,
    blank,
    dead_encoder,
    dead_projector,
    fit,
    loader,
    make_contrast,
    no_noise,
    raw,
    shuffled,
    twice,
)

FAILURES = {
    "blank-input": (blank, {}),
    "input-not-normalised": (raw, {}),
    "dead-encoder": (dead_encoder, {}),
    "collapsed-projector": (dead_projector, {"norm": True}),
    "mispaired-views": (shuffled, {"norm": True}),
    "slow-start": (lambda module: (module, loader(150)), {"lr": 1e-6}),
    "worse-than-independent": (twice, {"norm": True}),
    "weak-augmentation": (no_noise, {"norm": True, "lr": 1e-2}),
}


@pytest.mark.slow
@pytest.mark.parametrize("verdict", FAILURES)
def test_each_failure_has_its_verdict(verdict, tmp_path):
    breaks, kwargs = FAILURES[verdict]
    module, data = breaks(make_contrast(**kwargs))
    monitor = ContrastiveHealthMonitor(**SOON)
    with pytest.warns(FindingWarning, match=verdict):
        fit(tmp_path, module, monitor, data=data, max_steps=40)
    assert monitor.verdict.name == verdict
    assert [f.step for f in read_findings(tmp_path) if f.name == verdict] == [30]


@pytest.mark.slow
@pytest.mark.parametrize("verdict", FAILURES)
def test_each_failure_has_its_verdict_after_150_steps(verdict, tmp_path):
    breaks, kwargs = FAILURES[verdict]
    module, data = breaks(make_contrast(**kwargs))
    monitor = ContrastiveHealthMonitor()
    with pytest.warns(FindingWarning, match=verdict):
        fit(tmp_path, module, monitor, data=data)
    assert [f.step for f in read_findings(tmp_path) if f.name == verdict] == [150]


@pytest.mark.slow
def test_a_shuffled_view_without_batch_norm_is_no_dead_encoder(tmp_path):
    module, data = shuffled(make_contrast(lr=1e-2))
    monitor = ContrastiveHealthMonitor(**SOON)
    with pytest.warns(FindingWarning, match="mispaired-views"):
        fit(tmp_path, module, monitor, data=data, max_steps=100)
    assert monitor.health.std_ratio < 0.1, "by its spread alone it has collapsed"
    assert monitor.verdict.name == "mispaired-views"


@pytest.mark.slow
@pytest.mark.parametrize("norm", [True, False])
def test_a_run_that_learns_has_no_verdict(norm, tmp_path):
    monitor = ContrastiveHealthMonitor(**SOON)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FindingWarning)
        fit(tmp_path, make_contrast(norm=norm, lr=1e-2), monitor, steps=60)
    assert monitor.verdict.name == "ok"
    assert monitor.health.excess < 0.8
