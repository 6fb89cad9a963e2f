"""What TrainingDoctor says of runs that fail in known ways, and of runs that learn.

    python -m benchmarks.doctor                              the report: held-out seeds, variants, faults
    python -m benchmarks.doctor --tune                       what thresholds may be chosen on: seeds 0-2, mild
    python -m benchmarks.doctor --tune --faults uphill       one fault, with the messages of what is found
    python -m benchmarks.doctor --tune --healthy easy,tied   healthy runs, with what is said of them
    python -m benchmarks.doctor --list                       all names, with the names of findings that are accepted

TOY data: generated; a run takes 150 to 480 steps of a small network. A fault is a healthy configuration with one
override (`doctor_faults.py`). *harm* is what is lost against the healthy run of the same seed, in the true score or in
what the project tells of it; *repaired* is what is still lost when what the doctor names first is changed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import doctor_cost
from benchmarks.doctor_faults import FAULTS
from benchmarks.doctor_healthy import HEALTHY
from benchmarks.doctor_runs import FaultRun, HealthyRun, Outcome, reference, run_fault, run_healthy
from benchmarks.doctor_table import error_of, fault_line, fault_rows, healthy_line, healthy_rows, margins
from benchmarks.rows import line, quiet
from stablelit.errors import did_you_mean

HELD_OUT_SEED = 100
MESSAGES = 3


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.doctor", description=__doc__.splitlines()[0])
    parser.add_argument("--tune", action="store_true", help="seeds from 0 and mild variants, instead of the held-out")
    parser.add_argument("--faults", metavar="NAME,..", help="only these faults (none where --healthy alone is given)")
    parser.add_argument("--healthy", metavar="NAME,..", help="only these healthy configurations; all: every one")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="seeds of each")
    parser.add_argument("--first-seed", type=int, metavar="N", help="instead of 0 or 100")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes")
    parser.add_argument("--no-repair", action="store_true", help="leave the repaired runs out")
    parser.add_argument("--no-cost", action="store_true", help="leave the cost out")
    parser.add_argument("--messages", action="store_true", help="what is said in every run, also of many")
    parser.add_argument("--list", action="store_true", help="names, and nothing else")
    parser.add_argument("--json", metavar="FILE", help="rows and runs as JSON")
    return parser.parse_args()


def chosen(given: str | None, known: Iterable[str], wanted: bool) -> list[str]:
    """Names that were asked for; all, or none where only the other kind was asked for."""
    known = list(known)
    if given in (None, "all"):
        return known if wanted or given == "all" else []
    names = [name.strip() for name in str(given).split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise SystemExit(f"{name}: no such name. {did_you_mean(name, known)}")
    return names


def done_in(jobs: int, work: Callable[[Any], Any], items: list[Any]) -> Iterator[Any]:
    if jobs <= 1 or len(items) < 2:
        yield from map(work, items)
        return
    with multiprocessing.get_context("spawn").Pool(jobs, quiet) as pool:
        yield from pool.imap(work, items)


def one_fault(item: tuple[str, int], tune: bool, repair: bool) -> FaultRun | None:
    return run_fault(*item, tune=tune, repair=repair)


def one_healthy(item: tuple[str, int]) -> HealthyRun:
    return run_healthy(*item)


def messages(run: Outcome) -> str:
    """What was said, and the curves that the doctor has seen, in blocks."""
    said = [f"        {finding} {finding.evidence}" for finding in run.findings + run.notes]
    seen = [
        f"        {name:<13}" + " ".join(f"{value:>9.3g}" for value in values)
        for name, values in run.curves.items()
        if values
    ]
    return "\n".join(said + seen)


def print_runs(options: argparse.Namespace) -> tuple[list[FaultRun], list[HealthyRun]]:
    """A line for every run as it is done, with messages where few were asked for."""
    alone = options.faults is not None or options.healthy is not None
    faults = chosen(options.faults, FAULTS, not alone)
    healthy = chosen(options.healthy, [k for k, v in HEALTHY.items() if not (options.tune and v.held_out)], not alone)
    first = options.first_seed if options.first_seed is not None else 0 if options.tune else HELD_OUT_SEED
    seeds = range(first, first + options.seeds)
    tells = options.messages or (alone and len(faults) + len(healthy) <= MESSAGES)
    faulty_runs, healthy_runs = [], []
    work = partial(one_fault, tune=options.tune, repair=not options.no_repair)
    for faulty in done_in(options.jobs, work, [(name, seed) for name in faults for seed in seeds]):
        if faulty is None:
            continue
        faulty_runs.append(faulty)
        print(fault_line(faulty), flush=True)
        if tells:
            healthy_score = reference(faulty.variant.base, faulty.seed).true
            print(f"    {faulty.variant.base} with {faulty.variant.override}: score {faulty.run.true:.3f}, healthy ")
            print(f"    {healthy_score:.3f}; told {faulty.run.told:.3f}; accepted: {', '.join(faulty.accepted)}")
            print(messages(faulty.run), flush=True)
    for well in done_in(options.jobs, one_healthy, [(name, seed) for name in healthy for seed in seeds]):
        healthy_runs.append(well)
        print(healthy_line(well), flush=True)
        if (tells or well.run.findings) and (said := messages(well.run)):
            print(said, flush=True)
    return faulty_runs, healthy_runs


def main() -> int:
    options = arguments()
    quiet()
    if options.list:
        for name, fault in FAULTS.items():
            held = "" if fault.mild else "  (only reported)"
            print(f"fault    {name:<38}{', '.join(fault.accepted)}{held}")
        for name, config in HEALTHY.items():
            print(f"healthy  {name:<38}{'(only reported)' if config.held_out else ''}")
        return 0
    faulty, healthy = print_runs(options)
    rows = [*fault_rows(faulty), *healthy_rows(healthy)]
    if options.faults is None and options.healthy is None and not options.no_cost:
        rows += doctor_cost.rows()
    print()
    for row in rows:
        print(line(row))
    if len(faulty) + len(healthy) > MESSAGES * options.seeds:
        print(f"\n{'finding':<34}{'evidence':<30}{'with the fault':>26}{'healthy (notes too)':>26}")
        print("\n".join(margins(faulty, healthy)))
    if options.json:
        written = [{**asdict(row), "ok": row.ok} for row in rows]
        runs = [
            {
                "run": run.name,
                "seed": run.seed,
                "findings": run.run.names,
                "score": run.run.true,
                "error": error_of(run),
            }
            for run in (*faulty, *healthy)
        ]
        Path(options.json).write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
        Path(options.json).with_suffix(".runs.json").write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")
    return 0 if all(row.ok for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
