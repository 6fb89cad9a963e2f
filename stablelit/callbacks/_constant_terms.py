"""A part of the loss that nothing can lower: without a gradient, or the same in every batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stablelit.callbacks._posterior_sums import FEWEST_BATCHES
from stablelit.callbacks._ranks import gather_from_ranks
from stablelit.callbacks._reach_answers import ReachAnswers, ReachLine
from stablelit.errors import ContractError
from stablelit.findings import Finding

DOMINANT_SHARE = 0.9
# ten times the rounding of a mean in float32; numbers that come from data differ by far more between batches
_ROUNDING = 1e-6
_REMEDY = "compute it differentiably (without .long(), round, .item() or .detach() on its way), or leave it out"


def without_gradient(trainer: Any, pl_module: Any, outputs: Any, owner: str) -> Finding | None:
    """Of one live step: a component of at least nine tenths of the loss that sends a gradient into no parameter.

    Every rank must call it. A step that cannot be looked into says nothing.
    """
    try:
        lines: list[ReachLine] = ReachAnswers(pl_module, outputs, [], DOMINANT_SHARE, owner).plain()["dominant"]
    except ContractError:
        lines = []
    ranks: Sequence[Sequence[ReachLine]] = gather_from_ranks(trainer, lines)
    for line in lines:
        if all(line.component in {other.component for other in rank} for rank in ranks):
            share = 100 * line.share
            return Finding(
                "constant-loss-term",
                "critical",
                f"{line.component!r} is {share:.5g} % of the loss and sends a gradient into no parameter "
                f"({line.reach.state}): the loss cannot fall below it, whatever the rest learns.",
                {"component": line.component, "share": line.share, "state": line.reach.state},
                _REMEDY,
            )
    return None


def without_motion(train: Mapping[str, Any]) -> Finding | None:
    """Of the sums of an epoch (see `_posterior_sums.merged`): such a component that was the same in every batch."""
    mean, low, high = train["mean"], train["low"], train["high"]
    loss = abs(mean.get("loss", 0.0))
    if train["n"] < FEWEST_BATCHES or loss == 0.0:
        return None
    for name, value in mean.items():
        share = abs(value) / loss
        if name == "loss" or name.startswith("~") or not DOMINANT_SHARE <= share <= 1.0 + 1e-3:
            continue
        if high[name] - low[name] <= _ROUNDING * abs(value):
            return Finding(
                "constant-loss-term",
                "critical",
                f"{name!r} is {100 * share:.5g} % of the loss and was {value:.7g} in each of {train['n']} batches: "
                f"it depends neither on the data nor on what was learned.",
                {"component": name, "share": share, "value": value, "batches": train["n"]},
                _REMEDY,
            )
    return None
