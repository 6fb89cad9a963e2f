"""What has been found so far: rules are asked, what they find is kept, and what is new is handed out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from stablelit.doctor.diagnosis import Diagnosis, rank
from stablelit.doctor.evidence import Evidence
from stablelit.doctor.rule import Rule
from stablelit.findings import Finding

# fewer steps apart, two judgements are of the same numbers: the last one of a run comes whenever it ends
_APART_STEPS = 10


class RuleBook:
    """Asks the rules of a run that goes on, and keeps what they have found.

    A rule that has found something is not asked again, unless that was a note, which may become a warning. One of kind
    ``curve`` has to find it at two judgements in a row, and at all that lie between two that are ten steps apart. One
    that raises is asked again at the next judgement, and until then counts as one that cannot be checked.

    Args:
        rules: in the order of their ranks.
        mute: names of those that are left out.
    """

    def __init__(self, rules: Sequence[Rule], mute: Sequence[str] = ()) -> None:
        self.rules, self.mute = tuple(rules), frozenset(mute)
        self.found: dict[str, Finding] = {}
        self.failed: dict[str, str] = {}
        self._pending: dict[str, int] = {}

    def begin(self) -> None:
        """A new run."""
        self.found, self.failed, self._pending = {}, {}, {}

    def judge(self, evidence: Evidence, structural: bool) -> list[Finding]:
        """What is found and was not before.

        Args:
            evidence: as it stands.
            structural: asks only the rules that are exact.
        """
        seen: dict[str, int] = {}
        heard = {finding.name for finding in evidence.raised}
        there: dict[str, bool] = {}
        new: list[Finding] = []
        for rule in self.rules:
            if structural and rule.kind == "curve":
                continue
            known = self.found.get(rule.name)
            if (known and known.severity != "info") or rule.name in heard or rule.name in self.mute:
                continue
            finding = self._ask(rule, evidence) if _all_there(rule.needs, evidence, there) else None
            if finding is None or (known and finding.severity == "info"):
                continue
            first = seen[rule.name] = self._pending.get(rule.name, evidence.step)
            if rule.kind != "curve" or (rule.name in self._pending and evidence.step - first >= _APART_STEPS):
                self.found[finding.name] = replace(finding, step=finding.step or evidence.step)
                new.append(self.found[finding.name])
        if not structural:
            self._pending = seen
        return new

    @property
    def suspects(self) -> bool:
        """Whether a rule has found something that is told once it is found again."""
        return bool(self._pending)

    def diagnosis(self, evidence: Evidence) -> Diagnosis:
        """All that was found, ranked; what other callbacks have found among it."""
        heard = [f for f in evidence.raised if f.name not in self.mute and f.name not in self.found]
        told, consequences, notes = rank([*self.found.values(), *heard], self.rules)
        found = {f.name for f in (*told, *consequences, *notes)}
        quiet = [rule for rule in self.rules if rule.name not in self.mute and rule.name not in found]
        unchecked = {rule.name: missing for rule in quiet if (missing := rule.missing(evidence))}
        unchecked |= {rule.name: (self.failed[rule.name],) for rule in quiet if rule.name in self.failed}
        passed = tuple(rule.name for rule in quiet if rule.name not in unchecked)
        return Diagnosis(told, consequences, notes, passed, unchecked)

    def state_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"found": [asdict(finding) for finding in self.found.values()], "pending": dict(self._pending)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes it up."""
        self.found = {data["name"]: Finding(**data) for data in state["found"]}
        self._pending = dict(state["pending"])

    def _ask(self, rule: Rule, evidence: Evidence) -> Finding | None:
        if self.failed:
            self.failed.pop(rule.name, None)
        answer = rule.answer(evidence)
        if isinstance(answer, str):
            self.failed[rule.name] = answer
            return None
        return answer


def _all_there(needs: Sequence[str], evidence: Evidence, there: dict[str, bool]) -> bool:
    """Whether the evidence has what a rule needs; `there` remembers what was asked for another one."""
    for need in needs:
        if need not in there:
            there[need] = evidence.has(need)
        if not there[need]:
            return False
    return True
