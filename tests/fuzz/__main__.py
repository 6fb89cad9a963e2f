"""`python -m tests.fuzz --target NAME|all --inputs 10000 --seed 0 [--json FILE]`: tries readers with hostile inputs.

Every input has to end in data or in an error of ours, within a second of the processor and 512 MB, without a
process started, a connection made or a file written. The inputs that do not are kept under --keep. Exit code 1 if
there are any.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

from tests.fuzz.registry import targets  # noqa: E402
from tests.fuzz.workers import tallies  # noqa: E402

_HEAD = ("target", "inputs", "data", "our_errors", "failures", "worst_seconds", "worst_megabytes")


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--target", default="all", help="its name, the beginning of names, or all")
    parser.add_argument("--inputs", type=int, default=10_000, help="of each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes beside each other")
    parser.add_argument("--json", help="file for the rows")
    parser.add_argument("--keep", default="fuzz-failures", help="folder for inputs that fail")
    asked = parser.parse_args()
    names = [name for name in targets() if asked.target == "all" or name.startswith(asked.target)]
    if not names:
        print(f"no target begins with {asked.target!r}; there are: {', '.join(targets())}", file=sys.stderr)
        return 2
    rows: list[dict[str, object]] = []
    print(f"{_HEAD[0]:28s}" + "".join(f"{name:>16s}" for name in _HEAD[1:]), flush=True)
    with tempfile.TemporaryDirectory(prefix="stablelit-fuzz-", dir=_in_memory()) as scratch:
        # the last ones compose configurations, which takes longest
        for result in tallies(names[::-1], asked.inputs, asked.seed, Path(scratch), Path(asked.keep), asked.jobs):
            rows.append(result.row())
            print(f"{result.name:28s}" + "".join(f"{rows[-1][column]!s:>16s}" for column in _HEAD[1:]), flush=True)
            for number, outcome in result.failures[:5]:
                print(f"    input {number}: {outcome.kind}: {outcome.told[:300]!r}", flush=True)
    rows.sort(key=lambda row: names.index(str(row["target"])))
    if asked.json:
        Path(asked.json).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    failed = sum(int(str(row["failures"])) for row in rows)
    print(f"{len(rows)} targets, {sum(int(str(row['inputs'])) for row in rows)} inputs, {failed} failures")
    return 1 if failed else 0


def _in_memory() -> str | None:
    """Where files are that no disk has to write, if there is such a place."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


if __name__ == "__main__":
    sys.exit(main())
