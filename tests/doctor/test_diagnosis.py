"""Which of the findings is the cause: ranks, explanations, and the most that is told."""

from __future__ import annotations

import itertools
from dataclasses import fields, replace

import pytest

from stablelit.doctor import Diagnosis, Rank, Rule, diagnose
from stablelit.doctor.diagnosis import MOST_TOLD, check_mute, rank
from stablelit.doctor.evidence import Curve, Evidence, batches, layers, modes, operations, parameters
from stablelit.doctor.rules import RULES
from stablelit.errors import ConfigurationError
from stablelit.findings import Finding
from tests.doctor.carrying import says


def names(findings):
    return [finding.name for finding in findings]


def of(rules, **kwargs):
    return diagnose(Evidence(**kwargs), rules)


def test_an_earlier_rank_comes_first_however_severe_the_later():
    found = of([says("late", rank=Rank.FIT, severity="critical"), says("early", rank=Rank.SETTINGS)])
    assert names(found.findings) == ["early", "late"]
    assert found.severity == "critical"


def test_of_one_rank_the_more_severe_is_first_and_then_the_order_of_the_rules():
    rules = [says("b"), says("a"), says("worse", severity="critical")]
    assert names(of(rules).findings) == ["worse", "b", "a"]


def test_the_order_in_which_things_are_found_does_not_matter():
    rules = [says(name, rank=place, explains=why) for name, place, why in CHAIN]
    found = [rule.check(Evidence()) for rule in rules]
    told = {
        tuple(names(part) for part in map(tuple, rank(order, rules))).__repr__()
        for order in itertools.permutations(found)
    }
    assert len(told) == 1


CHAIN = [("a", Rank.SETTINGS, ("b",)), ("b", Rank.PROPAGATION, ("c",)), ("c", Rank.FIT, ()), ("d", Rank.FIT, ())]


def test_what_follows_from_a_consequence_follows_from_its_cause():
    found = of([says(name, rank=place, explains=why) for name, place, why in CHAIN])
    assert names(found.findings) == ["a", "d"]
    assert names(found.consequences) == ["b", "c"]


def test_a_later_rank_that_names_an_earlier_one_explains_it():
    found = of([says("scale", rank=Rank.SCALE), says("family", rank=Rank.FAMILY, explains=("scale",))])
    assert names(found.findings) == ["family"]
    assert names(found.consequences) == ["scale"]


def test_of_two_that_explain_each_other_the_earlier_is_told():
    rules = [says("x", rank=Rank.SCALE, explains=("y",)), says("y", rank=Rank.FIT, explains=("x",))]
    assert names(of(rules).findings) == ["x"]


def test_of_a_ring_one_is_told():
    rules = [
        says("x", rank=Rank.SCALE, explains=("z",)),
        says("y", rank=Rank.FAMILY, explains=("x",)),
        says("z", rank=Rank.FIT, explains=("y",)),
    ]
    assert len(of(rules).findings) == 1


def test_a_star_explains_curves_and_what_is_seen_in_effects():
    rules = [
        says("cause", rank=Rank.SCALE, explains=("*",)),
        says("curve", "curve", rank=Rank.SETTINGS),
        says("effect", rank=Rank.PROPAGATION),
        says("other", rank=Rank.SETTINGS),
    ]
    found = of(rules)
    assert names(found.findings) == ["cause", "other"]
    assert set(names(found.consequences)) == {"curve", "effect"}


@pytest.mark.parametrize("place", [Rank.DATA, Rank.STRUCTURE, Rank.LOSS_MADE_WRONG])
def test_a_sure_and_critical_cause_explains_all_that_comes_later(place):
    later = [says(f"later-{r}", rank=r, severity="critical") for r in Rank if r > Rank.LOSS_MADE_WRONG]
    found = of([says("sure", rank=place, severity="critical"), *later])
    assert names(found.findings) == ["sure"]
    assert len(found.consequences) == len(later)
    # one that is only a warning does not
    assert len(of([says("sure", rank=place), *later]).findings) == MOST_TOLD


def test_a_sure_cause_does_not_explain_another_sure_one():
    rules = [says("data", rank=Rank.DATA, severity="critical"), says("structure", rank=Rank.STRUCTURE)]
    assert names(of(rules).findings) == ["data", "structure"]


def test_no_more_than_three_are_told():
    found = of([says(f"r{i}") for i in range(7)])
    assert names(found.findings) == ["r0", "r1", "r2"]
    assert names(found.consequences) == ["r3", "r4", "r5", "r6"]


def test_notes_are_no_alarms_and_explain_nothing():
    rules = [says("note", severity="info", rank=Rank.DATA, explains=("alarm",)), says("alarm")]
    found = of(rules)
    assert (names(found.notes), names(found.findings)) == (["note"], ["alarm"])
    assert of(rules[:1]).severity == "healthy"


def test_nothing_found_is_healthy_and_says_what_was_checked():
    found = of([says("fine", since=9), says("blind", needs=("curves.val_loss",))])
    assert found == Diagnosis(passed=("fine",), unchecked={"blind": ("curves.val_loss",)})
    assert found.severity == "healthy"


def test_a_finding_that_no_rule_has_is_a_symptom():
    rules = [says("fit", rank=Rank.FIT)]
    strange = Finding("somebody-elses", "critical", "")
    told, _, _ = rank([strange, rules[0].check(Evidence())], rules)
    assert names(told) == ["fit", "somebody-elses"]


def test_a_rule_that_raises_is_one_that_could_not_be_checked():
    def check(evidence):
        raise ValueError("odd")

    found = of([Rule("broken", Rank.DATA, (), check), says("sound")])
    assert found.unchecked == {"broken": ("an answer: ValueError: odd",)}
    assert names(found.findings) == ["sound"]


def test_muted_rules_are_left_out_and_no_longer_explain():
    rules = [says("cause", explains=("effect",)), says("effect", rank=Rank.FIT)]
    assert names(diagnose(Evidence(), rules, mute=["cause"]).findings) == ["effect"]


def test_an_unknown_name_to_mute_is_refused_with_near_ones():
    rules = [says("overfitting"), says("plateau")]
    assert check_mute("Doctor", ["plateau"], rules) == ("plateau",)
    with pytest.raises(ConfigurationError, match=r"Doctor: mute='overfiting'.*Did you mean 'overfitting'\?.*plateau"):
        check_mute("Doctor", ["overfiting"], rules)


SECTIONS = {
    "batches": batches.BatchFacts,
    "layers": layers.LayerFacts,
    "modes": modes.ModeFacts,
    "operations": operations.OperationFacts,
    "parameters": parameters.ParameterFacts,
}


def test_every_rule_needs_what_there_is():
    evidence = Evidence()
    known = {field.name for field in fields(Evidence)}
    for rule in RULES:
        for need in rule.needs:
            section, _, name = need.partition(".")
            assert section in known, (rule.name, need)
            if section == "curves" or not name:
                continue
            kind = SECTIONS.get(section) or type(getattr(evidence, section))
            assert name in {field.name for field in fields(kind)} | set(dir(kind)), (rule.name, need)


def test_every_rule_has_a_name_of_its_own_and_one_line_about_it():
    assert len({rule.name for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert rule.name == rule.name.lower().replace("_", "-").replace(" ", "-")
        assert rule.about
        assert "\n" not in rule.about
        assert rule.name not in rule.explains


def test_no_rule_finds_or_raises_where_nothing_is_known():
    empty = [Evidence(), Evidence(origin="logs", ended=True), Evidence(curves={"loss": Curve(), "lr": Curve()})]
    for evidence in empty:
        found = diagnose(evidence)
        assert found.findings == found.notes == ()
        assert not [needs for needs in found.unchecked.values() if needs[0].startswith("an answer")]


def test_a_finding_may_hold_numbers_that_equal_nothing():
    rules = [says("a"), says("b")]
    found = [replace(rule.check(Evidence()), evidence={"value": float("nan")}) for rule in rules]
    told, consequences, _ = rank(found, rules)
    assert (names(told), consequences) == (["a", "b"], ())
