"""The same problem in twelve jobs, told once, with what causes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stablelit.run.problems import Problem
from stablelit.run.sweep.plan import SweepJob, SweepPlan

_JOBS_SHOWN = 8


def told_once(problems: Mapping[int, Sequence[Problem]], plan: SweepPlan) -> list[str]:
    """One text for each distinct problem, in the order of the first job that has it.

    Args:
        problems: of each job, by its number.
        plan: the jobs.
    """
    jobs_with: dict[tuple[str, str, str], list[int]] = {}
    values: dict[tuple[str, str, str], list[str]] = {}
    for number in sorted(problems):
        for problem in problems[number]:
            same = (problem.key, problem.what, problem.remedy)
            numbers, texts = jobs_with.setdefault(same, []), values.setdefault(same, [])
            numbers += [number] if number not in numbers else []
            texts += [str(problem)] if str(problem) not in texts else []
    return [f"{values[same][0]}\n    {_where(numbers, plan)}" for same, numbers in jobs_with.items()]


def swept_values(job: SweepJob, plan: SweepPlan) -> tuple[str, ...]:
    """The overrides in which this job differs from others."""
    return tuple(o for o in job.overrides if o.partition("=")[0] in plan.swept)


def _where(numbers: Sequence[int], plan: SweepPlan) -> str:
    if not plan.swept:
        return "in the only job" if len(plan.jobs) == 1 else "in every job"
    if len(numbers) == len(plan.jobs):
        return f"in all {len(numbers)} jobs" if plan.complete else "whatever the sweeper chooses"
    cause = _cause(set(numbers), plan)
    if not plan.complete:
        return f"with {cause}" if cause else f"with {', '.join(swept_values(plan.jobs[numbers[0]], plan))}"
    which = _listed(numbers)
    return (
        f"in {which}, with {cause}" if cause else f"in {which}: {', '.join(swept_values(plan.jobs[numbers[0]], plan))}"
    )


def _cause(numbers: set[int], plan: SweepPlan) -> str:
    """The values that these jobs have and no other: of one key if that is enough, else of two."""
    values = {job.number: swept_values(job, plan) for job in plan.jobs}
    mine = dict.fromkeys(value for number in sorted(numbers) for value in values[number])
    # all values of one key that are in no other job
    for key in plan.swept:
        own = [v for v in mine if v.partition("=")[0] == key]
        if {n for n in values if set(own) & set(values[n])} == numbers:
            return " or ".join(own)
    shared = [v for v in mine if all(v in values[number] for number in numbers)]
    for i, first in enumerate(shared):
        for second in shared[i + 1 :]:
            if {n for n in values if first in values[n] and second in values[n]} == numbers:
                return f"{first} and {second}"
    return ", ".join(shared) if shared and {n for n in values if set(shared) <= set(values[n])} == numbers else ""


def _listed(numbers: Sequence[int]) -> str:
    if len(numbers) == 1:
        return f"job {numbers[0]}"
    shown = ", ".join(map(str, numbers[:_JOBS_SHOWN]))
    return f"{len(numbers)} jobs ({shown}{', ...' if len(numbers) > _JOBS_SHOWN else ''})"
