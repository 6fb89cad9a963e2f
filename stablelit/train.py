"""Trains: `python -m stablelit.train +experiment=jets [key=value ...]`, `-m` for sweeps, `resume=RUN` to go on."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import hydra
from omegaconf import DictConfig

from stablelit.run.door import through_door, told_without_traceback
from stablelit.run.train_command import run_hydra_job


@hydra.main(version_base="1.3", config_path="pkg://stablelit.conf", config_name="train")
def _job(config: DictConfig) -> float | None:
    with told_without_traceback():
        # torch takes seconds to import, and not every command trains
        from stablelit.run.terminated import ending_on_sigterm
        from stablelit.run.train_job import train

        with ending_on_sigterm():
            return train(config)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the door; returns the exit code."""
    return through_door(lambda: run_hydra_job(sys.argv[1:] if argv is None else argv, _job))


if __name__ == "__main__":
    sys.exit(main())
