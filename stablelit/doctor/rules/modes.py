"""Rules about training and evaluation mode."""

from __future__ import annotations

from stablelit.doctor.rule import Rule

MODE_RULES: tuple[Rule, ...] = ()
