"""Rules about layers."""

from __future__ import annotations

from stablelit.doctor.rule import Rule

LAYER_RULES: tuple[Rule, ...] = ()
