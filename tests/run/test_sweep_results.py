from __future__ import annotations

import csv
import json
import math
import statistics
from pathlib import Path

import pytest
from PIL import Image

from stablelit.errors import ConfigurationError
from stablelit.run.command_line import CommandLine
from stablelit.run.compose import SavedCommand
from stablelit.run.sweep.picture import write_picture
from stablelit.run.sweep.ranking import by_setting, print_ranking, short_names
from stablelit.run.sweep.record import SweepRecord, read_sweep, write_sweep
from stablelit.run.sweep.results import JobResult, read_results, write_table
from stablelit.run.sweep.resumption import resumed_sweep

COMMAND = SavedCommand("train", None, ("+experiment=tiny", "seed=0,1,2", "allow_targets=[a.b]"))
RECORD = SweepRecord(
    COMMAND, ("lr", "seed"), "val/loss", "min", tuple((f"lr={lr}", f"seed={s}") for lr in (1, 2) for s in (0, 1, 2))
)


def job(directory: Path, number: int, status: str | None = "finished", best: object = 1.0, **more: object) -> None:
    place = directory / str(number)
    place.mkdir(parents=True)
    (place / "config.yaml").write_text("{}")
    if status:
        entries = {"status": status, "seconds": 2.5, "objective": {"metric": "val/loss", "best": best}, **more}
        (place / "summary.json").write_text(json.dumps(entries))


def test_the_table_has_a_line_for_every_job_also_for_those_without_an_end(tmp_path):
    job(tmp_path, 0, test={"test/loss": 3.0, "test/loss_step": 1.0}, best=1.5, final={"val/loss": "nan"})
    job(tmp_path, 1, "diverged", None, error="it\nran away")
    job(tmp_path, 2, None)
    write_table(tmp_path, RECORD, over=True)
    with (tmp_path / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [r["status"] for r in rows] == ["finished", "diverged", "interrupted", *["not started"] * 3]
    assert [(r["lr"], r["seed"]) for r in rows] == [(str(lr), str(s)) for lr in (1, 2) for s in (0, 1, 2)]
    first = rows[0]
    assert (first["objective (val/loss, min)"], first["test/loss"], first["seconds"]) == ("1.5", "3.0", "2.5")
    assert "test/loss_step" not in first
    assert "final:val/loss" not in first
    assert rows[1]["reason"] == "it ran away"
    assert [r.status for r in read_results(tmp_path, RECORD, over=False)][2] == "running"
    assert not list(tmp_path.glob(".*"))


def test_a_summary_that_cannot_be_read_is_no_result(tmp_path):
    job(tmp_path, 0)
    (tmp_path / "0/summary.json").write_text('{"status": "fin')
    assert read_results(tmp_path, RECORD)[0].status == "interrupted"


def results(values: dict[tuple[str, str], float | None]) -> list[JobResult]:
    return [
        JobResult(i, Path(str(i)), "finished" if v is not None else "failed", "", {"lr": lr, "seed": s}, v, 1.0)
        for i, ((lr, s), v) in enumerate(values.items())
    ]


SEEDS = {("1", "0"): 5.0, ("1", "1"): 1.0, ("1", "2"): 9.0, ("2", "0"): 3.0, ("2", "1"): None, ("2", "2"): 4.0}


def test_settings_are_ranked_by_the_median_of_their_seeds():
    best, other = by_setting(results(SEEDS), RECORD)
    assert (best.values, best.median) == ((("lr", "2"),), statistics.median([3.0, 4.0]))
    assert (other.values, other.median) == ((("lr", "1"),), 5.0)
    most = SweepRecord(COMMAND, ("lr", "seed"), "val/loss", "max", RECORD.jobs)
    assert [s.median for s in by_setting(results(SEEDS), most)] == [5.0, 3.5]


def test_an_infinite_result_is_no_median():
    (only,) = by_setting(results({("1", "0"): math.inf, ("1", "1"): 2.0}), RECORD)
    assert only.median == 2.0


def test_the_printed_table_has_medians_and_what_failed(capsys):
    print_ranking(results(SEEDS), RECORD)
    printed = capsys.readouterr().out
    assert printed.index("3, 4, 5") < printed.index("0, 1, 2")
    assert "failed" in printed


@pytest.mark.parametrize(
    ("keys", "short"),
    [
        (["model.lr"], ["lr"]),
        (["model.lr", "optimizer.lr"], ["model.lr", "optimizer.lr"]),
        (["a.b.c", "c"], ["b.c", "c"]),
        (["+model/noise", "seed"], ["model/noise", "seed"]),
    ],
)
def test_names_are_as_short_as_they_can_be_told_apart(keys, short):
    assert list(short_names(keys).values()) == short


VALUES = {
    "decades": [{"lr": f"1e-{i}", "seed": s} for i in (1, 3, 5) for s in "01"],
    "names": [{"model/noise": n} for n in ("cosine", "linear", "[rotate,reflect]")],
    "map": [{"a": x, "b": y} for x in "123" for y in ("0.1", "10")],
    "many": [{"a": str(i), "b": "xy"[i % 2], "c": str(i * 0.37)} for i in range(12)],
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", VALUES)
def test_a_picture_of_every_kind_of_sweep(kind, tmp_path):
    rows = VALUES[kind]
    done = [JobResult(i, tmp_path, "finished", "", v, 1.0 + i, 1.0) for i, v in enumerate(rows)]
    done[1].status, done[1].objective = "failed", None
    record = SweepRecord(COMMAND, tuple(rows[0]), "val/loss", "min", ())
    assert write_picture(done, record, tmp_path / "summary.png")
    colours = len(set(Image.open(tmp_path / "summary.png").convert("RGB").resize((300, 200)).tobytes()))
    assert colours > 50


def test_nothing_is_drawn_of_one_result(tmp_path):
    assert not write_picture(results({("1", "0"): 1.0, ("2", "0"): None}), RECORD, tmp_path / "summary.png")
    assert not list(tmp_path.iterdir())


def test_a_sweep_goes_on_with_what_was_typed_and_not_with_its_right_to_name_targets(tmp_path):
    write_sweep(tmp_path, RECORD)
    assert read_sweep(tmp_path) == RECORD
    line = resumed_sweep(CommandLine.parse([f"resume={tmp_path}", "retry_failed=true"]))
    words = line.words()
    assert words[:3] == ["-m", "--config-name", "train"]
    assert words[3:] == ["+experiment=tiny", "seed=0,1,2", "retry_failed=true", f"hydra.sweep.dir='{tmp_path}'"]


def test_a_sweep_that_goes_on_takes_no_other_jobs(tmp_path):
    write_sweep(tmp_path, RECORD)
    with pytest.raises(ConfigurationError, match="seed=7.*<job>"):
        resumed_sweep(CommandLine.parse([f"resume={tmp_path}", "seed=7"]))


def test_what_is_no_sweep_is_left_to_runs(tmp_path):
    assert resumed_sweep(CommandLine.parse([f"resume={tmp_path}"])) is None
    with pytest.raises(ConfigurationError, match="no sweep's directory"):
        resumed_sweep(CommandLine.parse(["-m", f"resume={tmp_path}"]))


def test_a_damaged_record_is_told(tmp_path):
    (tmp_path / "sweep.json").write_text('{"command": 3}')
    with pytest.raises(ConfigurationError, match="sweep.json"):
        read_sweep(tmp_path)
