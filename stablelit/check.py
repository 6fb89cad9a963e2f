"""Checks a configuration without building anything: `python -m stablelit.check +experiment=jets [key=value ...]`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import hydra
from omegaconf import DictConfig

from stablelit.run.door import through_door, told_without_traceback
from stablelit.run.train_command import run_hydra_job


@hydra.main(version_base="1.3", config_path="pkg://stablelit.conf", config_name="train")
def _job(config: DictConfig) -> None:
    with told_without_traceback():
        from stablelit.run.train_job import check_configuration
        from stablelit.run.weights import initial_checkpoint

        check_configuration(config)
        initial_checkpoint(config)
        print(f"OK: {config.name} can be trained as configured.")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the door; returns the exit code."""
    return through_door(lambda: run_hydra_job(sys.argv[1:] if argv is None else argv, _job, "check"))


if __name__ == "__main__":
    sys.exit(main())
