"""What follows a training: summary.json, the results table or the verdict, and the number for a sweeper."""

from __future__ import annotations

import math
import shlex
import warnings
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from stablelit.callbacks.history_writer import read_history
from stablelit.callbacks.interrupt import TERMINATED
from stablelit.doctor import TrainingDoctor
from stablelit.errors import ConfigurationError, StablelitError
from stablelit.findings import FindingError
from stablelit.lost_reports import LostReportWarning, lost_reports, report_may_be_lost
from stablelit.report.writing import REPORT_FILE, write_run_report
from stablelit.run.build import Parts
from stablelit.run.compose import write_configuration
from stablelit.run.directory import is_child_process
from stablelit.run.door import INTERRUPTED, RunFailure
from stablelit.run.failures import is_out_of_memory, memory_advice
from stablelit.run.fit import Outcome
from stablelit.run.quick import judge, kl_target_of, print_verdict
from stablelit.run.summary import data_identity, machine_identity, write_summary
from stablelit.run.surroundings import in_short, told_by_the_machine
from stablelit.run.sweep import sweep_job_directory
from stablelit.run.table import kl_target_rows, metric_rows, print_results, shown_path
from stablelit.run.terminated import was_terminated
from stablelit.run.weights import read_weights_record
from stablelit.run_files import CONFIG_FILE, HISTORY_FILE, SUMMARY_FILE

_NOT_METRICS = ("epoch", "step", "seconds")


def conclude(parts: Parts, outcome: Outcome, config: DictConfig, run_dir: Path, keep: bool) -> float | None:
    """Writes, prints and returns what a run came to.

    Args:
        parts: the objects of the run.
        outcome: how the training ended.
        config: its configuration.
        run_dir: its directory.
        keep: False under fast_dev_run: nothing is written.

    Returns:
        The best value of the objective; the worst possible one of a run that diverged; None without an objective.

    Raises:
        RunFailure: the run did not end well, outside a sweep or for a reason that ends a sweep too.
    """
    recorder = parts.recorder
    if keep and not recorder.epochs:
        _read_from_history(parts, run_dir)
    if outcome.status == "finished":
        try:
            recorder.require_metric({**outcome.final, **recorder.best})
        except ConfigurationError as error:
            outcome.status, outcome.error = "failed", error
    passed = True
    if parts.trainer.is_global_zero:
        if keep:
            _leave(parts, outcome, config, run_dir)
            parts.notes += [f"lost: {line}" for line in lost_reports(parts.trainer)]
        report = _report(config, run_dir) if keep else None
        if outcome.status in ("finished", "diverged"):
            _print(parts, outcome, config, run_dir, keep, report)
            passed = not keep or config.get("verdict") is None or _verdict(parts, config)
    if outcome.status != "finished":
        return _ended_badly(parts, outcome, config, run_dir, keep)
    if not passed and sweep_job_directory() is None:
        raise RunFailure("")
    return recorder.best_value


def _ended_badly(parts: Parts, outcome: Outcome, config: DictConfig, run_dir: Path, keep: bool) -> float:
    error, swept = outcome.error, sweep_job_directory() is not None
    if outcome.status == "interrupted":
        if is_child_process():
            raise RunFailure("", 0)  # the main process tells, and is killed where one of its own ends otherwise
        code = TERMINATED if was_terminated(error) else INTERRUPTED
        raise RunFailure(_interrupted(parts, outcome, run_dir, keep), code)
    out_of_memory = error is not None and is_out_of_memory(error)
    if out_of_memory:
        message = memory_advice(config.data.get("batch_size"))
    elif outcome.status == "diverged":
        message = _diverged(outcome, run_dir, parts.recorder.best_value)
    elif isinstance(error, FindingError):
        message = f"The run was stopped by a finding: {error}"
    elif error is not None and (told := told_by_the_machine(error)) is not None:
        message = f"{told}\n{_what_is_left(outcome, run_dir, keep)}"
    else:
        assert error is not None
        raise error
    if swept:
        # one bad set of values must not end the others
        print(f"{message}\nThe sweep goes on; this run counts as {parts.recorder.worst_possible}.")
        return parts.recorder.worst_possible
    raise RunFailure(message) from error


def _interrupted(parts: Parts, outcome: Outcome, run_dir: Path, keep: bool) -> str:
    if not keep or outcome.last_checkpoint is None:
        return "Interrupted; no checkpoint had been written yet."
    last = shown_path(outcome.last_checkpoint)
    if outcome.is_trained:
        done = f"Interrupted before the test; all that was to be trained is in {last}"
        return f"{done}\nTest it with: {resume_command(run_dir)}"
    saved = any(getattr(callback, "saved_to", None) for callback in parts.trainer.callbacks)  # type: ignore[attr-defined]
    kept = f"What was trained is in {last}" if saved else f"The last checkpoint is {last}; what came after it is lost."
    return f"Interrupted. {kept}\nGo on with: {resume_command(run_dir)}"


def resume_command(run_dir: Path) -> str:
    """What a shell takes as it stands, also where the path has blanks or quotes."""
    return f"python -m stablelit.train {shlex.quote(f'resume={shown_path(run_dir)}')}"


def _what_is_left(outcome: Outcome, run_dir: Path, keep: bool) -> str:
    if not keep or outcome.last_checkpoint is None:
        return "No checkpoint had been written yet."
    return (
        f"The last checkpoint is {shown_path(outcome.last_checkpoint)}; what came after it is lost.\n"
        f"Go on with: {resume_command(run_dir)}"
    )


def _diverged(outcome: Outcome, run_dir: Path, best_value: float | None) -> str:
    first = str(outcome.error).strip().partition("\n")[0] if outcome.error else ""
    what = first or ", ".join(f"{name}={v}" for name, v in outcome.final.items() if not math.isfinite(v))
    best = ""
    if outcome.best_checkpoint and best_value is not None:
        best = f" The best checkpoint before is {shown_path(outcome.best_checkpoint)} ({best_value:.4g})."
    return f"The run diverged: {what}.{best} Its findings and history are in {shown_path(run_dir)}"


def _leave(parts: Parts, outcome: Outcome, config: DictConfig, run_dir: Path) -> None:
    """Writes the summary; and the configuration again, where somebody has taken the directory away meanwhile."""
    with report_may_be_lost(parts.trainer, "train", run_dir / SUMMARY_FILE):
        if not (run_dir / CONFIG_FILE).exists():
            run_dir.mkdir(parents=True, exist_ok=True)
            write_configuration(run_dir, config)
        _write(parts, outcome, config, run_dir)


def _write(parts: Parts, outcome: Outcome, config: DictConfig, run_dir: Path) -> None:
    recorder = parts.recorder
    # data that could not be used are not read once more to say which they were
    unusable = isinstance(outcome.error, StablelitError) and not recorder.epochs
    write_summary(
        run_dir,
        name=config.name,
        status=outcome.status,
        error=None if outcome.error is None else f"{type(outcome.error).__name__}: {in_short(outcome.error)}",
        seed=config.get("seed"),
        seconds=round(outcome.seconds, 3),
        epochs=parts.trainer.current_epoch,
        steps=parts.trainer.global_step,
        objective={"metric": recorder.metric, "mode": recorder.mode, "best": recorder.best_value},
        final=outcome.final,
        best={"epoch": recorder.best_epoch, **recorder.best} if recorder.best else {},
        test=outcome.tested,
        checkpoints={
            "best": _relative(outcome.best_checkpoint, run_dir),
            "last": _relative(outcome.last_checkpoint, run_dir),
        },
        weights=read_weights_record(run_dir),
        data=None if unusable else _identity_of_data(parts),
        notes=parts.notes,
        doctor=_doctor_says(parts),
        machine=machine_identity(parts.trainer.strategy.root_device),
        lost=lost_reports(parts.trainer),
    )


def _report(config: DictConfig, run_dir: Path) -> Path | None:
    """Shows the run as a page; whatever goes wrong with it is a warning and ends nothing."""
    if not config.get("report", True):
        return None
    try:
        return write_run_report(run_dir)
    except Exception as error:
        first = str(error).partition("\n")[0]
        place = shown_path(run_dir)
        warnings.warn(
            f"train: {place}/{REPORT_FILE} could not be written: {type(error).__name__}: {first} What it would show is "
            f"in {place}: python -m stablelit.report {place}",
            LostReportWarning,
            stacklevel=2,
        )
        return None


def _doctor_says(parts: Parts) -> list[str]:
    return [c.summary() for c in parts.trainer.callbacks if isinstance(c, TrainingDoctor)]  # type: ignore[attr-defined]


def _identity_of_data(parts: Parts) -> Any:
    try:
        # as it was when training began: what was trained on
        return parts.recorder.data or data_identity(parts.datamodule)
    except (OSError, StablelitError) as error:
        # files that are gone by now: how the run ended is said all the same
        return {"unknown": in_short(error)}


def _relative(path: Path | None, run_dir: Path) -> str | None:
    """Relative to the run directory where it lies in it, so that the directory can be moved."""
    if path is None:
        return None
    return str(path.relative_to(run_dir)) if path.is_relative_to(run_dir) else str(path)


def _print(parts: Parts, outcome: Outcome, config: DictConfig, run_dir: Path, keep: bool, report: Path | None) -> None:
    validated = parts.recorder.best or outcome.final
    of_validation = {name: value for name, value in validated.items() if name.startswith("val/")}
    rows = metric_rows(outcome.tested or of_validation or validated) + kl_target_rows(config, validated)
    title = f"{config.name}: {'test of the best checkpoint' if outcome.tested else 'best epoch'}"
    if not keep:
        print_results(rows, {}, [*parts.notes, "fast_dev_run: everything ran once; nothing was kept."], title)
        return
    place = shown_path(run_dir)
    places = {"run": place, "metrics": f"{place}/{SUMMARY_FILE}, {place}/{HISTORY_FILE}"}
    if outcome.best_checkpoint:
        places["best"] = shown_path(outcome.best_checkpoint)
    if report is not None:
        places["report"] = shown_path(report)
    print_results(rows, places, [*parts.notes, *_doctor_says(parts)], title)


def _verdict(parts: Parts, config: DictConfig) -> bool:
    latent_dim = dict(parts.module.hparams).get("latent_dim")
    judgements = judge(
        parts.recorder.epochs,
        config.verdict,
        metric=parts.recorder.metric or "train/loss",
        mode=parts.recorder.mode,
        kl_target=kl_target_of(config.get("callbacks")),
        latent_dim=latent_dim if isinstance(latent_dim, int) else None,
    )
    return print_verdict(judgements)


def _read_from_history(parts: Parts, run_dir: Path) -> None:
    """Where other processes have trained (ddp_spawn, ddp_fork), what they measured is on disk."""
    if not (run_dir / HISTORY_FILE).is_file():
        return
    for line in read_history(run_dir):
        metrics = {k: float(v) for k, v in line.items() if k not in _NOT_METRICS}
        parts.recorder.take_epoch(metrics, int(line["epoch"]))
