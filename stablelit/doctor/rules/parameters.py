"""Rules about parameters."""

from __future__ import annotations

from stablelit.doctor.rule import Rule

PARAMETER_RULES: tuple[Rule, ...] = ()
