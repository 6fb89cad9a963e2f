"""The verdict of `debug=quick` and `debug=overfit`: PASSED or FAILED, with the numbers."""

from __future__ import annotations

import math
import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

_KL_NAMES = ("val/kl", "train/kl")


@dataclass(frozen=True)
class Judgement:
    """One question and its answer; `passed` is None where there was nothing to judge."""

    question: str
    passed: bool | None
    detail: str


def judge(
    epochs: Sequence[Mapping[str, float]],
    limits: Mapping[str, float | None],
    *,
    metric: str,
    mode: str = "min",
    kl_target: float | None = None,
    latent_dim: int | None = None,
) -> list[Judgement]:
    """Judges a run by its epochs' metrics.

    Args:
        epochs: every epoch's metrics, in order.
        limits: `loss_falls_by` (share of the first value's size), `kl_at_least`, `kl_target_times` and
            `kl_per_dim_at_most` (nats); None asks nothing.
        metric: what must improve.
        mode: `min` if it must fall, `max` if it must rise.
        kl_target: what the KL was asked to be, nats.
        latent_dim: latent dimensions, for the bound where there is no target.
    """
    judgements = [_improved(epochs, metric, mode, limits.get("loss_falls_by") or 0.0)]
    bounds = [limits.get(name) for name in ("kl_at_least", "kl_target_times", "kl_per_dim_at_most")]
    if any(bound is not None for bound in bounds):
        judgements.append(_kl_in_bounds(epochs, bounds, kl_target, latent_dim))
    return [*judgements, _all_finite(epochs), Judgement("peak memory", None, f"{peak_memory_gib():.2f} GiB")]


def peak_memory_gib() -> float:
    """The most memory that this process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**30 if sys.platform == "darwin" else peak / 2**20


def print_verdict(judgements: Sequence[Judgement]) -> bool:
    """Prints the table; returns whether everything that was judged has passed."""
    passed = all(j.passed is not False for j in judgements)
    table = Table(title="PASSED" if passed else "FAILED", title_justify="left")
    for column in ("question", "answer", "numbers"):
        table.add_column(column)
    for judgement in judgements:
        answer = "" if judgement.passed is None else "yes" if judgement.passed else "NO"
        table.add_row(judgement.question, answer, judgement.detail)
    Console().print(table)
    return passed


def kl_target_of(callbacks: Mapping[str, Any] | None) -> float | None:
    """The KL that a callback of this configuration was asked to hold."""
    for node in (callbacks or {}).values():
        if node and node.get("kl_target") is not None:
            return float(node["kl_target"])
    return None


def _improved(epochs: Sequence[Mapping[str, float]], metric: str, mode: str, share: float) -> Judgement:
    verb = "fell" if mode == "min" else "rose"
    values = [epoch[metric] for epoch in epochs if metric in epoch]
    if len(values) < 2:
        return Judgement(f"{metric} {verb}", False, f"logged in {len(values)} epochs; two are needed")
    first, last = values[0], values[-1]
    gain = first - last if mode == "min" else last - first
    needed = share * abs(first)
    wanted = f", at least {needed:.4g} is asked" if needed else ""
    return Judgement(f"{metric} {verb}", gain > 0 and gain >= needed, f"{first:.4g} -> {last:.4g}{wanted}")


def _kl_in_bounds(
    epochs: Sequence[Mapping[str, float]],
    bounds: Sequence[float | None],
    kl_target: float | None,
    latent_dim: int | None,
) -> Judgement:
    at_least, target_times, per_dim = bounds
    name = next((n for n in _KL_NAMES if epochs and n in epochs[-1]), None)
    if name is None:
        return Judgement("KL in bounds", None, "no val/kl and no train/kl was logged")
    kl = epochs[-1][name]
    question = f"{name} in bounds"
    if not math.isfinite(kl):
        return Judgement(question, False, f"{kl}")
    if at_least is not None and kl < at_least:
        return Judgement(question, False, f"{kl:.3g} nats: collapsed, below {at_least:g}")
    highest, why = None, ""
    if kl_target is not None and target_times is not None:
        highest, why = target_times * kl_target, f"{target_times:g} times the target {kl_target:g}"
    elif latent_dim and per_dim is not None:
        highest, why = per_dim * latent_dim, f"{per_dim:g} nats for each of {latent_dim} dimensions"
    if highest is None:
        return Judgement(question, True, f"{kl:.4g} nats")
    return Judgement(question, kl <= highest, f"{kl:.4g} nats, at most {highest:.4g} ({why})")


def _all_finite(epochs: Sequence[Mapping[str, float]]) -> Judgement:
    bad = sorted({name for epoch in epochs for name, value in epoch.items() if not math.isfinite(value)})
    return Judgement("everything finite", not bad, ", ".join(bad) if bad else f"{len(epochs)} epochs")
