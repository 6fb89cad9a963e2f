"""A rule: what it needs to look at, and the finding it makes of that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

from stablelit.doctor.evidence import Evidence
from stablelit.findings import Finding


class Rank(IntEnum):
    """What comes first among causes: that which explains the others."""

    DATA = 10
    STRUCTURE = 20
    LOSS_MADE_WRONG = 25
    SCALE = 30
    SETTINGS = 40
    FAMILY = 50
    PROPAGATION = 60
    STEP_SIZE = 70
    FIT = 80
    SYMPTOM = 90


@dataclass(frozen=True)
class Rule:
    """One cause, and how it is told.

    Args:
        name: of its finding, in kebab case.
        rank: where it stands among causes.
        needs: parts of the evidence without which it cannot be checked: ``curves.loss``, ``parameters``.
        check: a pure function of the evidence: the finding, or None.
        kind: ``structural`` is exact and is reported at once; a ``curve`` has to be seen twice in a row; ``family`` is
            told by a monitor of its own.
        explains: names of findings that follow from this one, and are not told beside it; ``*`` is every curve.
        about: one line for the table of rules.
    """

    name: str
    rank: Rank
    needs: tuple[str, ...]
    check: Callable[[Evidence], Finding | None]
    kind: Literal["structural", "curve", "family"] = "structural"
    explains: tuple[str, ...] = ()
    about: str = ""

    def can_check(self, evidence: Evidence) -> bool:
        """Whether the evidence has what this rule needs."""
        return all(evidence.has(need) for need in self.needs)

    def missing(self, evidence: Evidence) -> tuple[str, ...]:
        """What it needs and is not there."""
        return tuple(need for need in self.needs if not evidence.has(need))

    def answer(self, evidence: Evidence) -> Finding | str | None:
        """What the check says; a text where it raises: a rule must not end what it has not understood."""
        try:
            return self.check(evidence)
        except Exception as error:
            return f"an answer: {type(error).__name__}: {error}"
