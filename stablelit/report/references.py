"""What a score is to be held against: names that belong to another name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

ERROR_ENDINGS = ("_std", "_se")
"""`test/mass_w1_std` is the standard error of `test/mass_w1`."""

INTERVAL_ENDING = "_interval"
"""`test/accuracy_interval` is half of the 95 % interval of `test/accuracy`."""

LEVELS = ("baseline", "chance", "floor", "truth", "empty", "null")
"""Endings of levels that say nothing of the model, and are told beside its score.

`test/mass_w1_floor` is what `test/mass_w1` is to be held against, `test/accuracy_chance` what guessing gives.
"""

LEVELS_IN_WORDS = {"null": "no information", "empty": "empty graph"}
"""What a reader is told where the ending says too little."""


@dataclass(frozen=True)
class Score:
    """A measured value with what belongs to it.

    Args:
        name: as it was logged.
        value: of the score.
        error: its standard error; None where unknown.
        interval: half of its 95 % interval; None where unknown.
        levels: by the ending, `baseline`, `chance`, ...
    """

    name: str
    value: float
    error: float | None = None
    interval: float | None = None
    levels: dict[str, float] = field(default_factory=dict)


def levels_of(name: str, names: Collection[str]) -> dict[str, str]:
    """The names of the levels of a score, by ending.

    `val/knn_top1` has `val/knn_chance` too, and `train/loss` has `train/chance`.

    >>> levels_of("val/nll", ["val/nll", "val/nll_truth", "val/nll_baseline", "val/loss_floor"])
    {'baseline': 'val/nll_baseline', 'truth': 'val/nll_truth'}
    """
    found = {}
    group, _, quantity = name.rpartition("/")
    lead = f"{group}/" if group else ""
    stem = quantity.rpartition("_")[0]
    for level in LEVELS:
        near = [f"{name}_{level}"]
        if quantity == "loss":
            near.append(f"{lead}{level}")
        elif stem and level == "chance":
            near.append(f"{lead}{stem}_{level}")
        # a level is not a level's level
        held = next((one for one in near if one in names and one != name), None)
        if held is not None and not is_level(name):
            found[level] = held
    return found


def is_level(name: str) -> bool:
    """Whether a name is that of a level, `val/nll_baseline`, `train/chance`."""
    quantity = name.rpartition("/")[2]
    return quantity in LEVELS or quantity.endswith(tuple(f"_{level}" for level in LEVELS))


def is_compared(name: str) -> bool:
    """Whether a curve is drawn as something to compare with: a level, or a target."""
    return is_level(name) or name.endswith("target")


def scores_of(metrics: Mapping[str, float]) -> list[Score]:
    """A score for each metric, with its error and levels taken out of the others."""
    taken: set[str] = set()
    found = []
    for name, value in metrics.items():
        if is_step_value(name, metrics) or is_of_another(name, metrics) or is_level(name):
            continue
        levels = levels_of(name, metrics.keys())
        taken.update(levels.values())
        error = next((metrics[name + end] for end in ERROR_ENDINGS if name + end in metrics), None)
        interval = metrics.get(name + INTERVAL_ENDING)
        found.append(Score(name, value, error, interval, {level: metrics[of] for level, of in levels.items()}))
    # a level of which nothing is a score is one itself
    alone = [n for n in metrics if is_level(n) and n not in taken and not is_of_another(n, metrics)]
    return [*found, *(Score(name, metrics[name]) for name in alone)]


def is_of_another(name: str, metrics: Collection[str]) -> bool:
    """Whether a name is the error, interval or level of one that is there."""
    endings = (*ERROR_ENDINGS, INTERVAL_ENDING, *(f"_{level}" for level in LEVELS))
    return any(name.endswith(end) and name[: -len(end)] in metrics for end in endings)


def is_step_value(name: str, metrics: Collection[str]) -> bool:
    """Whether a name is `<metric>_step` or `<metric>_epoch`: a metric logged both ways is there three times."""
    return name.endswith(("_step", "_epoch")) and name.rpartition("_")[0] in metrics
