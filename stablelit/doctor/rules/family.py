"""Rules about family."""

from __future__ import annotations

from stablelit.doctor.rule import Rule

FAMILY_RULES: tuple[Rule, ...] = ()
