"""One training, from a composed configuration to a run directory and the objective's best value.

check -> claim the directory -> build -> (tune) -> fit -> test the best checkpoint -> summary, table, verdict
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from lightning.pytorch import seed_everything
from omegaconf import DictConfig, open_dict

from stablelit.errors import ConfigurationError, bad_argument
from stablelit.run.build import PROVIDED, Parts, build_data, build_module, build_trainer
from stablelit.run.check import check, unknown_keys
from stablelit.run.compose import write_configuration
from stablelit.run.conclude import conclude
from stablelit.run.directory import OVERRIDES_FILE, cannot_be_kept, claim_run_directory, is_child_process, process_rank
from stablelit.run.environment import allowed_targets, announce_run_directory, quiet_libraries
from stablelit.run.fit import Outcome, fit, test_best
from stablelit.run.left_to_do import require_resumable
from stablelit.run.moved_checkpoints import MovedCheckpoints
from stablelit.run.problems import Problem, raise_on_problems
from stablelit.run.record import RunRecorder
from stablelit.run.sweep import end_the_sweep_if_asked, refuse_subprocess_ddp, sweep_job_directory
from stablelit.run.sweep.results import summary_of
from stablelit.run.sweep.swept_job import run_swept_job
from stablelit.run.weights import (
    WEIGHTS_FILE,
    begin_with,
    initial_checkpoint,
    read_weights_record,
    write_weights_record,
)
from stablelit.run_files import CONFIG_FILE

SCHEMA = {
    "name": str,
    "seed": int | None,
    "runs": str,
    "run_dir": str | None,
    "resume": str | None,
    "weights": str | None,
    "test": bool,
    "report": bool,
    "compile": bool,
    "retry_failed": bool,
    "threads": int | None,
    "tune.batch_size": bool,
    "tune.learning_rate": bool,
    "objective.metric": str | None,
    "objective.mode": str,
}

# the root's own keys and, where they are plain, what may be in them
ROOT_KEYS: dict[str, set[str] | None] = {
    **{name: None for name in SCHEMA if "." not in name},
    **{group: None for group in ("data", "model", "optimizer", "lr_schedule", "callbacks", "trainer", "logger")},
    "objective": {"metric", "mode"},
    "tune": {"batch_size", "learning_rate"},
    "model_summary": {"max_depth"},
    "verdict": {"loss_falls_by", "kl_at_least", "kl_target_times", "kl_per_dim_at_most"},
    "allow_targets": None,
    "hydra": None,
}


def check_configuration(config: DictConfig, known: Sequence[Problem] = ()) -> None:
    """Complains of every mistake that can be seen without building anything.

    Args:
        config: the configuration.
        known: mistakes that were found before, to be told with the others.

    Raises:
        ConfigurationError: with all of them.
    """
    raise_on_problems(configuration_problems(config, known))


def configuration_problems(config: DictConfig, known: Sequence[Problem] = ()) -> list[Problem]:
    """Every mistake that can be seen without building anything, and those that were known before."""
    if config.get("run_dir") is None:
        # callbacks and loggers refer to the run's directory, which is made only for a configuration that is right
        config = config.copy()
        with open_dict(config):
            config.run_dir = "runs"
    unknown = unknown_keys(config, ROOT_KEYS)
    found = [*unknown, *check(config, allowed_targets(), provided=PROVIDED, schema=SCHEMA)]
    told = {problem.key for problem in found}
    return [*found, *(problem for problem in known if problem.key not in told)]


def train(config: DictConfig) -> float | None:
    """Trains what the configuration says and returns the best value of its objective; None where it has none.

    Raises:
        ConfigurationError: a mistake in the configuration.
        RunFailure: training failed for a reason that is told without a traceback.
    """
    quiet_libraries()
    job_dir = sweep_job_directory()
    if job_dir is not None and not config.trainer.get("fast_dev_run"):
        return run_swept_job(config, job_dir, _train)
    return _train(config)


def _train(config: DictConfig) -> float | None:
    check_configuration(config)
    initial_checkpoint(config)  # what is not there is told before anything is made
    if not config.trainer.get("fast_dev_run"):
        return _train_in(_claim(config), config)
    # whatever a callback writes to the run directory goes where nobody sees it
    with tempfile.TemporaryDirectory(prefix="stablelit-") as scratch:
        return _train_in(Path(scratch), config, keep=False)


def _claim(config: DictConfig) -> Path:
    job_dir = sweep_job_directory()
    if job_dir is not None and config.get("run_dir") not in (None, str(job_dir)):
        raise ConfigurationError(
            "run_dir= cannot be shared by the runs of a sweep; name the sweep: hydra.sweep.dir=DIR"
        )
    return claim_run_directory(
        config.name,
        config.get("runs", "runs"),
        run_dir=config.get("run_dir") or job_dir,
        resumed=config.get("resume") is not None,
    )


def _train_in(run_dir: Path, config: DictConfig, keep: bool = True) -> float | None:
    resume = Path(config.resume) if config.get("resume") else None
    weights = initial_checkpoint(config)
    made_here = keep and config.get("run_dir") is None
    first_process = process_rank() == 0 and not is_child_process()
    with open_dict(config), announce_run_directory(run_dir):
        config.run_dir = str(run_dir)
        try:
            parts = _build(config, run_dir, keep)
            if resume is not None:
                over = sweep_job_directory() is not None or _may_lack_its_test(run_dir)
                require_resumable(resume, parts.module, config, over, parts.datamodule)
            record = begin_with(weights, parts) if weights is not None else read_weights_record(run_dir)
            if record is not None:
                config.weights = record["checkpoint"]
            if keep and first_process:
                if weights is not None and record is not None:
                    write_weights_record(run_dir, record)
                write_configuration(run_dir, config)
        except BaseException as error:
            if made_here and first_process:
                _discard(run_dir)
            if isinstance(error, OSError):
                raise cannot_be_kept(run_dir, error) from error
            raise
        tuned = any((config.get("tune") or {}).values())
        outcome: Outcome = fit(parts, config, resume)
        if keep and first_process and tuned:
            write_configuration(run_dir, config)
        if outcome.status == "finished" and config.get("test", True):
            test_best(parts, outcome)
        value = conclude(parts, outcome, config, run_dir, keep)
    if sweep_job_directory() is not None:
        end_the_sweep_if_asked(parts.trainer)
    return value


def _may_lack_its_test(run_dir: Path) -> bool:
    """Whether a run ended before it was summed up, or in its test: with nothing left to train there is that to do."""
    summary = summary_of(run_dir)
    return summary is None or summary.get("status") in ("interrupted", "failed")


def _build(config: DictConfig, run_dir: Path, keep: bool) -> Parts:
    if config.get("seed") is not None:
        seed_everything(config.seed, workers=True, verbose=False)
    if config.get("threads") is not None:
        if config.threads < 1:
            raise bad_argument("train", "threads", config.threads, "an int of at least 1, or null for torch's choice")
        torch.set_num_threads(config.threads)
    objective = config.get("objective") or {}
    recorder = RunRecorder(objective.get("metric"), objective.get("mode", "min"), run_dir if keep else None)
    trainer = build_trainer(config, run_dir, [recorder, *([MovedCheckpoints()] if config.get("resume") else [])])
    if sweep_job_directory() is not None:
        refuse_subprocess_ddp(trainer)
    notes: list[str] = []
    return Parts(trainer, recorder, build_data(config), build_module(config, notes), notes)


def _discard(run_dir: Path) -> None:
    """Takes away a directory in which nothing was trained, and the experiment's if it holds nothing else."""
    for name in (CONFIG_FILE, OVERRIDES_FILE, WEIGHTS_FILE):
        (run_dir / name).unlink(missing_ok=True)
    for folder in (run_dir, run_dir.parent):
        if not any(folder.iterdir()):
            folder.rmdir()
