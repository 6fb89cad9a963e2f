"""Tests a run's best checkpoint again: `python -m stablelit.evaluate run=RUN [data.path=FILE ...]`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from stablelit.run.door import helped, through_door


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the door; returns the exit code."""
    given = sys.argv[1:] if argv is None else argv
    if helped(given, __doc__):
        return 0

    def work() -> None:
        from stablelit.run.evaluate_job import evaluate

        evaluate(given)

    return through_door(work)


if __name__ == "__main__":
    sys.exit(main())
