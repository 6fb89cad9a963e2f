"""Which checkpoint of a run directory `resume=` goes on from: the last one, or the furthest whole one where it is not.

`resume=DIRECTORY` asks for the run, and gets what is left of it; `resume=FILE` asks for that file, and gets it or an
error. Candidates are the files of `checkpoints/` and what a cluster's requeue has saved beside it (`hpc_ckpt_*.ckpt`).
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stablelit.data.checkpoint_files import damage_of, require_whole, step_of
from stablelit.errors import ConfigurationError
from stablelit.run.directory import LAST_CHECKPOINT, process_rank
from stablelit.run.table import shown_path
from stablelit.run_files import CONFIG_FILE, HISTORY_FILE

_NEEDED = ("state_dict", "loops", "optimizer_states", "lr_schedulers", "callbacks")
# of two files of the same step, the one that was written to be gone on from
_PREFERRED = ("last", "hpc_ckpt", "previous", "best")
# seconds; of the times that file systems keep
_A_CLOCKS_TICK = 2.0


@dataclass(frozen=True)
class Candidate:
    """A checkpoint that a run could go on from.

    Args:
        path: of the file.
        step: its optimizer steps; -1 where it does not say.
        is_left: it is of a part of the run that was left: the run went back to an earlier checkpoint, and has written
            one of fewer steps since.
    """

    path: Path
    step: int
    is_left: bool = False


def checkpoint_to_resume(run_dir: Path) -> Path:
    """The checkpoint of a run directory to go on from; one that is not the last is told, with what is lost.

    Raises:
        ConfigurationError: there is none, or none is whole.
    """
    last, others = _candidates(run_dir)
    wrong = {}
    if last is not None:
        requeued = [c for c in others if c.path.name.startswith("hpc_ckpt") and not c.is_left]
        newer = [c for c in requeued if c.step > last.step >= 0]
        for candidate in (*newer, last):
            why = what_is_wrong(candidate.path)
            if why is None:
                if candidate is not last:
                    _tell(f"Going on from {shown_path(candidate.path)} (optimizer step {candidate.step}), "
                          f"which is newer than last.ckpt (step {last.step}).")  # fmt: skip
                return candidate.path
            wrong[candidate.path] = why
    for candidate in others:
        if candidate.path in wrong:
            continue
        why = what_is_wrong(candidate.path)
        if why is None:
            left = [c.path for c in others if c.is_left and not candidate.is_left and c.step > candidate.step]
            _tell(_fallback(run_dir, last, wrong, candidate, left))
            return candidate.path
        wrong[candidate.path] = why
    raise ConfigurationError(_nothing(run_dir, wrong))


def require_resumable_file(path: Path) -> None:
    """Complains of a checkpoint that was named itself and cannot be gone on from.

    Raises:
        ConfigurationError: what is wrong with it, and the whole ones of its run.
    """
    require_whole(path)
    why = what_is_wrong(path)
    if why is not None:
        raise ConfigurationError(f"resume={path}: {why}. To begin a new run with its weights: weights={path}")


def what_is_wrong(path: Path) -> str | None:
    """Why a run cannot go on from this file: damaged, or not the whole state of a training; None if it can."""
    damage = damage_of(path)
    if damage is not None:
        return f"it is damaged: {damage}"
    try:
        checkpoint: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # told with its reason where it is read
        return None
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        return "it is not a checkpoint of Lightning: it has no 'state_dict'"
    lacking = [key for key in _NEEDED if key not in checkpoint]
    if lacking:
        return f"it has weights, and not the state of a training ({', '.join(lacking)} missing)"
    return None


def _candidates(run_dir: Path) -> tuple[Candidate | None, list[Candidate]]:
    """The last checkpoint, and all others, the furthest first, those behind which the run has gone back at the end."""
    files = [*(run_dir / "checkpoints").glob("*.ckpt"), *run_dir.glob("*.ckpt")]
    steps = {path: step for path in files if (step := step_of(path)) is not None}
    written = {path: path.stat().st_mtime for path in steps}
    found = {}
    for path in files:
        step = steps.get(path, -1)
        # steps grow with time, unless somebody went back
        is_left = any(steps[other] < step and written[other] > written[path] + _A_CLOCKS_TICK for other in steps)
        found[path] = Candidate(path, step, is_left)
    last = found.pop(run_dir / LAST_CHECKPOINT, None)
    others = sorted(found.values(), key=lambda c: (c.is_left, -c.step, _preference(c.path), c.path.name))
    return last, others


def _preference(path: Path) -> int:
    return next((i for i, start in enumerate(_PREFERRED) if path.name.startswith(start)), len(_PREFERRED))


def _fallback(run_dir: Path, last: Candidate | None, wrong: dict[Path, str], taken: Candidate, left: list[Path]) -> str:
    lines = [f"{shown_path(path)}: {why}." for path, why in wrong.items()]
    lines += [f"{shown_path(path)}: of a part of the run that it has gone back from; left out." for path in left]
    if last is None:
        lines.append(f"There is no {LAST_CHECKPOINT} in {shown_path(run_dir)}.")
    reached = max(_last_step_of_history(run_dir), -1 if last is None else last.step)
    if reached > taken.step:
        lost = f"the run had come to step {reached}, so {reached - taken.step} steps are trained again"
    elif reached == taken.step:
        lost = "nothing that is known of is lost"
    else:
        lost = "how far the run had come is not known"
    lines.append(f"Going on from {shown_path(taken.path)} instead: optimizer step {taken.step}; {lost}.")
    return "\n".join(lines)


def _nothing(run_dir: Path, wrong: dict[Path, str]) -> str:
    if wrong:
        listed = "\n".join(f"  {shown_path(path)}: {why}" for path, why in wrong.items())
        return f"resume={run_dir}: no checkpoint of this run can be gone on from.\n{listed}"
    if (run_dir / CONFIG_FILE).is_file():
        return (
            f"resume={run_dir}: there is no {LAST_CHECKPOINT} in this directory; the run was ended before its first "
            f"checkpoint. To begin it again: --config-dir {run_dir} --config-name config"
        )
    return (
        f"resume={run_dir}: there is no {LAST_CHECKPOINT} in this directory. A run directory is "
        f"runs/<name>/<date-time>."
    )


def _last_step_of_history(run_dir: Path) -> int:
    step = -1
    try:
        lines = (run_dir / HISTORY_FILE).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return step
    for text in lines:
        try:
            step = max(step, int(json.loads(text)["step"]))
        except (ValueError, KeyError, TypeError):
            break  # a kill can leave half a line
    return step


def _tell(message: str) -> None:
    if process_rank() == 0:
        print(message, file=sys.stderr, flush=True)
