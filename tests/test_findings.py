from __future__ import annotations

import json
import warnings
from dataclasses import replace
from types import SimpleNamespace

import pytest

from stablelit.errors import ConfigurationError
from stablelit.findings import Finding, FindingError, FindingReporter, FindingWarning, read_findings

FINDING = Finding("cap-ineffective", "warning", "the KL grows.", {"kl": 73.0}, "callbacks.kl_cap.max_weight=1.0")


def _trainer(directory, **kwargs):
    logger = SimpleNamespace(log_dir=str(directory))
    return SimpleNamespace(
        **{"global_step": 7, "is_global_zero": True, "fast_dev_run": False, "loggers": [logger], **kwargs}
    )


def test_a_cause_is_raised_once_and_written_with_its_step_and_source(tmp_path):
    trainer, reporter = _trainer(tmp_path), FindingReporter("KLCapCallback[kl_weight]")
    with pytest.warns(FindingWarning, match="cap-ineffective.*Try: callbacks.kl_cap.max_weight=1.0"):
        assert reporter.report(trainer, FINDING)
    assert not reporter.report(trainer, FINDING)
    (written,) = read_findings(tmp_path)
    assert (written.step, written.source, written.evidence) == (7, "KLCapCallback[kl_weight]", {"kl": 73.0})


def test_a_resumed_reporter_does_not_repeat_itself(tmp_path):
    first, second = FindingReporter("a"), FindingReporter("a")
    with pytest.warns(FindingWarning):
        first.report(_trainer(tmp_path), FINDING)
    second.load_state_dict(first.state_dict())
    assert not second.report(_trainer(tmp_path), FINDING)


def test_stop_ends_the_run_and_raise_raises(tmp_path):
    trainer = _trainer(tmp_path)
    with pytest.warns(FindingWarning):
        FindingReporter("a", "stop").report(trainer, FINDING)
    assert trainer.should_stop
    with pytest.warns(FindingWarning), pytest.raises(FindingError, match="the KL grows") as caught:
        FindingReporter("a", "raise").report(trainer, FINDING)
    assert caught.value.finding.name == "cap-ineffective"


@pytest.mark.parametrize("action", ["warn", "stop", "raise"])
def test_what_only_informs_ends_no_run_and_is_no_warning(action, tmp_path, caplog):
    trainer = _trainer(tmp_path)
    with warnings.catch_warnings(), caplog.at_level("INFO", "lightning.pytorch"):
        warnings.simplefilter("error")
        assert FindingReporter("a", action).report(trainer, replace(FINDING, severity="info"))
    assert "[info] cap-ineffective" in caplog.text
    assert not hasattr(trainer, "should_stop")
    assert [finding.severity for finding in read_findings(tmp_path)] == ["info"]


def test_other_ranks_and_trial_runs_write_nothing(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FindingReporter("a").report(_trainer(tmp_path, is_global_zero=False), FINDING)
    with pytest.warns(FindingWarning):
        FindingReporter("a").report(_trainer(tmp_path, fast_dev_run=True), FINDING)
    assert not list(tmp_path.iterdir())


def test_unknown_words_are_refused():
    with pytest.raises(ConfigurationError, match="action='panic'.*warn, stop, raise"):
        FindingReporter("a", "panic")
    with pytest.raises(ConfigurationError, match="severity='bad'"):
        Finding("a", "bad", "")


def test_a_broken_line_is_named(tmp_path):
    (tmp_path / "findings.jsonl").write_text(json.dumps({"name": "a", "severity": "info", "message": ""}) + "\n{\n")
    with pytest.raises(ValueError, match=r"findings\.jsonl:2"):
        read_findings(tmp_path)
    assert read_findings(tmp_path / "none") == []
