"""Rules about operations."""

from __future__ import annotations

from stablelit.doctor.rule import Rule

OPERATION_RULES: tuple[Rule, ...] = ()
