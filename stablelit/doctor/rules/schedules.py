"""Rules about schedules."""

from __future__ import annotations

from stablelit.doctor.rule import Rule

SCHEDULE_RULES: tuple[Rule, ...] = ()
