"""What InputPipelineMonitor says of what limits a run, and the settings that it proposes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stablelit.callbacks._loader_advice import loader_hint
from stablelit.findings import Finding
from stablelit.functional.throughput import Verdict

_REMEDIES = {
    "host-bound": "vectorise Python loops in the step, log less often, avoid .item() and .cpu(), torch.compile; "
    "a larger model only hides it",
    "compute-bound": "a lower precision, torch.compile, a larger batch",
    "padding": "batch samples of like length: LengthBucketBatchSampler",
}


def limit_finding(trainer: Any, found: Verdict, values: Mapping[str, float], seconds_waited: float) -> Finding:
    """The verdict with its numbers and the setting to try.

    Args:
        trainer: whose loaders the advice is about.
        found: the verdict.
        values: that are known of the steps, by name.
        seconds_waited: for a batch, on average.
    """
    evidence: dict[str, float | int | str] = {name: round(value, 4) for name, value in values.items()}
    remedy = _REMEDIES.get(found.limit) or loader_hint(trainer, seconds_waited)
    return Finding(found.limit, "warning", found.sentence + ".", evidence, remedy)


def no_verdict(seen: int, warmup: int, counted: int, enough: int) -> Finding:
    """A run that ended before anything could be said of it."""
    return Finding(
        "no-verdict",
        "info",
        f"the run was too short to say what limits it: of {seen} batches {counted} were counted behind a warm-up of "
        f"{warmup}, and a verdict takes {enough}.",
        {"batches": seen, "warmup_steps": warmup, "counted": counted, "min_steps": enough},
        "train for longer, or a smaller warmup_steps or min_steps of InputPipelineMonitor",
    )
