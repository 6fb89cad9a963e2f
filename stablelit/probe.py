"""What a trained encoder is worth on your own data: `python -m stablelit.probe run=RUN path=FOLDER [format=images]`."""

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
        from stablelit.run.probe_job import probe

        probe(given)

    return through_door(work)


if __name__ == "__main__":
    sys.exit(main())
