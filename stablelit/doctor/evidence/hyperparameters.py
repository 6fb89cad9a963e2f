"""Looks a hyperparameter up by the names that people give it."""

from __future__ import annotations

import math
from collections.abc import Iterable

from stablelit.doctor.evidence.settings import Settings
from stablelit.run_files import float_of


def number_named(settings: Settings, names: Iterable[str]) -> tuple[str, float] | None:
    """The key and value of the first hyperparameter whose last part is one of the names, and that is a number.

    Args:
        settings: any; those without hyperparameters know nothing.
        names: in the order in which they are looked for, in lower case.
    """
    held = settings.hyperparameters
    by_leaf: dict[str, str] = {}
    for key in held:
        by_leaf.setdefault(key.rpartition(".")[2].lower(), key)
    for name in names:
        key = by_leaf.get(name, "")
        value = held.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            number = float_of(value)
            # what is not finite plans nothing
            return (key, number) if math.isfinite(number) else None
    return None
