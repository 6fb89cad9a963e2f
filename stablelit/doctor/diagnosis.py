"""From what was found to what is told: one cause, at most two beside it, and none of their consequences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from stablelit.doctor.evidence import Evidence
from stablelit.doctor.rule import Rank, Rule
from stablelit.doctor.rules import RULES
from stablelit.doctor.rules.heard import HEARD
from stablelit.errors import ConfigurationError, did_you_mean
from stablelit.findings import Finding

MOST_TOLD = 3
_SEVERITIES = {"critical": 0, "warning": 1, "info": 2}
# what a sure and critical cause of these ranks brings with it is not worth a word of its own
_EXPLAINS_WHAT_FOLLOWS = Rank.LOSS_MADE_WRONG


@dataclass(frozen=True)
class Diagnosis:
    """What is the matter with a run.

    Args:
        findings: the primary cause first, then at most two that it does not explain; none where the run is healthy.
        consequences: what was found and follows from these.
        notes: of severity `info`: worth a look, and no alarm.
        passed: rules that were checked and found nothing.
        unchecked: rules that could not be checked, with what they need.
    """

    findings: tuple[Finding, ...] = ()
    consequences: tuple[Finding, ...] = ()
    notes: tuple[Finding, ...] = ()
    passed: tuple[str, ...] = ()
    unchecked: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def severity(self) -> str:
        """``healthy``, ``warning`` or ``critical``: the worst of the findings."""
        return min((f.severity for f in self.findings), key=_SEVERITIES.__getitem__, default="healthy")


def diagnose(evidence: Evidence, rules: Iterable[Rule] = RULES, mute: Iterable[str] = ()) -> Diagnosis:
    """Checks every rule that can be checked, and ranks what they find.

    Args:
        evidence: of the run.
        rules: to check.
        mute: names of rules that are left out; see `check_mute`.
    """
    silent, found, passed = set(mute), [], []
    unchecked: dict[str, tuple[str, ...]] = {}
    rules = [rule for rule in rules if rule.name not in silent]
    for rule in rules:
        if missing := rule.missing(evidence):
            unchecked[rule.name] = missing
        elif isinstance(answer := rule.answer(evidence), str):
            unchecked[rule.name] = (answer,)
        elif answer is not None:
            found.append(answer)
        else:
            passed.append(rule.name)
    told, consequences, notes = rank(found, rules)
    return Diagnosis(told, consequences, notes, tuple(passed), unchecked)


def rank(found: Iterable[Finding], rules: Iterable[Rule]) -> tuple[tuple[Finding, ...], ...]:
    """Findings to tell, consequences of these, and notes.

    A finding comes before those of a later rank, among equals the more severe first, then in the order of the rules.
    One that another explains by name follows from it, whatever their ranks, unless it explains that one; a critical
    cause that is exact (of ranks up to `LOSS_MADE_WRONG`) explains everything that is only seen in its effects: scale,
    norms, curves.

    Args:
        found: each cause once.
        rules: those they may be of.
    """
    places = {rule.name: _Place(rule.rank, place, rule.explains, rule) for place, rule in enumerate(rules)}

    def place_of(finding: Finding) -> _Place:
        own = places.get(finding.name)
        if own is not None:
            return own
        heard = HEARD.get(finding.name)
        return _Place(heard.rank, len(places), heard.explains) if heard else _Place(Rank.SYMPTOM, len(places))

    def key(finding: Finding) -> tuple[int, int, int]:
        place = place_of(finding)
        return int(place.rank), _SEVERITIES[finding.severity], place.order

    ordered = sorted(found, key=key)
    notes = tuple(f for f in ordered if f.severity == "info")
    alarms = [(f, place_of(f)) for f in ordered if f.severity != "info"]

    def follows(index: int) -> bool:
        finding, place = alarms[index]
        # what follows from a consequence follows from its cause too
        if any(_explains(cause, of, place, finding) for of, cause in alarms[:index]):
            return True
        later = [(of, cause) for of, cause in alarms[index + 1 :] if finding.name in cause.explains]
        return any(not _explains(place, finding, cause, of) for of, cause in later)

    causes = [finding for index, (finding, _) in enumerate(alarms) if not follows(index)]
    # of those that explain each other in a ring, the first
    told = tuple(causes or [finding for finding, _ in alarms[:1]])[:MOST_TOLD]
    return told, tuple(finding for finding, _ in alarms if finding not in told), notes


def check_mute(owner: str, mute: Sequence[str], rules: Iterable[Rule] = RULES) -> tuple[str, ...]:
    """The names, where there are rules of these.

    Raises:
        ConfigurationError: an unknown one; near names are given.
    """
    names = [rule.name for rule in rules]
    for name in mute:
        if name not in names:
            raise ConfigurationError(
                f"{owner}: mute={name!r} is no rule. {did_you_mean(name, names)} All: {', '.join(names)}."
            )
    return tuple(mute)


@dataclass(frozen=True)
class _Place:
    rank: Rank
    order: int
    explains: tuple[str, ...] = ()
    rule: Rule | None = None

    @property
    def is_effect(self) -> bool:
        return self.rank >= Rank.PROPAGATION or (self.rule is not None and self.rule.kind == "curve")


def _explains(cause: _Place, found: Finding, other: _Place, finding: Finding) -> bool:
    if finding.name in cause.explains or ("*" in cause.explains and other.is_effect):
        return True
    sure = cause.rank <= _EXPLAINS_WHAT_FOLLOWS and found.severity == "critical"
    return sure and other.rank > _EXPLAINS_WHAT_FOLLOWS
