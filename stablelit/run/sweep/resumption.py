"""`resume=` of a sweep's directory: the command that began it, once more; what is done is skipped."""

from __future__ import annotations

from pathlib import Path

from stablelit.errors import ConfigurationError
from stablelit.run.command_line import CommandLine, key_of, merge_overrides
from stablelit.run.sweep.record import read_sweep

# how the jobs are run, not what they do
_MAY_DIFFER = ("retry_failed", "hydra/launcher", "hydra.launcher", "hydra.sweeper.n_trials", "hydra.sweeper.n_jobs")


def resumed_sweep(line: CommandLine) -> CommandLine | None:
    """The command line of the sweep that `resume=` names; None where it names something else.

    Raises:
        ConfigurationError: a directory of runs that is no sweep's, or an override that would change the jobs.
    """
    given = line.value("resume") or ""
    directory = Path(given).expanduser().absolute()
    record = read_sweep(directory) if directory.is_dir() else None
    if record is None:
        if line.is_multirun:
            raise ConfigurationError(
                f"resume={given} is no sweep's directory, and a run that goes on cannot be swept. A sweep is gone on "
                f"with by its directory, resume=runs/<name>/<date-time>; a run without -m."
            )
        return None
    new = [o for o in line.overrides if key_of(o) != "resume"]
    other = [o for o in new if not key_of(o).startswith(_MAY_DIFFER)]
    if other:
        raise ConfigurationError(
            f"{' '.join(other)}: a sweep goes on with the jobs that it began with. Beside resume= it takes "
            f"retry_failed=true, hydra/launcher=..., hydra.sweeper.n_trials=N. One job goes on for longer with "
            f"resume={given}/<job>."
        )
    saved = record.command
    # the right to name targets is not inherited
    kept = [o for o in saved.overrides if key_of(o) not in ("allow_targets", "hydra.sweep.dir")]
    options: list[tuple[str, ...]] = [("-m",), ("--config-name", saved.config_name)]
    config_dir = line.option("--config-dir", "-cd") or saved.config_dir
    options += [("--config-dir", config_dir)] if config_dir else []
    return CommandLine(tuple(options), (*merge_overrides(kept, new), f"hydra.sweep.dir='{directory}'"))
