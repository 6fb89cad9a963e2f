"""``python -m stablelit.doctor``: reads, judges, prints, and leaves with a code that a script can act on.

Exit codes: 0 healthy, 1 warnings, 2 critical, 3 unreadable or no numbers, 64 a mistake in what was asked for,
130 interrupted; of several runs the worst. Runs are read one at a time, and of each only its verdict is kept.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence

from stablelit.doctor.arguments import Arguments, parse
from stablelit.doctor.diagnosis import check_mute
from stablelit.doctor.log_verdict import HEALTHY, WARNING, LogVerdict, judge
from stablelit.doctor.log_verdict_json import write_json
from stablelit.doctor.log_verdict_table import table, total_line
from stablelit.doctor.log_verdict_text import count_line, describe
from stablelit.doctor.readers import Unreadable, find_runs
from stablelit.errors import StablelitError

USAGE, INTERRUPTED = 64, 130


def main(arguments: Sequence[str]) -> int:
    """The whole of the door; returns the exit code."""
    try:
        return _answer(parse(arguments))
    except StablelitError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print("Interrupted: no verdict.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return HEALTHY


def _answer(asked: Arguments) -> int:
    check_mute("python -m stablelit.doctor", asked.mute)
    verdicts = list(_verdicts(asked))
    code = exit_code(verdicts, asked.fail_on)
    if asked.json == "-":
        write_json("-", verdicts, code)
        return code
    if len(verdicts) == 1:
        print(describe(verdicts[0]))
        print(f"{count_line(verdicts[0])}        exit {code}")
    else:
        print(table(verdicts))
        print(f"{total_line(verdicts)}        exit {code}")
    if asked.json is not None:
        write_json(asked.json, verdicts, code)
    return code


def exit_code(verdicts: Iterable[LogVerdict], fail_on: str = "warning") -> int:
    """Of the worst run; a severity below `fail_on` counts as healthy."""
    worst = max(verdict.code for verdict in verdicts)
    return HEALTHY if worst == WARNING and fail_on == "critical" else worst


def _verdicts(asked: Arguments) -> Iterable[LogVerdict]:
    seen = set()
    for place in asked.places:
        try:
            for run in find_runs(place):
                where = run.resolve()
                if where not in seen:
                    seen.add(where)
                    yield judge(run, asked.tags, asked.mute)
        except Unreadable as error:
            yield LogVerdict(place, problem=str(error))
