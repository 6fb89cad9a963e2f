"""``python -m stablelit.doctor``: what is printed, what is written, and the code it leaves with."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stablelit.doctor.door import INTERRUPTED, USAGE, exit_code, main
from stablelit.doctor.log_verdict import CRITICAL, HEALTHY, UNREADABLE, WARNING, LogVerdict
from stablelit.doctor.log_verdict_text import unchecked_lines
from stablelit.doctor.rules import RULES
from stablelit.findings import Finding, append_finding
from tests.doctor.log_files import make_old, write_csv, write_events, write_lines

STEPS = 400


def healthy(directory: Path, seed: int = 0, **more: object) -> Path:
    """A loss that falls and then rests, with noise, and a validation that follows."""
    noise = np.random.default_rng(seed)
    rows: list[dict[str, object]] = []
    for step in range(STEPS):
        loss = 0.3 + 1.7 * math.exp(-step / 60) + 0.05 * noise.standard_normal()
        rows.append({"epoch": step // 40, "step": step, "train_loss": loss, "lr-Adam": 1e-3})
        if step % 40 == 39:
            level = 0.35 + 1.6 * math.exp(-step / 60) + 0.01 * noise.standard_normal()
            rows.append({"epoch": step // 40, "step": step, "val_loss": level})
    return write_csv(directory, rows, lr=1e-3, batch_size=16, **more)


def at_chance(directory: Path, seed: int = 0) -> Path:
    noise = np.random.default_rng(seed)
    rows = [{"step": s, "train_loss": math.log(63) + 0.003 * noise.standard_normal()} for s in range(STEPS)]
    return write_csv(directory, rows, batch_size=32, temperature=0.5)


def test_a_healthy_run_leaves_with_zero(tmp_path, capsys):
    assert main([str(healthy(tmp_path))]) == HEALTHY
    shown = capsys.readouterr().out
    assert "400 steps" not in shown  # steps are counted from 0: the last is 399
    assert "399 steps, 10 epochs" in shown
    assert "loss=train_loss val_loss=val_loss lr=lr-Adam" in shown
    assert "healthy, as far as its logs tell" in shown
    assert shown.splitlines()[-1].startswith("0 critical, 0 warnings, ")
    assert shown.splitlines()[-1].endswith("exit 0")


def test_a_run_at_chance_leaves_with_two_and_says_why(tmp_path, capsys):
    assert main([str(at_chance(tmp_path))]) == CRITICAL
    shown = " ".join(capsys.readouterr().out.split())
    assert "CRITICAL contrastive-at-chance" in shown
    assert "ln(2N-1) for N=32 = 4.143" in shown
    assert "try: no batch size and no temperature mends this" in shown


def test_the_last_line_counts_every_rule_once(tmp_path, capsys):
    main([str(healthy(tmp_path)), "--json", str(tmp_path / "out.json")])
    run = json.loads((tmp_path / "out.json").read_text())["runs"][0]
    names = [*run["passed"], *run["unchecked"], *(f["name"] for f in run["findings"])]
    assert sorted(names) == sorted({rule.name for rule in RULES})
    last = capsys.readouterr().out.splitlines()[-1]
    assert f"{len(run['passed'])} rules ok, {len(run['unchecked'])} not checkable" in last


def test_what_logs_cannot_tell_is_always_listed(tmp_path, capsys):
    main([str(healthy(tmp_path))])
    shown = " ".join(capsys.readouterr().out.split())
    for rule in RULES:
        if any(need.partition(".")[0] in ("parameters", "layers", "modes") for need in rule.needs):
            assert "not checkable from logs:" in shown
            assert "these need the callback, TrainingDoctor()" in shown
    assert "not logged here, where the model has them:" in shown


def test_a_rule_that_raises_is_not_said_to_lack_a_log():
    lines = unchecked_lines({"broken": ("an answer: ValueError: 1.5 of 2",), "graph-empty": ("curves.edges",)})
    assert lines[1:] == ["  not checkable, because of an error in the rule: broken (ValueError: 1.5 of 2)."]
    assert "not logged here" in lines[0]


def test_schedules_are_not_said_to_be_missing_from_logs():
    (line,) = unchecked_lines({"schedule-steps-wrong": ("settings.schedules", "settings.max_epochs")})
    assert line == "  not checkable from logs: schedulers (1): these need the callback, TrainingDoctor()."


def test_sparse_logging_is_said(tmp_path, capsys):
    write_events(tmp_path, {"loss": [(50 * i, 1.0 / (i + 1)) for i in range(30)]})
    main([str(make_old(tmp_path))])
    assert "every 50 steps: a spike in between is not seen" in " ".join(capsys.readouterr().out.split())


def test_findings_of_the_run_itself_are_shown_and_count(tmp_path, capsys):
    run = healthy(tmp_path)
    append_finding(run, Finding("clip-severe", "warning", "clipped hard.", {}, "max_norm=1", "GradClipMonitor", 120))
    assert main([str(run)]) == WARNING
    shown = capsys.readouterr().out
    assert "WARNING clip-severe   step 120   (the run said)" in shown
    assert "try: max_norm=1" in shown


def test_what_is_muted_is_not_told(tmp_path, capsys):
    assert main([str(at_chance(tmp_path)), "--mute", "contrastive-at-chance,plateau,not-learning"]) == HEALTHY
    assert "contrastive-at-chance" not in capsys.readouterr().out


def test_a_warning_may_be_let_pass(tmp_path):
    run = healthy(tmp_path)
    append_finding(run, Finding("clip-severe", "warning", "clipped hard."))
    assert main([str(run), "--fail-on", "critical"]) == HEALTHY
    assert main([str(run), "--fail-on", "warning"]) == WARNING


USAGE_ERRORS = {
    "nothing": ([], "required"),
    "unknown-option": (["LOGS", "--jsn", "x"], "unrecognized arguments"),
    "unknown-rule": (["LOGS", "--mute", "graph-emty"], "Did you mean 'graph-empty'"),
    "unknown-role": (["LOGS", "--tags", "los=train_loss"], "Did you mean 'loss'"),
    "no-role": (["LOGS", "--tags", "train_loss"], "ROLE=TAG is wanted"),
    "unknown-tag": (["LOGS", "--tags", "loss=train_los"], "Did you mean 'train_loss'"),
    "unknown-severity": (["LOGS", "--fail-on", "info"], "invalid choice"),
    "json-into-nothing": (["LOGS", "--json", "/dev/null/x/y.json"], "cannot be written"),
}


@pytest.mark.parametrize("case", USAGE_ERRORS)
def test_a_mistake_in_what_was_asked_is_told_in_one_line(tmp_path, capsys, case):
    arguments, message = USAGE_ERRORS[case]
    run = str(healthy(tmp_path))
    assert main([run if argument == "LOGS" else argument for argument in arguments]) == USAGE
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_an_interrupt_is_told_in_one_line(tmp_path, capsys, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("stablelit.doctor.door.judge", interrupt)
    assert main([str(healthy(tmp_path))]) == INTERRUPTED
    assert capsys.readouterr().err == "Interrupted: no verdict.\n"


def test_an_unknown_tag_lists_what_is_there(tmp_path, capsys):
    main([str(healthy(tmp_path)), "--tags", "kl=nothing"])
    assert "It has: lr-Adam, train_loss, val_loss" in capsys.readouterr().err


UNREADABLE_PLACES = {
    "missing": lambda path: path / "nowhere",
    "no-logs": lambda path: path,
    "empty-events": lambda path: _file(path, "events.out.tfevents.1.h", b""),
    "rubbish": lambda path: _file(path, "metrics.csv", bytes(range(256))),
    "a-picture": lambda path: _file(path, "a.png", b"x") / "a.png",
    "no-loss": lambda path: write_csv(path, [{"step": s, "accuracy": 0.5} for s in range(9)]),
    "two-losses": lambda path: write_csv(path, [{"step": s, "g_loss": 0.5, "d_loss": 0.7} for s in range(9)]),
}


def _file(directory: Path, name: str, held: bytes) -> Path:
    (directory / name).write_bytes(held)
    return directory


@pytest.mark.parametrize("case", UNREADABLE_PLACES)
def test_what_cannot_be_judged_leaves_with_three(tmp_path, capsys, case):
    assert main([str(UNREADABLE_PLACES[case](tmp_path))]) == UNREADABLE
    shown = capsys.readouterr().out
    assert "UNREADABLE" in shown
    assert shown.splitlines()[-1] == "unreadable        exit 3"


def test_without_a_loss_the_tags_and_what_to_say_are_given(tmp_path, capsys):
    main([str(UNREADABLE_PLACES["two-losses"](tmp_path))])
    shown = " ".join(capsys.readouterr().out.split())
    assert "several may be the training loss (d_loss, g_loss). Say which: --tags loss=d_loss." in shown


def test_a_tag_that_is_given_is_taken(tmp_path, capsys):
    run = UNREADABLE_PLACES["two-losses"](tmp_path)
    assert main([str(run), "--tags", "loss=g_loss"]) != UNREADABLE
    assert "loss=g_loss" in capsys.readouterr().out


def test_one_point_is_no_fault(tmp_path):
    assert main([str(write_csv(tmp_path, [{"step": 0, "loss": 2.0}]))]) == HEALTHY


def test_several_runs_give_a_table_with_the_worst_first(tmp_path, capsys):
    healthy(tmp_path / "version_0")
    at_chance(tmp_path / "version_1")
    _file(tmp_path / "version_0", "notes.txt", b"")
    (tmp_path / "version_2").mkdir()
    _file(tmp_path / "version_2", "metrics.csv", b"")
    write_lines(tmp_path / "version_3", [{"epoch": e, "step": e, "accuracy": 0.5} for e in range(5)])
    assert main([str(tmp_path)]) == UNREADABLE
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("CRITICAL    contrastive-at-chance")
    assert lines[1].endswith("version_1")
    assert [line.split()[0] for line in lines[1:5]] == ["CRITICAL", "UNREADABLE", "UNREADABLE", "healthy"]
    assert lines[-1] == "4 runs: 1 critical, 0 warning, 2 unreadable, 1 healthy        exit 3"


def test_a_directory_named_twice_is_judged_once(tmp_path, capsys):
    run = str(healthy(tmp_path))
    main([run, run])
    assert "399 steps" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("codes", "fail_on", "expected"),
    [
        ((0, 0), "warning", 0),
        ((0, 1), "warning", 1),
        ((0, 1), "critical", 0),
        ((2, 1), "critical", 2),
        ((2, 3), "warning", 3),
    ],
    ids=str,
)
def test_of_several_the_worst_counts(codes, fail_on, expected):
    made = {
        0: LogVerdict(Path("a")),
        1: LogVerdict(Path("a"), findings=(Finding("x", "warning", "."),)),
        2: LogVerdict(Path("a"), findings=(Finding("x", "warning", "."), Finding("y", "critical", "."))),
        3: LogVerdict(Path("a"), problem="unreadable"),
    }
    assert exit_code([made[code] for code in codes], fail_on) == expected


def test_json_alone_is_what_is_printed(tmp_path, capsys):
    assert main([str(at_chance(tmp_path)), "--json", "-"]) == CRITICAL
    held = json.loads(capsys.readouterr().out)
    assert held["schema"] == "stablelit.doctor/1"
    assert held["exit_code"] == 2
    (run,) = held["runs"]
    assert run["verdict"] == "critical"
    finding = run["findings"][0]
    assert finding["name"] == "contrastive-at-chance"
    assert finding["part"] == "primary"
    assert finding["evidence"]["chance"] == pytest.approx(math.log(63))
    assert run["tags"] == {"loss": "train_loss"}


def test_json_has_no_number_that_json_lacks(tmp_path, capsys):
    write_csv(tmp_path, [{"step": s, "loss": "nan" if s > 50 else 1.0} for s in range(100)])
    main([str(tmp_path), "--json", "-"])
    text = capsys.readouterr().out

    def refuse(name):
        raise AssertionError(name)

    assert json.loads(text, parse_constant=refuse)["runs"][0]["last_loss"] == "nan"


def test_a_run_that_is_still_written_to_is_judged_as_such(tmp_path, capsys):
    write_events(tmp_path, {"loss": [(s, 1.0 / (s + 1)) for s in range(100)]})
    main([str(tmp_path)])
    assert "judged as a run that goes on" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_the_door_opens_from_a_shell_without_lightning_or_torch(tmp_path):
    code = (
        "import sys; from stablelit.doctor.door import main; code = main(sys.argv[1:]);"
        "assert not {'lightning', 'torch'} & {*sys.modules}, 'seconds for nothing'; sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(healthy(tmp_path))], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
