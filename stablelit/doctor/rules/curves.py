"""Rules about curves."""

from __future__ import annotations

from stablelit.doctor.rule import Rule

CURVE_RULES: tuple[Rule, ...] = ()
