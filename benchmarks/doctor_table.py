"""From runs to what is claimed of the doctor: recall, the right cause first, false alarms, delay, repair."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from benchmarks.doctor_delay import seen_from
from benchmarks.doctor_runs import FaultRun, HealthyRun
from benchmarks.rows import Row

HURTS = 0.05


def share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags) if flags else float("nan")


def fault_rows(runs: Sequence[FaultRun]) -> Iterator[Row]:
    if not runs:
        return
    n, kinds = len(runs), len({run.name for run in runs})
    found = [run for run in runs if run.found]
    yield Row(f"recall, over {kinds} faults", share([run.found for run in runs]), "", 0.95, "higher", repeats=n)
    yield Row("the right cause first", share([run.named_first for run in runs]), "", 0.85, "higher", repeats=n)
    yield Row("the right cause at all", share([run.named_at_all for run in runs]), "", repeats=n)
    told = statistics.mean(len(run.run.findings) for run in found) if found else 0.0
    yield Row("findings in a faulty run that has any", told, "", 1.3, repeats=len(found))
    delays = [run.delay for run in runs if run.delay is not None]
    if delays:
        label = "delay where looking inside shows it, median"
        yield Row(label, statistics.median(delays), "steps", 1, repeats=len(delays))
        within = share([delay <= 1 for delay in delays])
        yield Row("    of these within one step", within, "", repeats=len(delays))
    others = [run for run in runs if run.visible is None]
    late = [run.told_at / max(1, run.run.steps) for run in others if run.told_at is not None]
    if late:
        yield Row("when the others are told, median", statistics.median(late), "of the run", repeats=len(late))
    yield from curve_rows(others, runs)
    tried = [run for run in runs if run.repaired_harm is not None]
    hurting = [run for run in runs if run.harm > HURTS and run.found]
    if tried:
        label = "repaired by what is named first, of harmful runs with a finding"
        yield Row(label, share([run.mended for run in hurting]), "", 0.8, "higher", repeats=len(hurting))


def curve_rows(others: Sequence[FaultRun], runs: Sequence[FaultRun]) -> Iterator[Row]:
    """Of faults that only time shows: steps from where the curve has left the healthy runs' to where it is told."""
    healthy: dict[str, dict[int, list[float]]] = defaultdict(dict)
    for run in runs:
        if run.healthy_losses:
            healthy[run.variant.base][run.seed] = run.healthy_losses
    seen = [(run, seen_from(run.run.losses, list(healthy[run.variant.base].values()))) for run in others]
    delays = [max(0, run.told_at - step) for run, step in seen if step is not None and run.told_at is not None]
    if delays:
        label = "delay where the loss curve shows it, median"
        yield Row(label, statistics.median(delays), "steps", 50, repeats=len(delays))
        earlier = share([step is None or run.told_at <= step for run, step in seen if run.told_at is not None])
        yield Row("    told before the curve shows it, or where it never does", earlier, "", repeats=len(others))
        longest = max(delays)
        yield Row("    the longest", longest, "steps", repeats=len(delays))


def healthy_rows(runs: Sequence[HealthyRun]) -> Iterator[Row]:
    if not runs:
        return
    alarms = [run for run in runs if run.run.findings]
    kinds = len({run.name for run in runs})
    label = f"runs with a false alarm, of {kinds} healthy configurations"
    yield Row(label, share([bool(run.run.findings) for run in runs]), "", 0.02, repeats=len(runs))
    noted = share([bool(run.run.notes) for run in runs])
    yield Row("healthy runs with a note", noted, "", repeats=len(runs))
    for name, count in Counter(name for run in alarms for name in run.run.names).most_common():
        where = ", ".join(sorted({run.name for run in alarms if name in run.run.names}))
        yield Row(f"    {name}: {where}"[:100], count, "runs", repeats=len(runs))


def margins(faulty: Sequence[FaultRun], healthy: Sequence[HealthyRun]) -> list[str]:
    """Numbers of findings of one name: those of runs that have the fault, and of healthy ones, notes included."""
    values: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for kind, runs in (("faulty", faulty), ("healthy", healthy)):
        for run in runs:
            for finding in run.run.findings + run.run.notes:
                if kind == "faulty" and finding.name not in run.accepted:
                    continue
                for key, value in finding.evidence.items():
                    if isinstance(value, int | float):
                        values[finding.name, key][kind].append(float(value))
    lines = []
    for (name, key), of_kind in sorted(values.items()):
        bad, good = (
            f"{min(v):.4g} .. {max(v):.4g}" if (v := of_kind.get(kind)) else "-" for kind in ("faulty", "healthy")
        )
        lines.append(f"{name:<34}{key:<30}{bad:>26}{good:>26}")
    return lines


def fault_line(run: FaultRun) -> str:
    sign = "ok  " if run.named_first else "late" if run.named_at_all else "WRONG" if run.found else "MISS"
    names = ", ".join(f"{f.name}@{f.step}" for f in run.run.findings) or "-"
    mended = "" if run.repaired_harm is None else f" repaired {run.repaired_harm:.2f}"
    hurts = "" if run.harm > HURTS else " (does not hurt)"
    return f"{sign:<6}{run.name:<36} seed {run.seed:<4} harm {run.harm:5.2f}{mended}{hurts}  {names}{error_of(run)}"


def healthy_line(run: HealthyRun) -> str:
    sign = "ALARM" if run.run.findings else "ok"
    learns = "" if run.run.true >= run.learns else f" (DOES NOT LEARN: {run.learns})"
    names = ", ".join(f"{f.name}@{f.step}" for f in run.run.findings) or "-"
    return f"{sign:<6}{run.name:<36} seed {run.seed:<4} score {run.run.true:5.2f}{learns}  {names}{error_of(run)}"


def error_of(run: FaultRun | HealthyRun) -> str:
    return f"  raised {run.run.error.splitlines()[0][:150]}" if run.run.error else ""
