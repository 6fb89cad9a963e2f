"""What the training and the checking door do between the command line and Hydra."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext

from stablelit.run.command_line import CommandLine
from stablelit.run.door import USER_ERROR
from stablelit.run.environment import remember_allowed_targets
from stablelit.run.experiments import find_experiments, listing
from stablelit.run.hydra_section import only_trusted_hydra_sections
from stablelit.run.misspelt import composer, telling_misspelt_keys
from stablelit.run.resume import resumed_command
from stablelit.run.sweep.resumption import resumed_sweep
from stablelit.run.sweep.session import sweeping


def run_hydra_job(argv: Sequence[str], job: Callable[[], object], program: str = "train") -> int:
    """Runs a Hydra application on the command line as Hydra needs it; without an experiment it lists them.

    Returns:
        The exit code.
    """
    line = CommandLine.parse(argv)
    # only what was typed may allow targets, not what a run directory has saved
    remember_allowed_targets(line.overrides)
    if line.value("resume") not in (None, "null"):
        line = resumed_sweep(line) or resumed_command(line)
    if not line.names_what_to_run and not line.only_shows:
        found = find_experiments(line.option("--config-dir", "-cd"))
        print(listing(found, f"python -m stablelit.{program}"))
        return USER_ERROR
    before = sys.argv
    # Hydra reads it, and Lightning starts the other processes of a data-parallel run from it
    sys.argv = [before[0], *line.ordered().words()]
    try:
        # what is only shown sweeps nothing, and does not wait for Lightning
        swept = nullcontext() if line.only_shows else sweeping(program)
        with telling_misspelt_keys(*composer(line)), only_trusted_hydra_sections(), swept:
            job()
    finally:
        sys.argv = before
    return 0
