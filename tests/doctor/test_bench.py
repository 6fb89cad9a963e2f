"""The bench of faults: that what it counts is what it says."""

from __future__ import annotations

import pytest

from benchmarks.doctor_faults import FAULTS
from benchmarks.doctor_healthy import HEALTHY
from benchmarks.doctor_projects import build, full_config
from benchmarks.doctor_repairs import LINES, repaired
from benchmarks.doctor_runs import FaultRun, HealthyRun, Outcome, harm, run_fault, run_healthy
from benchmarks.doctor_settings import Config
from benchmarks.doctor_table import fault_rows, healthy_rows
from benchmarks.rows import quiet
from stablelit.findings import Finding

VARIANTS = [
    pytest.param(name, variant, id=f"{name}-{kind}")
    for name, fault in FAULTS.items()
    for kind, variant in (("mild", fault.mild), ("strong", fault.strong))
    if variant is not None
]
# where no line mends it but a number that the finding gives
BY_NUMBER = {"learning-rate-zero", "learning-rate-too-high", "learning-rate-too-low"}
# what mends may differ in: without effect, or as good as what the project had
WITHOUT_EFFECT = {"init_scale", "schedule_share", "clip", "dropout", "norm"}


def differing(a: Config, b: Config) -> set[str]:
    return {key for key in a if a[key] != b[key]}


def test_there_are_as_many_faults_and_healthy_configurations_as_are_claimed():
    assert len(FAULTS) >= 45
    assert sum(fault.mild is None for fault in FAULTS.values()) >= 8
    assert len(HEALTHY) >= 20
    assert sum(config.held_out for config in HEALTHY.values()) >= 4


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_a_fault_differs_from_its_healthy_configuration_in_its_override_alone(name, variant):
    healthy, faulty = full_config(HEALTHY[variant.base].config), full_config(variant.config)
    assert differing(healthy, faulty) == set(variant.override)


def test_no_variant_is_both_tuned_on_and_reported():
    assert not [name for name, fault in FAULTS.items() if fault.mild == fault.strong]


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_mending_what_a_right_finding_names_gives_the_healthy_configuration(name, variant):
    healthy = full_config(HEALTHY[variant.base].config)
    for cause in FAULTS[name].accepted:
        finding = Finding(
            cause, "critical", "Said.", remedy=f"Set model.lr={healthy['lr']:g}." if "rate" in cause else ""
        )
        if cause not in LINES and cause not in BY_NUMBER:
            pytest.fail(f"nothing mends {cause}")
        mended = repaired(finding, variant.base, variant.config)
        if mended is not None and differing(full_config(mended), healthy) <= WITHOUT_EFFECT:
            return
    # broken in one way and mended in another
    assert name in {"recurrence-explodes", "vanishing", "acos-at-its-edge"}


def test_a_finding_that_names_nothing_in_the_project_repairs_nothing():
    assert repaired(Finding("graph-full", "warning", "Said."), "table-mlp", FAULTS["uphill"].mild.config) is None


def test_harm_is_what_is_lost_or_what_is_told_wrongly():
    healthy = Outcome(true=0.9, told=0.9)
    assert harm(Outcome(true=0.4, told=0.4), healthy) == pytest.approx(0.5)
    assert harm(Outcome(true=0.9, told=0.2), healthy) == pytest.approx(0.7)
    assert harm(Outcome(true=0.95, told=0.95), healthy) == 0.0


def fault_run(names: list[str], accepted: tuple[str, ...], steps: list[int]) -> FaultRun:
    findings = [Finding(name, "warning", "Said.", step=step) for name, step in zip(names, steps, strict=True)]
    run = Outcome(true=0.0, told=0.0, findings=findings, steps=200)
    return FaultRun("uphill", 0, FAULTS["uphill"].strong, accepted, 1, run, harm=0.5)


def test_rows_count_what_was_found_and_what_was_named_first():
    runs = [
        fault_run(["gradient-ascent"], ("gradient-ascent",), [1]),
        fault_run(["not-learning", "gradient-ascent"], ("gradient-ascent",), [50, 26]),
        fault_run(["not-learning"], ("gradient-ascent",), [50]),
        fault_run([], ("gradient-ascent",), []),
    ]
    values = {row.row.strip(): row.value for row in fault_rows(runs)}
    assert values["recall, over 1 faults"] == 0.75
    assert values["the right cause first"] == 0.25
    assert values["the right cause at all"] == 0.5
    assert values["findings in a faulty run that has any"] == pytest.approx(4 / 3)
    assert values["delay where looking inside shows it, median"] == 12.5


def test_a_healthy_run_with_a_finding_is_a_false_alarm_and_one_with_a_note_is_not():
    said = [Finding("plateau", "warning", "Said.")]
    runs = [
        HealthyRun("easy", 0, 0.9, Outcome(1.0, 1.0, findings=said)),
        HealthyRun("easy", 1, 0.9, Outcome(1.0, 1.0, notes=said)),
    ]
    values = {row.row: row.value for row in healthy_rows(runs)}
    assert values["runs with a false alarm, of 1 healthy configurations"] == 0.5
    assert values["healthy runs with a note"] == 0.5


def test_a_project_is_the_same_for_the_same_seed_and_another_for_another():
    first, again, other = (build({"project": "table"}, seed) for seed in (3, 3, 4))
    weights = [next(project.module.parameters()) for project in (first, again, other)]
    assert weights[0].equal(weights[1])
    assert not weights[0].equal(weights[2])
    assert first.clean[0][0].equal(again.clean[0][0])
    assert not first.clean[0][0].equal(other.clean[0][0])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["uphill", "never-zeroed", "detached", "nan-in-rows"])
def test_a_fault_hurts_and_is_told(name):
    quiet()
    run = run_fault(name, 0, tune=True, repair=False)
    assert run.harm > 0.05
    assert run.named_first


@pytest.mark.slow
@pytest.mark.parametrize("name", ["table-mlp", "easy", "frozen-encoder"])
def test_a_healthy_run_learns_and_is_left_alone(name):
    quiet()
    run = run_healthy(name, 0)
    assert run.run.true >= run.learns
    assert run.run.findings == []
