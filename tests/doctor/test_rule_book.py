"""What a book of rules finds, keeps and hands out, judgement by judgement."""

from __future__ import annotations

import pytest
import torch

from stablelit.doctor import Rank, Rule
from stablelit.doctor.evidence import Curve, Evidence
from stablelit.doctor.rule_book import RuleBook
from stablelit.findings import Finding
from tests.doctor.carrying import says


def judge(book, steps, structural=False, evidence=None):
    """Judges at these steps; the names of what was new at each."""
    evidence = evidence or Evidence()
    new = []
    for step in steps:
        evidence.step = step
        new.append([finding.name for finding in book.judge(evidence, structural)])
    return new


@pytest.mark.parametrize("kind", ["structural", "family"])
def test_what_is_exact_is_found_at_once_and_once(kind):
    rule = says("exact", kind, since=2)
    book = RuleBook([rule])
    assert judge(book, range(5), structural=True) == [[], [], ["exact"], [], []]
    assert rule.check.asked == [0, 1, 2]
    assert book.found["exact"].step == 2


def test_a_curve_has_to_hold_at_two_judgements_in_a_row():
    book = RuleBook([says("slow", "curve", since=50)])
    assert judge(book, [25, 50, 75, 100]) == [[], [], ["slow"], []]
    assert book.found["slow"].step == 75
    # what it says is what held last
    assert book.found["slow"].evidence["step"] == 75


def test_a_curve_that_does_not_hold_begins_anew():
    book = RuleBook([says("once", "curve", since=50, until=60)])
    assert judge(book, [50, 75, 100]) == [[], [], []]


def test_a_curve_that_flickers_is_never_found():
    def check(evidence):
        return Finding("flickers", "warning", "") if (evidence.step // 25) % 2 else None

    book = RuleBook([Rule("flickers", Rank.FIT, (), check, kind="curve")])
    assert judge(book, range(0, 500, 25)) == [[]] * 20


def test_two_judgements_of_the_same_numbers_are_one():
    # the last judgement comes when the run ends, a step after the one before
    book = RuleBook([says("slow", "curve", since=75)])
    assert judge(book, [50, 75, 76, 80, 84]) == [[]] * 5
    assert judge(book, [85]) == [["slow"]]


def test_structural_judgements_neither_ask_nor_confirm_curves():
    curve = says("slow", "curve")
    book = RuleBook([curve])
    judge(book, [25])
    assert judge(book, [30, 40, 49], structural=True) == [[], [], []]
    assert curve.check.asked == [25]
    assert judge(book, [50]) == [["slow"]]


def test_what_a_rule_needs_has_to_be_there():
    rule = says("needy", needs=("curves.loss", "parameters"))
    book, evidence = RuleBook([rule]), Evidence()
    assert judge(book, [1], evidence=evidence) == [[]]
    assert rule.check.asked == []
    assert book.diagnosis(evidence).unchecked == {"needy": ("curves.loss", "parameters")}
    evidence.curves["loss"] = Curve([0], [1.0])
    assert book.diagnosis(evidence).unchecked == {"needy": ("parameters",)}


def test_muted_rules_are_not_asked_and_not_counted():
    rule = says("loud")
    book = RuleBook([rule, says("other", since=9)], mute=["loud"])
    assert judge(book, [1]) == [[]]
    assert rule.check.asked == []
    diagnosis = book.diagnosis(Evidence())
    assert (diagnosis.passed, diagnosis.unchecked, diagnosis.findings) == (("other",), {}, ())


def test_a_rule_that_raises_ends_nothing_and_counts_as_unchecked():
    def check(evidence):
        if evidence.step < 50:
            raise ZeroDivisionError("no points")
        return Finding("broken", "warning", "")

    book = RuleBook([Rule("broken", Rank.DATA, (), check), says("sound")])
    evidence = Evidence()
    assert judge(book, [1], evidence=evidence) == [["sound"]]
    diagnosis = book.diagnosis(evidence)
    assert diagnosis.unchecked == {"broken": ("an answer: ZeroDivisionError: no points",)}
    assert "broken" not in diagnosis.passed
    # it is asked again
    assert judge(book, [50], evidence=evidence) == [["broken"]]
    assert book.diagnosis(evidence).unchecked == {}


def test_what_another_callback_has_found_is_ranked_with_the_rest_and_not_asked_again():
    rule = says("same", rank=Rank.SYMPTOM)
    book = RuleBook([says("own", rank=Rank.SETTINGS), rule], mute=["mute"])
    raised = [Finding(name, "warning", "", source="A monitor", step=3) for name in ("same", "mute", "strange")]
    evidence = Evidence(raised=raised)
    assert judge(book, [5], evidence=evidence) == [["own"]]
    assert rule.check.asked == []
    assert [f.name for f in book.diagnosis(evidence).findings] == ["own", "same", "strange"]
    assert book.diagnosis(evidence).findings[1].source == "A monitor"


@pytest.mark.parametrize("cut", [1, 2, 3, 4])
def test_its_state_carries_what_is_pending_and_found(cut, tmp_path):
    def rules():
        return [says("slow", "curve", since=50), says("fast", since=30), says("slower", "curve", since=80)]

    steps = [25, 50, 75, 100, 125]
    whole = judge(RuleBook(rules()), steps)
    first, second = RuleBook(rules()), RuleBook(rules())
    new = judge(first, steps[:cut])
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert new + judge(second, steps[cut:]) == whole
    evidence = Evidence(step=125)
    assert {f.name for f in second.diagnosis(evidence).findings} == {"slow", "fast", "slower"}


def test_a_new_run_knows_nothing_of_the_last():
    book = RuleBook([says("slow", "curve"), says("fast")])
    judge(book, [25, 50])
    book.begin()
    assert book.diagnosis(Evidence()).findings == ()
    assert judge(book, [25]) == [["fast"]]


def test_a_note_may_become_a_warning_and_a_warning_no_note():
    def check(evidence):
        return Finding("grows", "warning" if 50 <= evidence.step < 75 else "info", "")

    book = RuleBook([Rule("grows", Rank.FIT, (), check, kind="structural")])
    assert judge(book, [0, 25, 50, 75]) == [["grows"], [], ["grows"], []]
    assert book.found["grows"].severity == "warning"
    assert book.found["grows"].step == 50
