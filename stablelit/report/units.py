"""How numbers are written in a report, and what unit a logged name has."""

from __future__ import annotations

import math
import re

# by the words of a name; the first that fits
_UNITS: tuple[tuple[str, str], ...] = (
    (r"(^|/)lr(/|$|-)|learning_rate", ""),
    (r"_rad(_|$)|angular_error", "rad"),
    (
        r"(^|/)kl/(raw|target)$|(^|[/_])kl$|(^|[/_])(kl|kld)_?(loss|div)?$|kl_per_dim|mutual_information|marginal_kl",
        "nats",
    ),
    (r"/(nll|neg_elbo)(_|$)", "nats"),
    (r"_s(_p\d+)?$|seconds", "s"),
    (r"_gib$", "GiB"),
    (r"items_per_s|samples_per_s", "per second"),
    (r"_(frac|ratio|share|rate)$|share/|coverage|/(f1|precision|recall|accuracy)|top1|_chance$", "share, 0 to 1"),
)


def unit_of(name: str) -> str:
    """The unit of a logged name of ours, by DESIGN's rule that it is in the name; empty where there is none.

    >>> unit_of("val/angular_error_mean_rad"), unit_of("kl/raw"), unit_of("train/loss")
    ('rad', 'nats', '')
    """
    return next((unit for pattern, unit in _UNITS if re.search(pattern, name)), "")


def number(value: object) -> str:
    """A number in four digits, as it is read: 102.97 is 103, 0.00086 is 8.6e-04, a count stays whole.

    >>> [number(v) for v in (102.973, 0.000863, 12.0, 1234567, float("nan"), "nan", None)]
    ['103', '0.000863', '12', '1,234,567', 'not a number', 'not a number', '–']
    """
    if value is None:
        return "–"
    try:
        known = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return str(value)
    if math.isnan(known):
        return "not a number"
    if math.isinf(known):
        return "∞" if known > 0 else "−∞"
    if known == int(known) and abs(known) < 1e9:
        return f"{int(known):,}".replace("-", "−")
    return f"{known:.4g}".replace("-", "−") if abs(known) < 1e5 else f"{known:.3g}".replace("e+0", "e")


def duration(seconds: float) -> str:
    """A time as one says it.

    >>> [duration(s) for s in (0.42, 7.3, 134.8, 5025, 200000)]
    ['0.4 s', '7.3 s', '2 min 15 s', '1 h 23 min', '2 d 7 h']
    """
    if not math.isfinite(seconds):
        return "an unknown time"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


def counted(count: int, what: str) -> str:
    """``1 epoch``, ``12 epochs``."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"
