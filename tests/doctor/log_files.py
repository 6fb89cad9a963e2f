"""Logs as other people's tools write them, for tests."""

from __future__ import annotations

import csv
import json
import os
import time
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter


def write_events(directory: Path, scalars: dict[str, list[tuple[float, float]]], stamp: int = 1000) -> Path:
    """An event file; scalars are (step, value) by tag, written in the order of tags."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"events.out.tfevents.{stamp}.host.1.0"
    with path.open("wb") as file:
        writer = RecordWriter(file)
        writer.write(Event(wall_time=stamp, file_version="brain.Event:2").SerializeToString())
        for tag, points in scalars.items():
            for step, value in points:
                event = Event(wall_time=stamp, step=int(step))
                event.summary.value.add(tag=tag, simple_value=value)
                writer.write(event.SerializeToString())
        writer.flush()
    return path


def write_csv(directory: Path, rows: list[dict[str, object]], name: str = "metrics.csv", **hparams: object) -> Path:
    """A table as CSVLogger writes it: all columns, empty where a row has no value; and hparams.yaml beside it."""
    directory.mkdir(parents=True, exist_ok=True)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with (directory / name).open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    if hparams:
        (directory / "hparams.yaml").write_text("".join(f"{key}: {value}\n" for key, value in hparams.items()))
    return make_old(directory)


def write_lines(directory: Path, lines: list[dict[str, object]], name: str = "history.jsonl") -> Path:
    """An object a line."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return make_old(directory)


def make_old(directory: Path) -> Path:
    """As if the run had ended an hour ago."""
    before = time.time() - 3600
    for path in directory.iterdir():
        if path.is_file():
            os.utime(path, (before, before))
    return directory
