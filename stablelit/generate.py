"""Samples from a trained run into a file: `python -m stablelit.generate run=RUN n=1000 output=FILE [seed=0]`."""

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
        from stablelit.run.generate_job import generate

        generate(given)

    return through_door(work)


if __name__ == "__main__":
    sys.exit(main())
