"""The page that a training leaves."""

from __future__ import annotations

import json

import pytest

from tests.report.page_checks import parsed


@pytest.mark.slow
def test_a_training_leaves_its_report_and_says_where(train):
    done = train("report=true", "callbacks=[history,doctor]")
    assert done.code == 0, done.err
    page = parsed((done.run_dir / "report.html").read_text(encoding="utf-8"))
    (line,) = [line for line in done.out.splitlines() if line.startswith("report")]
    assert line.split()[1] == f"{done.run_dir.relative_to(done.run_dir.parents[2])}/report.html"
    assert "finished" in page.text
    assert f"machinesystem {done.summary['machine']['system']}" in page.text
    # its doctor was there, and the logs are not judged once more
    (verdict,) = done.summary["doctor"]
    assert verdict.startswith("[doctor] ")
    assert verdict.splitlines()[0] in page.text
    assert "as far as the logs tell" not in page.text


@pytest.mark.slow
@pytest.mark.filterwarnings("default::stablelit.lost_reports.LostReportWarning")
def test_a_report_that_fails_is_a_warning_and_the_run_is_finished(train, monkeypatch):
    def fail(*_, **__):
        raise ZeroDivisionError("in a picture\nof it")

    monkeypatch.setattr("stablelit.report.writing.single_page", fail)
    done = train("report=true", "callbacks=[history]")
    assert done.code == 0
    assert done.summary["status"] == "finished"
    (said,) = [line for line in done.err.splitlines() if "report.html" in line]
    assert "could not be written: ZeroDivisionError: in a picture What it would show is in runs/tiny/" in said
    assert "python -m stablelit.report runs/tiny/" in said
    assert not (done.run_dir / "report.html").exists()


@pytest.mark.slow
def test_no_report_is_written_where_none_is_wanted(train):
    done = train("report=false", "callbacks=[history]")
    assert done.code == 0
    assert not (done.run_dir / "report.html").exists()
    assert json.dumps(done.summary["machine"]["cores"]).isdigit()
    assert train("trainer.fast_dev_run=true", "report=true").code == 0
    assert len(done.runs) == 1


@pytest.mark.slow
def test_a_report_is_wanted_or_not(train):
    done = train("report=maybe")
    assert done.code == 2
    assert "report" in done.err
