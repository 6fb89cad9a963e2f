"""Asks the rules, tells a person what is new, and ends a run where that was asked for, on every rank."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from stablelit.doctor.diagnosis import Diagnosis, check_mute
from stablelit.doctor.evidence import Evidence
from stablelit.doctor.rule import Rule
from stablelit.doctor.rule_book import RuleBook
from stablelit.doctor.rules import RULES
from stablelit.errors import bad_argument
from stablelit.findings import Action, Finding, FindingError, FindingReporter


class Verdicts:
    """What has been found of a run, and who has been told.

    Args:
        owner: for messages.
        source: for findings.
        action: what a finding does.
        quiet: whether nothing is said before the end.
        rules: more of them, of somebody's own.
        mute: names of rules that are left out.

    Raises:
        ConfigurationError: a second rule of a name; a name in `mute` that is no rule.
    """

    def __init__(
        self, owner: str, source: str, action: Action, quiet: bool, rules: Sequence[Rule], mute: Sequence[str]
    ) -> None:
        if isinstance(mute, str) or not isinstance(mute, Sequence):
            raise bad_argument(owner, "mute", mute, f"a list of names, such as [{mute or 'overfitting'!r}]")
        ordered = sorted((*RULES, *rules), key=lambda rule: rule.rank)
        names = Counter(rule.name for rule in ordered)
        for rule in rules:
            if names[rule.name] > 1:
                raise bad_argument(owner, "rules", rule.name, "rules whose names no other rule has")
        self.book = RuleBook(ordered, check_mute(owner, mute, ordered))
        self.action = action
        self._reporter = FindingReporter(source, action, quiet=quiet)
        self.begin()

    def begin(self) -> None:
        """A new run."""
        self.book.begin()
        self._reporter.load_state_dict({})
        self._told: list[Finding] = []
        self.shares = self._has_acted = False

    def meet(self, trainer: Any) -> bool:
        """Training begins; returns whether ranks decide together, and so at the same steps."""
        self.shares = trainer.world_size > 1 and self.action != "warn"
        self._reporter.action = "warn" if self.shares else self.action
        return self.shares

    def only_warn(self) -> None:
        """From now on nothing that is found ends the run: something else has."""
        self._reporter.action = "warn"

    def diagnosis(self, evidence: Evidence) -> Diagnosis:
        """How the run stands."""
        return self.book.diagnosis(evidence)

    def judge(self, trainer: Any, evidence: Evidence, structural: bool) -> None:
        """Asks the rules, and tells what is new and no consequence of what is known."""
        if trainer.is_global_zero:
            new = {finding.name for finding in self.book.judge(evidence, structural)}
            diagnosis = self.diagnosis(evidence) if new else Diagnosis()
            heard = {finding.name for finding in evidence.raised}
            for finding in (*diagnosis.findings, *diagnosis.notes):
                if finding.name in new and finding.name not in heard:
                    self._reporter.raised.pop(finding.name, None)  # a note may have become a warning
                    self._told += [finding] if finding.severity != "info" else []
                    self._reporter.report(trainer, finding)
        if self.shares and not structural:
            self._act_together(trainer)

    def summary(self, evidence: Evidence) -> str:
        """A line for each cause, and one for what was checked; one line where the run is healthy."""
        diagnosis = self.diagnosis(evidence)
        checked = f"{len(diagnosis.passed)} rules found nothing, {len(diagnosis.unchecked)} could not be checked"
        if not diagnosis.findings:
            return f"[doctor] healthy after {evidence.step} steps: {checked}."
        first, *others = diagnosis.findings
        return "\n".join([f"[doctor] {first}", *(f"  also seen: {other}" for other in others), f"  {checked}."])

    def state_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"book": self.book.state_dict(), "told": self._reporter.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes it up."""
        self.book.load_state_dict(state["book"])
        self._reporter.load_state_dict(state["told"])

    def _act_together(self, trainer: Any) -> None:
        """Ends the run on every rank, where rank zero has told something."""
        told, self._told = self._told, []
        if not trainer.strategy.reduce_boolean_decision(bool(told) and not self._has_acted, all=False):
            return
        self._has_acted = True
        if self.action == "raise":
            elsewhere = Finding("found-on-rank-zero", "critical", "rank zero has found why the run goes wrong.")
            raise FindingError(told[0] if told else elsewhere)
        trainer.should_stop = True
