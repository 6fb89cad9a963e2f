"""`resume=`: the command line of a run that goes on, put together from the one that began it."""

from __future__ import annotations

from pathlib import Path

from stablelit.errors import ConfigurationError
from stablelit.run.command_line import CommandLine, merge_overrides, quoted
from stablelit.run.compose import read_command


def resumed_command(line: CommandLine) -> CommandLine:
    """The saved overrides merged with the new ones, with `resume=` the checkpoint and `run_dir=` the run's directory.

    It happens before Hydra sees the command line, for Hydra holds overrides against the composed configuration: one
    that the saved experiment has would be unknown without it.

    Raises:
        ConfigurationError: nothing to go on from, a sweep, or `weights=` beside it.
    """
    if line.is_multirun:
        raise ConfigurationError("resume= goes on with one run; it cannot be swept (-m).")
    if (weights := line.value("weights")) not in (None, "null"):
        raise ConfigurationError(
            f"resume= goes on with the weights of its run, and weights={weights} begins a new one with others. "
            f"Leave one of the two out."
        )
    run_dir, checkpoint = _run_and_checkpoint(line.value("resume") or "")
    asked_dir = line.value("run_dir")
    if asked_dir and Path(asked_dir).expanduser().absolute() != run_dir:
        raise ConfigurationError(
            f"A resumed run goes on in its own directory, {run_dir}; leave run_dir={asked_dir} out. "
            f"To start a new run from its configuration: --config-dir {run_dir} --config-name config"
        )
    saved = read_command(run_dir)
    new = [o for o in line.overrides if o.partition("=")[0] not in ("resume", "run_dir")]
    # a run that began in a sweep goes on alone: neither the sweep's file nor the right to name targets is inherited
    kept = [o for o in saved.overrides if not o.startswith(("+sweep=", "sweep=", "allow_targets=", "+allow_targets="))]
    options = [o for o in line.options if o[0] not in ("--config-dir", "-cd", "--config-name", "-cn")]
    directory = line.option("--config-dir", "-cd") or saved.config_dir
    options += [("--config-dir", directory)] if directory else []
    options += [("--config-name", line.option("--config-name", "-cn") or saved.config_name)]
    overrides = [*merge_overrides(kept, new), f"run_dir={quoted(str(run_dir))}", f"resume={quoted(str(checkpoint))}"]
    return CommandLine(tuple(options), tuple(overrides))


def _run_and_checkpoint(given: str) -> tuple[Path, Path]:
    # torch takes seconds to import, and most command lines go on with nothing
    from stablelit.run.checkpoint import locate_run
    from stablelit.run.resumable import checkpoint_to_resume, require_resumable_file

    path = Path(given).expanduser().absolute()
    if path.is_dir():
        return path, checkpoint_to_resume(path)
    run_dir, checkpoint = locate_run(given, "resume")
    require_resumable_file(checkpoint)
    return run_dir, checkpoint
