"""Kills runs of every family, resumes them, and prints what became of them: `python -m tests.soak --kills 25`."""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.soak.forks import warm
from tests.soak.moments import MOMENTS, Kill
from tests.soak.recipes import FAMILIES, recipe
from tests.soak.trial import Trial, Whole, killed, uninterrupted

# how many of its kind a small run has, about: beyond it the run ends unharmed, and the trial counts no kill
_REACH = {"batch": 30, "backward": 15, "validation": 6, "epoch": 9, "file": 40, "torn": 12}
_SHOWN = 4


def random_kills(rng: random.Random, whole: Whole, moment: str) -> list[Kill]:
    """A kill at this moment, and in two of five trials one or two more, anywhere, of what is resumed."""
    moments = [moment, *rng.choices(MOMENTS, k=rng.choice((0, 0, 0, 1, 2)))]
    reach = {**_REACH, "time": int(1000 * whole.seconds)}
    return [Kill(kind, rng.randint(1, reach[kind])) for kind in moments]


def soak(experiment: str, kills: int, folder: Path, rng: random.Random) -> list[Trial]:
    """So many trials of one experiment, through all moments in turn; what goes wrong is printed at once."""
    whole = uninterrupted(recipe(experiment, folder / "files"), folder / experiment / "whole")
    trials: list[Trial] = []
    while sum(len(t.kills) for t in trials) < kills:
        planned = random_kills(rng, whole, MOMENTS[len(trials) % len(MOMENTS)])
        trial = killed(whole, planned, folder / experiment / str(len(trials)), from_newest=rng.random() < 0.5)
        trials.append(trial)
        if not trial.good:
            wrong = [*trial.lost, *trial.differences]
            more = f" (and {len(wrong) - _SHOWN} more)" if len(wrong) > _SHOWN else ""
            shown = "; ".join(wrong[:_SHOWN])
            print(f"{experiment}: {' '.join(map(str, planned))}: {shown}{more}", file=sys.stderr, flush=True)
    return trials


def row(experiment: str, trials: Sequence[Trial]) -> dict[str, object]:
    """The line of the table."""
    moments = Counter(kill.moment for trial in trials for kill in trial.kills)
    hit = [trial for trial in trials if trial.kills]
    return {
        "experiment": experiment,
        "kills": sum(moments.values()),
        **{moment: moments[moment] for moment in MOMENTS},
        "runs": len(hit),
        "resumed": sum(t.resumes for t in hit),
        "began anew": sum(t.began_anew for t in hit),
        "bit-equal": sum(t.good for t in hit),
        "lost": sum(bool(t.lost) for t in hit),
        "seconds": round(sum(t.seconds for t in trials), 1),
    }


def table(rows: Sequence[dict[str, object]]) -> str:
    """Aligned columns."""
    columns = list(rows[0])
    widths = {c: max(len(c), *(len(str(r[c])) for r in rows)) for c in columns}
    lines = [[c.ljust(widths[c]) for c in columns], *([str(r[c]).ljust(widths[c]) for c in columns] for r in rows)]
    return "\n".join("  ".join(line).rstrip() for line in lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 1 if any run was lost or came to something else."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("experiments", nargs="*", default=FAMILIES, help="default: one of each family")
    parser.add_argument("--kills", type=int, default=25, help="of each experiment")
    parser.add_argument("--seed", type=int, default=0, help="of moments and times")
    parser.add_argument("--json", type=Path, help="write the rows there")
    parser.add_argument("--keep", type=Path, help="work in this directory, and leave what went wrong in it")
    given = parser.parse_args(argv)
    warm()
    began, rows = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="stablelit-soak-") as scratch:
        for experiment in given.experiments:
            rng = random.Random(f"{given.seed} {experiment}")
            rows.append(row(experiment, soak(experiment, given.kills, given.keep or Path(scratch), rng)))
            print(table(rows[-1:]), flush=True)
    print(f"\n{table(rows)}\n{time.monotonic() - began:.0f} s in all")
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return int(any(r["bit-equal"] != r["runs"] for r in rows))


if __name__ == "__main__":
    sys.exit(main())
