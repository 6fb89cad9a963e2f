"""A sweep from the command line to the exit code: 0 all finished, 1 one failed or diverged, 2 a mistake, 130 Ctrl-C.

However it ends, `summary.csv` and `summary.png` are written and the jobs are printed in the order of their objective.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from stablelit.run.sweep.claim import PICTURE_FILE, tidy_sweep_directory
from stablelit.run.sweep.ranking import print_ranking
from stablelit.run.sweep.record import SweepRecord
from stablelit.run.sweep.results import NOT_STARTED, TABLE_FILE, JobResult, write_table
from stablelit.run.table import shown_path

_FAILED = 1
_REASON_WIDTH = 120


@dataclass
class SweepSession:
    """What is known of the sweep that this process runs.

    Args:
        program: the door: `check` looks at the jobs and starts none.
    """

    program: str = "train"
    directory: Path | None = None
    record: SweepRecord | None = None
    made: list[Path] = field(default_factory=list)

    def begin(self, directory: Path, record: SweepRecord | None, made: list[Path]) -> None:
        """Notes the sweep that has just been checked and claimed; without a record nothing of it is kept."""
        self.directory, self.record, self.made = directory, record, made


_sessions: list[SweepSession] = []


def current_session() -> SweepSession:
    """That of the door, or one of its own for somebody else's program."""
    return _sessions[-1] if _sessions else SweepSession()


@contextmanager
def sweeping(program: str) -> Iterator[None]:
    """Around Hydra's run: tells what a sweep came to, if it was one.

    Raises:
        SystemExit: a job failed.
    """
    from stablelit.run.sweep.launching import launching_to_the_end

    session = SweepSession(program)
    _sessions.append(session)
    ended = False
    try:
        with launching_to_the_end():
            yield
        ended = True
    finally:
        _sessions.pop()
        failed = _conclude(session, ended)
    if failed:
        raise SystemExit(_FAILED)


def _conclude(session: SweepSession, ended: bool) -> bool:
    """Whether a job ended badly."""
    directory, record = session.directory, session.record
    if directory is None or tidy_sweep_directory(directory, session.made) or record is None:
        return False
    results = write_table(directory, record, over=True)
    print_ranking(results, record)
    drawn = _draw(results, record, directory)
    print(f"sweep  {shown_path(directory)}\ntable  {shown_path(directory)}/{TABLE_FILE}" + drawn)
    left = [r for r in results if r.status in (NOT_STARTED, "interrupted")]
    if not ended or left:
        # of a sweeper that chooses as it goes it is not known how many are left
        count = f" ({len(left)} jobs are left)" if left and record.jobs is not None else ""
        print(f"Go on with it{count}: python -m stablelit.train resume={shown_path(directory)}")
    bad = [r for r in results if r.ended_badly]
    if bad:
        shown = "; ".join(f"job {r.number} {r.status}: {_reason(r)}" for r in bad[:3])
        more = f"; and {len(bad) - 3} more" if len(bad) > 3 else ""
        print(f"{len(bad)} of {len(results)} jobs did not finish. {shown}{more}", file=sys.stderr)
        if ended:
            print(
                f"Run them again: python -m stablelit.train resume={shown_path(directory)} retry_failed=true",
                file=sys.stderr,
            )
    sys.stdout.flush()
    return bool(bad)


def _reason(result: JobResult) -> str:
    reason = result.reason or "its loss was no number"
    return reason if len(reason) <= _REASON_WIDTH else f"{reason[: _REASON_WIDTH - 3]}..."


def _draw(results: list[JobResult], record: SweepRecord, directory: Path) -> str:
    """The line that names the picture; a picture that cannot be drawn ends nothing."""
    from stablelit.run.sweep.picture import write_picture

    try:
        drawn = write_picture(results, record, directory / PICTURE_FILE)
    except Exception:
        print("summary.png could not be drawn:", file=sys.stderr)
        traceback.print_exc()
        return ""
    return f"\nplot   {shown_path(directory)}/{PICTURE_FILE}" if drawn else ""
