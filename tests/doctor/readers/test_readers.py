"""Files as they are and as they ought not to be: what can be read is, and what cannot be is said."""

from __future__ import annotations

import json
import math
import os
import struct
from pathlib import Path

import pytest

from stablelit.doctor.readers import Unreadable, find_runs, read_run
from stablelit.doctor.readers.run_log import Points, RunLog
from stablelit.doctor.readers.yaml_settings import read_yaml_settings
from tests.doctor.log_files import write_csv, write_events, write_lines

FALLING = [(step, 10.0 / step) for step in range(1, 201)]


def values(log: RunLog, tag: str) -> list[float]:
    return log.curves()[tag].values.tolist()


def steps(log: RunLog, tag: str) -> list[float]:
    return log.curves()[tag].steps.tolist()


@pytest.mark.slow
def test_every_scalar_of_an_event_file_is_read(tmp_path):
    points = [(step, math.sin(step)) for step in range(12_000)]  # TensorBoard itself keeps 10,000
    write_events(tmp_path, {"train/loss": points})
    log = read_run(tmp_path)
    assert len(values(log, "train/loss")) == 12_000
    assert values(log, "train/loss")[1] == pytest.approx(math.sin(1), abs=1e-7)
    assert log.axis == "step"


def test_our_reading_is_that_of_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    write_events(tmp_path, {"a": FALLING, "b/c": [(3, -1.0), (9, float("inf"))]})
    theirs = EventAccumulator(str(tmp_path), size_guidance={"scalars": 0}).Reload()
    log = read_run(tmp_path)
    for tag in ("a", "b/c"):
        assert list(zip(steps(log, tag), values(log, tag), strict=True)) == [
            (event.step, event.value) for event in theirs.Scalars(tag)
        ]


def test_scalars_that_are_tensors_are_read_too(tmp_path):
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    with (tmp_path / "events.out.tfevents.7.h").open("wb") as file:
        writer = RecordWriter(file)
        for step, written in enumerate(("float_val", "tensor_content", "double_val")):
            event = Event(step=step)
            value = event.summary.value.add(tag="loss")
            value.metadata.plugin_data.plugin_name = "scalars"
            value.tensor.dtype = 2 if written == "double_val" else 1
            held = struct.pack("<f", step + 0.5) if written == "tensor_content" else [step + 0.5]
            if written == "tensor_content":
                value.tensor.tensor_content = held
            else:
                getattr(value.tensor, written).extend(held)
            writer.write(event.SerializeToString())
        text = Event(step=5)
        note = text.summary.value.add(tag="note")
        note.metadata.plugin_data.plugin_name = "text"
        note.tensor.string_val.append(b"words")
        writer.write(text.SerializeToString())
    log = read_run(tmp_path)
    assert values(log, "loss") == [0.5, 1.5, 2.5]
    assert "note" not in log.points


@pytest.mark.parametrize("cut", [1, 7, 25])
def test_an_event_file_that_is_cut_off_is_read_up_to_there(tmp_path, cut):
    path = write_events(tmp_path, {"loss": FALLING})
    path.write_bytes(path.read_bytes()[:-cut])
    log = read_run(tmp_path)
    assert len(values(log, "loss")) == 199
    assert any("cut off" in remark for remark in log.remarks)


def test_rubbish_in_the_middle_of_an_event_file_ends_the_reading(tmp_path):
    path = write_events(tmp_path, {"loss": FALLING})
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2] + b"\xff" * 4000)
    log = read_run(tmp_path)
    assert 80 <= len(values(log, "loss")) <= 120
    assert any("read up to there" in remark for remark in log.remarks)


def test_a_resumed_run_counts_from_where_it_went_on(tmp_path):
    write_events(tmp_path, {"loss": [(step, 1.0) for step in range(100)]}, stamp=1000)
    write_events(tmp_path, {"loss": [(step, 2.0) for step in range(60, 90)]}, stamp=2000)
    log = read_run(tmp_path)
    assert steps(log, "loss") == list(range(90))
    assert values(log, "loss") == [1.0] * 60 + [2.0] * 30
    assert any("again after a restart" in remark for remark in log.remarks)


def test_files_are_joined_in_the_order_of_their_times_and_not_of_their_names(tmp_path):
    write_events(tmp_path, {"loss": [(step, 2.0) for step in range(5, 10)]}, stamp=1000)
    write_events(tmp_path, {"loss": [(step, 1.0) for step in range(7)]}, stamp=999)
    assert values(read_run(tmp_path), "loss") == [1.0] * 5 + [2.0] * 5


def test_rows_of_training_and_validation_are_told_apart(tmp_path):
    rows = [{"epoch": 0, "step": step, "train_loss": 1.0 / (step + 1)} for step in range(5)]
    rows.append({"epoch": 0, "step": 4, "val_loss": 0.5})
    log = read_run(write_csv(tmp_path, rows))
    assert len(values(log, "train_loss")) == 5
    assert steps(log, "val_loss") == [4.0]


def test_what_is_not_finite_stays_so_in_a_table(tmp_path):
    rows = [{"step": step, "loss": text} for step, text in enumerate(["1.0", "nan", "inf", "-inf", "NaN", "Infinity"])]
    held = values(read_run(write_csv(tmp_path, rows)), "loss")
    assert [str(value) for value in held] == ["1.0", "nan", "inf", "-inf", "nan", "inf"]


def test_what_is_not_finite_stays_so_in_history(tmp_path):
    lines = [{"epoch": e, "step": 10 * e, "train/loss": v} for e, v in enumerate([1.0, "nan", "inf", "-inf"])]
    log = read_run(write_lines(tmp_path, lines))
    assert [str(value) for value in values(log, "train/loss")] == ["1.0", "nan", "inf", "-inf"]
    assert steps(log, "train/loss") == [0.0, 10.0, 20.0, 30.0]


def test_half_a_line_of_history_is_left_out_and_said_so(tmp_path):
    write_lines(tmp_path, [{"epoch": 0, "step": 5, "loss": 1.0}])
    with (tmp_path / "history.jsonl").open("a") as file:
        file.write('{"epoch": 1, "st')
    log = read_run(tmp_path)
    assert values(log, "loss") == [1.0]
    assert any("1 lines that are not JSON" in remark for remark in log.remarks)


def test_objects_in_a_line_are_flattened(tmp_path):
    log = read_run(write_lines(tmp_path, [{"epoch": 4, "train_loss_components": {"recon": 0.5}}]))
    assert values(log, "train_loss_components/recon") == [0.5]
    assert log.axis == "epoch"


def test_a_table_without_steps_has_epochs(tmp_path):
    log = read_run(write_csv(tmp_path, [{"epoch": e, "loss": 1.0} for e in range(4)]))
    assert log.axis == "epoch"
    assert steps(log, "loss") == [0.0, 1.0, 2.0, 3.0]


def test_words_in_a_table_are_counted(tmp_path):
    log = read_run(write_csv(tmp_path, [{"step": s, "loss": 1.0, "note": "fine"} for s in range(4)]))
    assert any("4 cells that hold no number" in remark for remark in log.remarks)


def test_a_header_that_comes_again_is_no_row(tmp_path):
    write_csv(tmp_path, [{"step": 0, "loss": 3.0}])
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("step,loss\n1,2.0\n")
    log = read_run(tmp_path)
    assert values(log, "loss") == [3.0, 2.0]
    assert not log.remarks


def test_of_a_tag_in_two_places_the_finer_one_is_taken(tmp_path):
    write_lines(tmp_path, [{"epoch": e, "step": 50 * e, "loss": 9.0} for e in range(1, 5)])
    write_events(tmp_path, {"loss": FALLING})
    log = read_run(tmp_path)
    assert len(values(log, "loss")) == 200
    assert log.sources == ["events.out.tfevents.1000.host.1.0", "history.jsonl"]


def test_steps_win_over_epochs(tmp_path):
    write_lines(tmp_path, [{"epoch": e, "f1": 0.1} for e in range(400)])
    write_events(tmp_path, {"loss": FALLING})
    log = read_run(tmp_path)
    assert log.axis == "step"
    assert set(log.points) == {"loss"}


BAD = {
    "empty-table": ("metrics.csv", b"", "empty"),
    "header-only": ("metrics.csv", b"step,loss\n", "no row with a number"),
    "binary-table": ("metrics.csv", bytes(range(256)) * 20, "binary"),
    "words-only": ("metrics.csv", b"these are\nsome words\n", "no row with a number"),
    "empty-events": ("events.out.tfevents.1.h", b"", "empty file"),
    "binary-events": ("events.out.tfevents.1.h", b"\x89PNG" * 100, "no number was logged"),
    "empty-history": ("history.jsonl", b"", "empty file"),
    "list-history": ("history.jsonl", b"[1, 2]\n", "no line that is an object"),
    "binary-history": ("history.jsonl", bytes(range(128, 256)), "no line that is an object"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_read_says_why(tmp_path, case):
    name, held, message = BAD[case]
    (tmp_path / name).write_bytes(held)
    with pytest.raises(Unreadable, match=message):
        read_run(tmp_path)


def test_a_bad_file_beside_a_good_one_is_a_remark(tmp_path):
    write_events(tmp_path, {"loss": FALLING})
    (tmp_path / "metrics.csv").write_bytes(b"\0" * 100)
    log = read_run(tmp_path)
    assert len(values(log, "loss")) == 200
    assert any("binary" in remark for remark in log.remarks)


def test_findings_that_are_none_are_a_remark(tmp_path):
    write_events(tmp_path, {"loss": FALLING})
    (tmp_path / "findings.jsonl").write_text('{"what": 1}\n')
    log = read_run(tmp_path)
    assert log.findings == []
    assert any("findings.jsonl" in remark for remark in log.remarks)


def test_the_order_of_writing_is_the_axis_where_steps_are_none():
    points = Points()
    for epoch in range(20):
        for batch in range(10):
            points.add(batch, epoch + batch / 10)
    curve, remark = points.curve()
    assert len(curve) == 200
    assert curve.steps.tolist() == list(range(200))
    assert "fall back 19 times" in remark


def test_the_later_of_two_values_at_one_step_holds():
    points = Points([1.0, 2.0, 2.0, 3.0], [1.0, 5.0, 7.0, 9.0])
    assert points.curve()[0].values.tolist() == [1.0, 7.0, 9.0]


def test_several_restarts_leave_what_came_last():
    points = Points([0, 1, 2, 3, 4, 2, 3, 4, 5, 1, 2], [0, 1, 2, 3, 4, 12, 13, 14, 15, 21, 22])
    curve, _ = points.curve()
    assert curve.steps.tolist() == [0, 1, 2]
    assert curve.values.tolist() == [0, 21, 22]


def settings_of(tmp_path: Path, text: str) -> RunLog:
    log = RunLog(tmp_path)
    path = tmp_path / "hparams.yaml"
    path.write_text(text)
    read_yaml_settings(path, log)
    return log


def test_settings_are_flat_and_plain(tmp_path):
    text = "lr: 1e-3\nmodel:\n  latent_dim: 128\n  name: vae\ndata: {batch_size: 32}\nagain: ${data.batch_size}\n"
    held = settings_of(tmp_path, text).hyperparameters
    assert held == {"lr": 0.001, "model.latent_dim": 128, "model.name": "vae", "data.batch_size": 32, "again": 32}


def test_nothing_in_settings_is_executed(tmp_path):
    marker = tmp_path / "executed"
    text = (
        f"bad: !!python/object/apply:os.system ['touch {marker}']\n"
        "args: !!python/object:argparse.Namespace {batch_size: 16}\npair: !!python/tuple [1, 2]\n"
    )
    held = settings_of(tmp_path, text).hyperparameters
    assert held["args.batch_size"] == 16
    assert not marker.exists()


@pytest.mark.parametrize("text", ["a: [1\n", "\t- x", "&a [*a]", "? {b: c}: d\n"], ids=["open", "tab", "loop", "key"])
def test_settings_that_cannot_be_read_stop_nothing(tmp_path, text):
    assert settings_of(tmp_path, text).hyperparameters == {}


def test_a_run_is_found_wherever_it_is_and_in_natural_order(tmp_path):
    for version in (10, 2, 1):
        write_csv(tmp_path / "logs" / f"version_{version}", [{"step": 1, "loss": 1.0}])
    write_events(tmp_path / "logs" / "version_3", {"loss": FALLING})
    (tmp_path / "logs" / "checkpoints").mkdir()
    assert [run.name for run in find_runs(tmp_path)] == ["version_1", "version_2", "version_3", "version_10"]


def test_links_that_lead_in_a_circle_are_followed_once(tmp_path):
    run = write_csv(tmp_path / "a" / "run", [{"step": 1, "loss": 1.0}])
    (run / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    (tmp_path / "again").symlink_to(run, target_is_directory=True)
    assert len(list(find_runs(tmp_path))) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [("nothing", "no logs here"), ("missing", "no such directory"), ("picture", "a file that holds no logs")],
)
def test_where_no_runs_are_it_is_said(tmp_path, make, message):
    (tmp_path / "picture.png").write_bytes(b"x")
    (tmp_path / "nothing").mkdir()
    place = {"nothing": tmp_path / "nothing", "missing": tmp_path / "missing", "picture": tmp_path / "picture.png"}
    with pytest.raises(Unreadable, match=message):
        list(find_runs(place[make]))


def test_one_file_is_a_run_of_its_own(tmp_path):
    write_csv(tmp_path, [{"step": s, "loss": 1.0} for s in range(3)], name="progress.csv")
    write_lines(tmp_path, [{"epoch": 1, "step": 1, "other": 2.0}])
    assert set(read_run(next(find_runs(tmp_path / "progress.csv"))).points) == {"loss"}


def test_a_directory_that_may_not_be_entered_is_said(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(Unreadable, match="no permission to look into it"):
        list(find_runs(tmp_path))


def test_a_file_that_may_not_be_read_is_said(tmp_path, monkeypatch):
    write_csv(tmp_path, [{"step": 1, "loss": 1.0}])

    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(Unreadable, match="Permission denied"):
        read_run(tmp_path)


def test_a_summary_says_how_the_run_ended(tmp_path):
    write_events(tmp_path, {"loss": FALLING})
    (tmp_path / "summary.json").write_text(json.dumps({"status": "diverged"}))
    assert read_run(tmp_path).status == "diverged"


def test_brackets_in_brackets_and_numbers_that_no_float_holds_are_no_defect(tmp_path):
    lines = [json.dumps({"step": i, "train/loss": 1.0 / (i + 1)}) for i in range(20)]
    deep = '{"a": ' * 3000 + "1" + "}" * 3000
    nested = '{"step": 30, "m": ' + '{"n": ' * 40 + "1" + "}" * 41
    huge = '{"step": 31, "train/loss": 1%s}' % ("0" * 400)
    far = '{"step": Infinity, "train/loss": 1}'
    (tmp_path / "history.jsonl").write_text("\n".join([*lines, deep, "[" * 100_000, nested, huge, far]) + "\n")
    (tmp_path / "summary.json").write_text("[" * 100_000)
    (tmp_path / "findings.jsonl").write_text("[" * 100_000)
    log = read_run(tmp_path)
    assert values(log, "train/loss")[-1] == math.inf
    assert any("2 lines that are not JSON" in remark for remark in log.remarks)
    assert any("summary.json: not JSON" in remark for remark in log.remarks)
    assert any("findings.jsonl: " in remark for remark in log.remarks)


@pytest.mark.parametrize("tag", ["!!timestamp x", "!!int ''", "!!bool x", "!!float x", "!!set [a]"])
def test_a_value_that_is_not_what_its_tag_says_is_a_remark(tmp_path, tag):
    (tmp_path / "hparams.yaml").write_text(f"lr: 0.1\nx: {tag}\n")
    log = RunLog(tmp_path)
    read_yaml_settings(tmp_path / "hparams.yaml", log)
    assert "settings that cannot be read" in log.remarks[0]


def test_a_page_of_yaml_that_stands_for_a_billion_settings_is_not_read(tmp_path):
    levels = ["l0: &l0 {" + ", ".join(f"k{i}: 1" for i in range(9)) + "}"]
    levels += [f"l{n}: &l{n} {{" + ", ".join(f"k{i}: *l{n - 1}" for i in range(9)) + "}" for n in range(1, 10)]
    (tmp_path / "hparams.yaml").write_text("\n".join(levels))
    log = RunLog(tmp_path)
    read_yaml_settings(tmp_path / "hparams.yaml", log)
    assert log.hyperparameters == {}
    assert "more than 20000 settings" in log.remarks[0]


@pytest.mark.parametrize("length", [1 << 30, 1 << 31, (1 << 63) - 1, (1 << 64) - 1])
def test_a_record_that_claims_what_is_not_there_takes_no_memory(tmp_path, length):
    from tensorboard.summary.writer.record_writer import masked_crc32c

    path = write_events(tmp_path, {"train/loss": FALLING[:5]})
    head = struct.pack("<Q", length)
    path.write_bytes(path.read_bytes() + head + struct.pack("<I", masked_crc32c(head)) + b"x" * 100)
    log = read_run(tmp_path)
    assert len(values(log, "train/loss")) == 5
    assert "read up to there" in log.remarks[0]


@pytest.mark.parametrize("field", ["name", "message", "remedy", "source", "step"])
def test_a_finding_whose_words_are_none_is_left_out(tmp_path, field):
    write_lines(tmp_path, [{"step": i, "train/loss": 1.0} for i in range(5)])
    finding = {"name": "a", "severity": "warning", "message": "b", field: [1]}
    (tmp_path / "findings.jsonl").write_text(json.dumps(finding) + "\n")
    log = read_run(tmp_path)
    assert log.findings == []
    assert any(f"{field} is [1]" in remark for remark in log.remarks)
