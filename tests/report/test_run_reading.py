from __future__ import annotations

import json
import os
import time

import pytest

from stablelit.doctor.readers import Unreadable
from stablelit.report.run_reading import find_records, read_record
from tests.report.made_runs import finding, line, make_picture, make_run


def test_a_run_of_ours_is_read_whole(tmp_path):
    run = make_run(tmp_path / "run", 12, findings=[finding()])
    make_picture(run / "figures" / "test" / "jets.png")
    record = read_record(run)
    assert (record.name, record.status, record.family) == ("toy", "finished", "jets")
    assert (record.metric, record.mode, record.metric_is_guessed) == ("val/neg_elbo", "min", False)
    assert record.best == line(11)["val/neg_elbo"]
    assert record.best_epoch == 11
    assert record.results[1] == "test of the best checkpoint"
    assert record.settings["data.seed"] == 0  # a reference is what it refers to
    assert [f.name for f in record.findings] == ["cap-ineffective"]
    assert [p.name for p in record.pictures] == ["jets.png"]
    assert record.overrides == ["+experiment=toy", "seed=0"]
    assert record.remarks == []


def test_curves_are_over_epochs_and_a_step_lies_in_the_epoch_that_takes_it(tmp_path):
    curves = read_record(make_run(tmp_path / "run", 12)).curves
    assert curves.axis == "epoch"
    loss = curves.by_name["val/loss"]
    assert loss.steps.tolist() == list(range(12))
    assert loss.values.tolist() == [line(epoch)["val/loss"] for epoch in range(12)]
    # epoch e ends at step 10 (e + 1)
    assert [curves.at_step(step) for step in (0, 10, 11, 35, 120, 999)] == [0, 0, 1, 3, 11, 11]


def test_lines_that_a_kill_has_cut_are_left_out_and_counted(tmp_path):
    run = make_run(tmp_path / "run", 5, findings=[finding()])
    with (run / "history.jsonl").open("a") as file:
        file.write('{"epoch": 5, "step": 60, "val/lo')
    with (run / "findings.jsonl").open("a") as file:
        file.write('{"name": "half\n[1]\n{"name": 3}\n')
    record = read_record(run)
    assert len(record.curves.by_name["val/loss"]) == 5
    assert record.curves.remarks == ["history.jsonl: 1 lines that are not JSON were left out."]
    assert len(record.findings) == 1
    assert record.remarks == ["findings.jsonl: 3 lines that are no findings were left out."]


def test_a_run_that_goes_on_and_one_that_was_broken_off_are_told_apart(tmp_path):
    run = make_run(tmp_path / "run", 4, summary={})
    assert read_record(run).status == "running"
    assert read_record(run).best == line(3)["val/neg_elbo"]
    long_ago = time.time() - 3600
    os.utime(run / "history.jsonl", (long_ago, long_ago))
    assert read_record(run).status == "broken off"


def test_a_resumed_run_is_running_although_its_first_part_has_a_summary(tmp_path):
    run = make_run(tmp_path / "run", 4)
    before = time.time() - 50
    os.utime(run / "summary.json", (before, before))
    assert read_record(run).status == "finished", "a copy may have its files in any order of time"
    with (run / "history.jsonl").open("a") as file:
        file.write(json.dumps(line(4)) + "\n")
    assert read_record(run).status == "running"


def test_a_run_without_history_is_one(tmp_path):
    run = make_run(tmp_path / "run", 4)
    (run / "history.jsonl").unlink()
    assert find_records(run) == [run]
    record = read_record(run)
    assert record.curves.by_name == {}
    assert record.curves.remarks == ["no history: nothing was logged."]
    assert record.best == line(3)["val/neg_elbo"]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("summary.json", "{"), ("summary.json", "[1, 2]"), ("summary.json", "null"), ("summary.json", "[" * 5000),
        ("config.yaml", "a: [b"), ("config.yaml", "- 1"), ("config.yaml", "!!python/object/apply:os.system ['true']"),
        ("overrides.yaml", "- 1"), ("overrides.yaml", "a: [b"), ("overrides.yaml", "overrides: 3"),
        ("findings.jsonl", "\x00\n"), ("findings.jsonl", '{"name": "a", "severity": "loud", "message": ""}\n'),
        ("history.jsonl", ""), ("history.jsonl", "{}\n"), ("history.jsonl", '{"epoch": "nan", "step": 1}\n'),
    ],
)  # fmt: skip
def test_a_file_that_is_not_what_it_should_be_takes_no_other_with_it(tmp_path, file, text):
    run = make_run(tmp_path / "run", 4, findings=[finding()])
    (run / file).write_text(text)
    record = read_record(run)
    assert record.name in ("toy", "run")
    assert record.curves.axis
    assert record.results[0] or file == "summary.json"


def test_a_summary_whose_parts_are_of_another_kind_is_read_as_far_as_it_goes(tmp_path):
    odd = {"status": 3, "objective": [1], "best": "x", "test": {"a": "nan", "b": None, "c": [1], "d": True, "e": 1}}
    record = read_record(make_run(tmp_path / "run", 4, summary=odd))
    assert record.metric == "val/neg_elbo"
    assert set(record.results[0]) == {"a", "e"}


def test_a_metrics_csv_of_anybody_is_a_run(tmp_path):
    log = tmp_path / "lightning_logs" / "version_0"
    log.mkdir(parents=True)
    rows = ["epoch,step,train_loss,val_loss"]
    rows += [f"{s // 10},{s},{2 - s / 100}," + (f"{2.1 - s / 100}" if s % 10 == 9 else "") for s in range(50)]
    (log / "metrics.csv").write_text("\n".join(rows))
    assert find_records(tmp_path) == [log]
    record = read_record(log)
    assert record.status == "unknown"
    assert (record.metric, record.metric_is_guessed) == ("val_loss", True)
    assert record.best == pytest.approx(2.1 - 0.49)
    assert len(record.curves.by_name["train_loss"]) == 50


def test_a_directory_that_is_no_run_is_refused_with_what_was_looked_for(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(Unreadable, match=r"no logs here or below\. Looked for .*history\.jsonl"):
        find_records(tmp_path)
    with pytest.raises(Unreadable, match="no such directory"):
        find_records(tmp_path / "nowhere")


def test_values_that_json_has_no_number_for_are_read(tmp_path):
    def spoil(made):
        return {**made, "val/loss": "nan"} if made["epoch"] > 2 else made

    record = read_record(make_run(tmp_path / "run", 6, change=spoil))
    values = record.curves.by_name["val/loss"].values
    assert [value != value for value in values] == [False] * 3 + [True] * 3
    json.dumps(record.summary)
