"""Rules about data."""

from __future__ import annotations

from stablelit.doctor.rule import Rule

DATA_RULES: tuple[Rule, ...] = ()
