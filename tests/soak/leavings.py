"""What a run has left behind, as plain values that compare, without what a clock or a directory's name puts in."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

Leavings = dict[str, Any]
"""From a name (`last.ckpt: state_dict.encoder.weight`, `history: 2: val/loss`) to a value as text."""


def leavings(run_dir: Path) -> Leavings:
    """Everything that two runs which are the same run must have in common."""
    found: Leavings = {}
    for read in (_checkpoints, _history, _summary, _events, _findings, _files):
        found.update(read(run_dir))
    return found


def differences(whole: Leavings, other: Leavings) -> list[str]:
    """One line for each name of which one has no value, or another."""
    lines = []
    for name in sorted(whole.keys() | other.keys()):
        a, b = (side.get(name, "(absent)") for side in (whole, other))
        if a != b:
            lines.append(f"{name}: {a} became {b}")
    return lines


def batches(log: Path) -> dict[tuple[int, int], set[str]]:
    """What was trained on as each batch of each epoch; more than one digest says that a resume gave it others."""
    seen: dict[tuple[int, int], set[str]] = {}
    for line in log.read_text().splitlines():
        try:
            epoch, index, _, digest = json.loads(line)
        except ValueError:
            continue  # the child died as it wrote
        seen.setdefault((epoch, index), set()).add(digest)
    return seen


def flat(value: Any, name: str, text: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    """The leaves of a checkpoint with their paths; tensors bit by bit."""
    if isinstance(value, dict):
        kept = {key: one for key, one in value.items() if not measured(str(key))}
        yield f"{name}{{}}", str([text(str(k)) for k in kept])
        for key, one in kept.items():
            yield from flat(one, f"{name}.{text(str(key))}", text)
    elif isinstance(value, list | tuple):
        value = [one for one in value if not (isinstance(one, dict) and one.get("source") == TIMES)]
        yield f"{name}[]", str(len(value))
        for index, one in enumerate(value):
            yield from flat(one, f"{name}[{index}]", text)
    elif isinstance(value, torch.Tensor):
        raw = value.detach().contiguous().flatten()
        bits = raw.view(torch.uint8).numpy().tobytes() if raw.numel() else b""
        shown = f" {raw.tolist()}" if raw.numel() < 4 else ""
        yield name, f"{value.dtype} {tuple(value.shape)} {hashlib.sha256(bits).hexdigest()[:12]}{shown}"
    else:
        yield name, text(repr(value))


def measured(name: str) -> bool:
    """Whether a value of that name is a time or a share of time: those are another run's, and rightly differ."""
    return name.removeprefix("logged/").startswith("perf/") or "seconds" in name


def _checkpoints(run_dir: Path) -> Iterator[tuple[str, str]]:
    def text(value: str) -> str:
        return value.replace(str(run_dir), "RUN")

    for path in sorted((run_dir / "checkpoints").glob("*.ckpt")):
        for name, value in flat(torch.load(path, weights_only=True), f"{path.name}: ", text):
            if not any(pattern in name for pattern in MAY_DIFFER):
                yield name, value


MAY_DIFFER = (
    # how long the doctor's own looks have taken, by which it spaces them: it holds itself to a share of the time
    ".TrainingDoctor[].examination.clock.",
    # of the best score so far ModelCheckpoint takes up its file and its value, and not this, which is set at the next
    ".current_score",
    # where the last validation stood: the next one begins anew, and Lightning empties it after its check of validation
    ".val_loop.batch_progress.",
    # a run that went on inside this epoch takes the plateau schedule's step for Lightning
    ".stablelit_logged.owes_a_step",
    # its verdict is on how the seconds of this process were spent, from the eleventh batch of the process on
    ".InputPipelineMonitor.",
)
"""Parts of a checkpoint that may differ, each with its reason."""


TIMES = "InputPipelineMonitor"
"""Whose findings are about seconds, also where padding is what they went into."""


def _history(run_dir: Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate((run_dir / "history.jsonl").read_text().splitlines()):
        for name, value in json.loads(line).items():
            if not measured(name):
                yield f"history: {number}: {name}", repr(value)


def _summary(run_dir: Path) -> Iterator[tuple[str, str]]:
    summary = json.loads((run_dir / "summary.json").read_text())
    for part in ("status", "epochs", "steps", "objective", "checkpoints"):
        yield f"summary: {part}", repr(summary[part])
    for part in ("final", "best", "test"):
        for name, value in summary[part].items():
            if not measured(name):
                yield f"summary: {part}: {name}", repr(value)


def _events(run_dir: Path) -> Iterator[tuple[str, str]]:
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    values: dict[str, list[str]] = {}
    for path in sorted(run_dir.glob("events.out.tfevents.*"), key=_written):
        for event in LegacyEventFileLoader(str(path)).Load():
            if event.session_log.status == event.session_log.START:
                # as TensorBoard: what was there from this step on belongs to the part that was killed
                values = {name: kept for name, kept in values.items() if int(name.rpartition(" ")[2]) < event.step}
            for value in event.summary.value:
                if value.HasField("simple_value") and not measured(value.tag):
                    number = value.simple_value
                    shown = "nan" if math.isnan(number) else repr(number)
                    values.setdefault(f"events: {value.tag} at {event.step}", []).append(shown)
    for name, seen in values.items():
        # one point that stands twice is drawn once
        yield name, ", ".join(dict.fromkeys(seen))


def _written(path: Path) -> tuple[int, int]:
    """When a file of events was begun: `events.out.tfevents.<seconds>.<host>.<process>.<number>`."""
    parts = path.name.split(".")
    return int(parts[3]), int(parts[-1])


def _findings(run_dir: Path) -> Iterator[tuple[str, str]]:
    path = run_dir / "findings.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    kept = [told for told in map(json.loads, lines) if told.get("source") != TIMES]
    for number, told in enumerate(kept):
        yield f"findings: {number}", f"{told.get('name')} at {told.get('step')}: {told.get('message')}"


def _files(run_dir: Path) -> Iterator[tuple[str, str]]:
    """Samples, pictures, parts and graphs: byte by byte, but for torch's, whose archives name the file."""
    told_elsewhere = {".ckpt", ".jsonl", ".json", ".yaml"}
    for path in sorted(p for p in run_dir.rglob("*") if p.is_file()):
        name = path.relative_to(run_dir).as_posix()
        if path.suffix == ".pt":
            yield from flat(torch.load(path, weights_only=True), f"{name}: ", str)
        elif path.name == "splits.json" or (path.suffix not in told_elsewhere and "tfevents" not in name):
            yield f"file: {name}", hashlib.sha256(path.read_bytes()).hexdigest()[:12]
