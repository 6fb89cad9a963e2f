from __future__ import annotations

import json
import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from stablelit.errors import ConfigurationError
from stablelit.findings import (
    Finding,
    FindingError,
    FindingReporter,
    FindingWarning,
    HearsFindings,
    append_finding,
    findings_directory,
    read_findings,
)
from stablelit.lost_reports import LostReportWarning, lost_reports

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


def test_evidence_is_plain_whatever_computed_it(tmp_path):
    computed = {
        "float32": np.float32(1.5),
        "float64": np.float64(2.5),
        "int64": np.int64(3),
        "tensor": torch.tensor(4.0),
        "many": [np.float64(1.0), 2],
        "array": np.arange(2),
        "nothing": None,
    }
    finding = replace(FINDING, evidence=computed)
    expected = {"float32": 1.5, "float64": 2.5, "int64": 3, "tensor": 4.0, "many": [1.0, 2], "array": "[0 1]"}
    assert finding.evidence == {**expected, "nothing": None}
    assert {type(value) for value in finding.evidence.values()} == {float, int, list, str, type(None)}
    # as a callback's state does
    torch.save(finding.evidence, tmp_path / "state.pt")
    assert torch.load(tmp_path / "state.pt", weights_only=True) == finding.evidence
    with pytest.warns(FindingWarning):
        FindingReporter("a").report(_trainer(tmp_path), finding)
    assert read_findings(tmp_path)[0].evidence == finding.evidence


def test_a_finding_that_knows_its_step_keeps_it(tmp_path):
    with pytest.warns(FindingWarning):
        FindingReporter("a").report(_trainer(tmp_path), replace(FINDING, step=3))
    assert read_findings(tmp_path)[0].step == 3


def test_where_nothing_can_be_written_the_run_goes_on(tmp_path):
    (tmp_path / "file").write_text("")
    trainer = _trainer(tmp_path / "file" / "below")
    with (
        pytest.warns(FindingWarning, match="cap-ineffective"),
        pytest.warns(LostReportWarning, match="Not a directory"),
    ):
        assert FindingReporter("a").report(trainer, FINDING)
    assert lost_reports(trainer) == ["findings.jsonl of a: 1 writing lost (Not a directory)"]


class Listener:
    def __init__(self):
        self.heard = []

    def hear_finding(self, finding):
        self.heard.append(finding)


@pytest.mark.parametrize("quiet", [True, False], ids=["quiet", "aloud"])
@pytest.mark.parametrize("action", ["warn", "stop", "raise"])
def test_quiet_leaves_out_what_is_said_and_nothing_else(action, quiet, tmp_path):
    listener = Listener()
    trainer = _trainer(tmp_path, callbacks=[object(), listener])
    reporter = FindingReporter("a", action, quiet)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        if action == "raise":
            with pytest.raises(FindingError):
                reporter.report(trainer, FINDING)
        else:
            assert reporter.report(trainer, FINDING)
    assert len(said) == (0 if quiet else 1)
    assert getattr(trainer, "should_stop", False) is (action == "stop")
    assert listener.heard == read_findings(tmp_path)
    assert (listener.heard[0].source, listener.heard[0].step) == ("a", 7)


def test_quiet_holds_for_notes_too(tmp_path, caplog):
    with caplog.at_level("INFO", "lightning.pytorch"):
        FindingReporter("a", quiet=True).report(_trainer(tmp_path), replace(FINDING, severity="info"))
    assert caplog.text == ""


def test_every_rank_hears_though_one_writes(tmp_path):
    listener = Listener()
    FindingReporter("a").report(_trainer(tmp_path, is_global_zero=False, callbacks=[listener]), FINDING)
    assert [finding.name for finding in listener.heard] == ["cap-ineffective"]


def test_a_reporter_that_is_carried_hands_on_and_does_nothing_else(tmp_path):
    taken, listener = [], Listener()
    trainer, reporter = _trainer(tmp_path, callbacks=[listener]), FindingReporter("a", "raise")
    reporter.to = taken.append
    assert reporter.report(trainer, FINDING)
    assert not reporter.report(trainer, FINDING)
    assert [finding.source for finding in taken] == ["a"]
    assert not listener.heard
    assert not list(tmp_path.iterdir())


def test_hearing_is_told_by_the_method():
    assert isinstance(Listener(), HearsFindings)
    assert not isinstance(object(), HearsFindings)


def test_the_first_logger_with_a_directory_says_where_findings_go(tmp_path):
    loggers = [SimpleNamespace(), SimpleNamespace(log_dir=None, save_dir=str(tmp_path))]
    assert findings_directory(SimpleNamespace(loggers=loggers, default_root_dir="elsewhere")) == tmp_path
    assert str(findings_directory(SimpleNamespace(loggers=[], default_root_dir="elsewhere"))) == "elsewhere"


def test_a_finding_that_a_resumed_run_comes_to_again_has_one_line(tmp_path):
    first = Finding("few-rows", "warning", "12 rows.", {"rows": 12}, step=3)
    for finding in (first, Finding("few-rows", "warning", "12 rows.", {"rows": 12}, step=9), first):
        append_finding(tmp_path, finding)
    assert [finding.step for finding in read_findings(tmp_path)] == [3, 9]


def test_what_a_module_has_raised_is_kept_in_its_checkpoint_and_taken_up_by_a_fit_alone(tmp_path):
    def trainer(fn):
        return SimpleNamespace(default_root_dir=str(tmp_path), global_step=3, state=SimpleNamespace(fn=fn))

    finding, checkpoint = Finding("a", "info", "seen."), {}
    first = FindingReporter("module")
    assert first.report(trainer("fit"), finding)
    first.keep_in(checkpoint)
    for fn, is_new in (("fit", False), ("test", True)):
        again = FindingReporter("module")
        again.take_from(checkpoint, trainer(fn))
        assert again.report(trainer(fn), finding) is is_new
    another = FindingReporter("another module")
    another.take_from(checkpoint, trainer("fit"))
    assert another.report(trainer("fit"), finding)
