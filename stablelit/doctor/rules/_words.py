"""How numbers and names are said in a finding."""

from __future__ import annotations

from collections.abc import Sequence


def shown(value: float) -> str:
    """Three digits."""
    return f"{value:.3g}"


def one_digit(value: float) -> float:
    """The nearest number with one digit: nobody knows a rate better."""
    return float(f"{value:.0e}")


def first_of(names: Sequence[str]) -> str:
    """The first two of these, and whether there are more."""
    return ", ".join(names[:2]) + (", ..." if len(names) > 2 else "")
