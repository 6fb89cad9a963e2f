"""All targets, imported when they are asked for: a family at a time is quick to begin."""

from __future__ import annotations

import importlib
from functools import cache

from tests.fuzz.target import Target

ROOMS = ("sketch", "jet", "causal", "neutrino", "protein", "log", "run")


@cache
def targets(*rooms: str) -> dict[str, Target]:
    """The targets of these rooms, or of all, by name."""
    every = [t for room in rooms or ROOMS for t in importlib.import_module(f"tests.fuzz.{room}_targets").TARGETS]
    return {target.name: target for target in every}
