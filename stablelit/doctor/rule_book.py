"""What has been found so far: rules are asked, what they find is kept, and what is new is handed out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from stablelit.doctor.diagnosis import Diagnosis, rank
from stablelit.doctor.evidence import Evidence
from stablelit.doctor.rule import Rule
from stablelit.findings import Finding


class RuleBook:
    """Asks the rules of a run that goes on, and keeps what they have found.

    A rule that has found something is not asked again. One of kind ``curve`` has to find it at two judgements in a row.

    Args:
        rules: in the order of their ranks.
        mute: names of those that are left out.
    """

    def __init__(self, rules: Sequence[Rule], mute: Sequence[str] = ()) -> None:
        self.rules, self.mute = tuple(rules), frozenset(mute)
        self.found: dict[str, Finding] = {}
        self._pending: set[str] = set()

    def begin(self) -> None:
        """A new run."""
        self.found, self._pending = {}, set()

    def judge(self, evidence: Evidence, structural: bool) -> list[Finding]:
        """What is found and was not before.

        Args:
            evidence: as it stands.
            structural: asks only the rules that are exact.
        """
        seen: set[str] = set()
        new: list[Finding] = []
        for rule in self.rules:
            if rule.name in self.found or rule.name in self.mute or (structural and rule.kind == "curve"):
                continue
            finding = rule.check(evidence) if rule.can_check(evidence) else None
            if finding is None:
                continue
            seen.add(rule.name)
            if rule.kind != "curve" or rule.name in self._pending:
                self.found[finding.name] = finding
                new.append(finding)
        if not structural:
            self._pending = seen
        return new

    def diagnosis(self, evidence: Evidence) -> Diagnosis:
        """All that was found, ranked; what other callbacks have found among it."""
        heard = [f for f in evidence.raised if f.name not in self.mute and f.name not in self.found]
        told, consequences, notes = rank([*self.found.values(), *heard], self.rules)
        found = {f.name for f in (*told, *consequences, *notes)}
        quiet = [rule for rule in self.rules if rule.name not in self.mute and rule.name not in found]
        unchecked = {
            rule.name: tuple(need for need in rule.needs if not evidence.has(need))
            for rule in quiet
            if not rule.can_check(evidence)
        }
        passed = tuple(rule.name for rule in quiet if rule.name not in unchecked)
        return Diagnosis(told, consequences, notes, passed, unchecked)

    def state_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"found": [asdict(finding) for finding in self.found.values()], "pending": sorted(self._pending)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes it up."""
        self.found = {data["name"]: Finding(**data) for data in state["found"]}
        self._pending = set(state["pending"])
