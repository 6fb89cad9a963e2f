"""Settings that came with a run's logs: beside those that have a field, all that were written down."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from stablelit.doctor.evidence.settings import Settings

Plain = float | int | str | bool


@dataclass
class LoggedSettings(Settings):
    """Settings and every hyperparameter that was found.

    Args:
        hyperparameters: flat, by dotted key: ``{"model.latent_dim": 128}``.
    """

    hyperparameters: dict[str, Plain] = field(default_factory=dict)


def number_named(settings: Settings, names: Iterable[str]) -> tuple[str, float] | None:
    """The key and value of the first hyperparameter whose last part is one of the names, and that is a number.

    Args:
        settings: any; those without hyperparameters know nothing.
        names: in the order in which they are looked for, in lower case.
    """
    held: dict[str, Plain] = getattr(settings, "hyperparameters", None) or {}
    by_leaf: dict[str, str] = {}
    for key in held:
        by_leaf.setdefault(key.rpartition(".")[2].lower(), key)
    for name in names:
        key = by_leaf.get(name, "")
        value = held.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return key, float(value)
    return None
