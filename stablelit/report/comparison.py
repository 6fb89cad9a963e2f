"""What several runs have in common, in what they differ, and which of them are seeds of one another."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stablelit.report.run_record import Plain, RunRecord

# of a directory, of a command line, or of Hydra: they differ where nothing of the training does
_NOT_OF_THE_TRAINING = ("run_dir", "runs", "resume", "test", "report", "weights", "model_summary")
_LONGEST_LABEL = 28


@dataclass
class Group:
    """Runs that differ in nothing but the seed.

    Args:
        label: how it is called in pictures and tables.
        records: its runs.
    """

    label: str
    records: list[RunRecord]

    @property
    def best(self) -> float | None:
        """The median of the objective's best values over the seeds."""
        held = [r.best for r in self.records if r.best is not None and math.isfinite(r.best)]
        return statistics.median(held) if held else None


def differing_settings(records: Sequence[RunRecord]) -> tuple[dict[str, list[Plain | None]], list[str]]:
    """The values of every setting in which runs differ, run by run, and the names of those in which they do not."""
    names = dict.fromkeys(name for record in records for name in record.settings if _is_of_the_training(name))
    differing: dict[str, list[Plain | None]] = {}
    equal = []
    for name in names:
        values = [record.settings.get(name) for record in records]
        if all(_same(value, values[0]) for value in values[1:]):
            equal.append(name)
        else:
            differing[name] = values
    return differing, equal


def is_seed(name: str) -> bool:
    """Whether a setting is a seed, `seed` or `data.seed`."""
    return name.rpartition(".")[2] == "seed"


def groups_of(records: Sequence[RunRecord], best_first: bool = True) -> list[Group]:
    """Runs by what they differ in beside seeds; the best first, or in the order in which they were given."""
    differing, _ = differing_settings(records)
    of_training = {name: values for name, values in differing.items() if not is_seed(name)}
    # runs that say nothing of their settings are nobody's seeds
    known = [bool(record.settings) for record in records]
    held: dict[tuple[object, ...], list[int]] = {}
    for place, record in enumerate(records):
        values = tuple(setting_word(values[place]) for values in of_training.values())
        key = (record.name, *values) if known[place] else (place,)
        held.setdefault(key, []).append(place)
    labels = _labels(records, list(held.values()), of_training)
    groups = [
        Group(label, [records[place] for place in places]) for label, places in zip(labels, held.values(), strict=True)
    ]
    if not best_first:
        return groups
    return sorted(groups, key=lambda group: best_first_key(group.best, records[0].mode))


def best_first_key(best: float | None, mode: str) -> float:
    """By which what has the best objective comes first, and what has none last."""
    return math.inf if best is None else -best if mode == "max" else best


def run_names(records: Sequence[RunRecord]) -> list[str]:
    """A short name for each, different from all others: what of their paths is not the same for all."""
    paths = [record.place.resolve() for record in records]
    if len(paths) == 1:
        return [paths[0].name]
    common = Path(os.path.commonpath([str(path.parent) for path in paths]))
    return [str(path.relative_to(common)) for path in paths]


def one_family(records: Sequence[RunRecord]) -> bool:
    """Whether the curves of these runs may be laid over one another: one kind of model, judged by one metric."""
    families = {record.family for record in records}
    return len(families) == 1 and len({(record.metric, record.mode) for record in records}) == 1


def _labels(
    records: Sequence[RunRecord], places: Sequence[Sequence[int]], differing: dict[str, list[Plain | None]]
) -> list[str]:
    first = [held[0] for held in places]
    told = {name: values for name, values in differing.items() if len({setting_word(values[p]) for p in first}) > 1}
    named = len({records[p].name for p in first}) == len(first)
    if named and len(first) > 1:
        return [records[p].name for p in first]
    if 1 <= len(told) <= 2:
        keys = {name: name.rpartition(".")[2] for name in told}
        labels = [", ".join(f"{key}={setting_word(told[name][p])}" for name, key in keys.items()) for p in first]
        if max(map(len, labels)) <= _LONGEST_LABEL and len(set(labels)) == len(labels):
            return labels
    names = run_names(records)
    return [names[p] for p in first]


def _is_of_the_training(name: str) -> bool:
    lead = name.partition(".")[0]
    return name not in _NOT_OF_THE_TRAINING and lead not in ("hydra", "defaults") and not name.endswith(".defaults")


def _same(one: Plain | None, other: Plain | None) -> bool:
    return one == other or (one != one and other != other)


def setting_word(value: Plain | None) -> str:
    """A setting's value as it stands in a table."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else f"{value:.6g}"
