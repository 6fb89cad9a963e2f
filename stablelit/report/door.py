"""``python -m stablelit.report``: from its arguments to the exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from stablelit.errors import StablelitError
from stablelit.report.arguments import parse
from stablelit.report.writing import write_report

WRITTEN, MISTAKE = 0, 2


def main(arguments: Sequence[str]) -> int:
    """Writes the report and says where it is."""
    try:
        asked = parse(arguments)
        written = write_report(asked.places, asked.out)
    except StablelitError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return MISTAKE
    except KeyboardInterrupt:
        print("Interrupted; nothing was written.", file=sys.stderr)
        return 130
    except SystemExit as leaving:  # --help
        return leaving.code if isinstance(leaving.code, int) else WRITTEN
    for problem in written.unread:
        print(f"not read: {problem}", file=sys.stderr)
    size = written.path.stat().st_size
    runs = "1 run" if written.runs == 1 else f"{written.runs} runs"
    print(f"{written.path}  {runs}, {size / 1024:.0f} KiB")
    return WRITTEN
