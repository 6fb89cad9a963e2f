"""A trained run's predictions in its field's format: `python -m stablelit.predict run=RUN output=FILE [data.x=y]`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from stablelit.run.door import through_door


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the door; returns the exit code."""

    def work() -> None:
        from stablelit.run.predict_job import predict

        predict(sys.argv[1:] if argv is None else argv)

    return through_door(work)


if __name__ == "__main__":
    sys.exit(main())
