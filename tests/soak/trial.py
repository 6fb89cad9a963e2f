"""One trial: a run is killed, perhaps again, resumed until it ends, and held against the run that nobody killed."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from tests.soak.forks import Ended, train
from tests.soak.leavings import Leavings, batches, differences, leavings
from tests.soak.moments import Kill

_MOST_RESUMES = 12


@dataclass(frozen=True)
class Whole:
    """The run that nobody killed."""

    arguments: list[str]
    left: Leavings
    batches: dict[tuple[int, int], set[str]]
    seconds: float


@dataclass
class Trial:
    """What became of one run that was killed.

    Args:
        kills: those that came about.
        differences: between what it left and what the whole run left.
        lost: what the kills destroyed: a run that had a checkpoint and could not go on.
        began_anew: killed before there was a checkpoint, and begun again.
        seconds: of all its processes.
    """

    kills: list[Kill] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    resumes: int = 0
    began_anew: int = 0
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        return not self.differences and not self.lost


def uninterrupted(arguments: Sequence[str], folder: Path) -> Whole:
    """Runs it to its end.

    Raises:
        RuntimeError: it did not end well.
    """
    folder.mkdir(parents=True)
    run_dir = folder / "run"
    ended = train([*arguments, f"run_dir={run_dir}"], folder, run_dir)
    if ended.code:
        raise RuntimeError(f"the run that nobody killed ended with {ended.code}:\n{ended.printed}")
    return Whole(list(arguments), leavings(run_dir), batches(folder / "batches.jsonl"), ended.seconds)


def killed(whole: Whole, kills: Sequence[Kill], folder: Path, from_newest: bool = False) -> Trial:
    """Kills a run at each of these moments in turn, a resumed one from the second on, and resumes it to its end.

    Args:
        whole: what it must come to.
        kills: where.
        folder: for its directory, which is emptied if it comes to what it must.
        from_newest: resume from the checkpoint with the most steps, rather than from the run's directory.
    """
    folder.mkdir(parents=True)
    trial, run_dir, left = Trial(), folder / "run", list(kills)
    command = [*whole.arguments, f"run_dir={run_dir}"]
    for _ in range(_MOST_RESUMES):
        kill = left.pop(0) if left else None
        ended = train(command, folder, run_dir, kill)
        trial.seconds += ended.seconds
        if ended.code == 0:
            break
        if not ended.killed:
            trial.lost.append(f"ended with {ended.code}: {_last_line(ended)}")
            break
        if kill is not None:
            trial.kills.append(kill)
        readable = _readable(run_dir)
        if readable:
            trial.resumes += 1
            newest = max(readable, key=lambda path: (readable[path], path.name == "last.ckpt"))
            command = [f"resume={newest if from_newest else run_dir}"]
        else:
            run_dir, command = _begin_anew(whole, trial, folder, run_dir)
    else:
        trial.lost.append(f"not at its end after {_MOST_RESUMES} processes")
    if not trial.lost:
        trial.differences = differences(whole.left, leavings(run_dir))
        trial.differences += _other_batches(whole, batches(folder / "batches.jsonl"))
    if trial.good:
        shutil.rmtree(folder)
    return trial


def _begin_anew(whole: Whole, trial: Trial, folder: Path, run_dir: Path) -> tuple[Path, list[str]]:
    """Where and how a run begins again that had no checkpoint yet: as the refused resume says."""
    trial.began_anew += 1
    if not (run_dir / "config.yaml").exists():
        return run_dir, [*whole.arguments, f"run_dir={run_dir}"]
    refused = train([f"resume={run_dir}"], folder, run_dir)
    trial.seconds += refused.seconds
    said = f"--config-dir {run_dir} --config-name config"
    if refused.code != 2 or said not in refused.printed:
        trial.lost.append(f"without a checkpoint, resume= ended with {refused.code}: {_last_line(refused)}")
    again = run_dir.with_name(f"{run_dir.name}-again")
    return again, [*said.split(), f"run_dir={again}"]


def _readable(run_dir: Path) -> dict[Path, int]:
    found = {}
    for path in (run_dir / "checkpoints").glob("*.ckpt"):
        try:
            found[path] = int(torch.load(path, weights_only=True)["global_step"])
        except Exception:
            continue  # torn
    return found


def _other_batches(whole: Whole, seen: dict[tuple[int, int], set[str]]) -> list[str]:
    wrong = [
        place for place in sorted(whole.batches.keys() | seen.keys()) if whole.batches.get(place) != seen.get(place)
    ]
    return [f"samples of epoch {epoch}, batch {index}" for epoch, index in wrong]


def _last_line(ended: Ended) -> str:
    lines = [line for line in ended.printed.splitlines() if line.strip()]
    return lines[-1] if lines else "(nothing printed)"
