"""Modes as they were when modules were called, and what is meant so."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from stablelit.doctor.evidence import Curve, Evidence
from stablelit.doctor.probes.modes import ModeProbe
from stablelit.doctor.rules.modes import MODE_RULES
from tests.doctor.probes.loops import CLASSES, FEATURES, loop


def found(evidence: Evidence) -> dict[str, str]:
    told = [rule.check(evidence) for rule in MODE_RULES if rule.can_check(evidence)]
    return {finding.name: finding.severity for finding in told if finding is not None}


def net(momentum: float | None = 0.1) -> nn.ModuleDict:
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Linear(FEATURES, 16), nn.BatchNorm1d(16, momentum=momentum), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 16)
    )
    return nn.ModuleDict({"body": body, "head": nn.Linear(16, CLASSES)})


def loss_of(module: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(module["head"](module["body"](x)), y)  # type: ignore[index]


def _norms_alone(step: int, module: nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d):
            part.eval()


def _trained_body(step: int, module: nn.Module) -> None:
    module["body"][1].num_batches_tracked.fill_(1000)  # type: ignore[index]
    module["body"].eval()  # type: ignore[index]


def _frozen_body(step: int, module: nn.Module) -> None:
    module["body"].eval().requires_grad_(False)  # type: ignore[index]


HEALTHY: dict[str, Callable[[int, nn.Module], None]] = {
    "all in training mode": lambda step, module: None,
    "norms frozen alone": _norms_alone,
    "pretrained body in evaluation mode": _trained_body,
    "frozen body": _frozen_body,
}


@pytest.mark.parametrize("name", list(HEALTHY))
def test_what_is_meant_so_is_silent(name: str) -> None:
    module = net()
    optimizer = torch.optim.Adam(module.parameters(), 1e-2)
    evidence = loop(ModeProbe(), module, optimizer, loss_of=loss_of, before_batch=HEALTHY[name])
    assert found(evidence) == {}


@pytest.mark.parametrize("where", ["whole", "body whose norms never counted"])
def test_evaluation_mode_in_training_is_told_in_the_first_look(where: str) -> None:
    module = net()
    (module if where == "whole" else module["body"]).eval()
    evidence = loop(ModeProbe(), module, steps=1, loss_of=loss_of)
    assert found(evidence) == {"eval-mode-in-training": "critical"}


def test_a_teacher_pass_in_evaluation_mode_beside_a_training_pass_is_silent() -> None:
    def both(module: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        module.eval()
        attack = loss_of(module, x, y)
        module.train()
        return loss_of(module, x, y) + 0.1 * attack

    assert found(loop(ModeProbe(), net(), loss_of=both)) == {}


def test_without_anything_sensitive_evaluation_mode_is_a_note_unless_the_root_is_in_it() -> None:
    module = nn.Sequential(nn.Sequential(nn.Linear(FEATURES, 8), nn.ReLU()), nn.Linear(8, CLASSES))
    for part in module:
        part.eval()
    assert found(loop(ModeProbe(), module, steps=2)) == {"eval-mode-in-training": "info"}
    module.eval()
    assert found(loop(ModeProbe(), module, steps=2)) == {"eval-mode-in-training": "warning"}


def _validated(module: nn.Module) -> Evidence:
    probe, evidence = ModeProbe(), Evidence()
    trainer = SimpleNamespace(optimizers=[])
    probe.begin(trainer, module, evidence)
    probe.validation_batch_end(trainer, module, None, None, 0)
    probe.tell(evidence)
    return evidence


def test_training_mode_in_validation_is_told_and_dropout_alone_is_a_note() -> None:
    module = net().eval()
    assert found(_validated(module)) == {}
    monte_carlo = copy.deepcopy(module)
    monte_carlo["body"][3].train()  # type: ignore[index]
    assert found(_validated(monte_carlo)).get("train-mode-in-validation", "info") == "info"
    assert found(_validated(module.train())) == {"train-mode-in-validation": "warning"}


@pytest.mark.parametrize("momentum", [1e-4, 0.1, None])
def test_norms_that_cannot_get_there_are_told(momentum: float | None) -> None:
    module = net(momentum)
    nn.init.normal_(module["body"][0].weight, std=2.0)  # type: ignore[index]

    def four_times(module: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return loss_of(module, torch.cat([x, x.roll(1, 0) * 1.1, -x, 0.9 * x]), y.repeat(4))

    probe = ModeProbe()
    evidence = loop(probe, module, steps=60, loss_of=four_times)
    evidence.planned_steps = 600
    assert found(evidence) == ({"batch-norm-statistics-off": "warning"} if momentum == 1e-4 else {})


def test_what_a_norm_remembers_is_compared_with_the_batch() -> None:
    """The gap and the ratio from the formulas, for statistics that were set by hand."""
    from stablelit.doctor.probes.modes_batch_norm import BatchNormMemory

    norm = nn.BatchNorm1d(3)
    batch = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    norm.running_mean = batch.mean(0) + 0.5 * batch.std(0)
    norm.running_var = 4.0 * batch.var(0)
    memory = BatchNormMemory({"norm": norm})
    for _ in range(2):
        memory.note(norm, (batch,))
        memory.take()
    (fact,) = memory.facts()
    assert fact.mean_gap == pytest.approx(0.5, rel=1e-3)
    assert fact.variance_ratio == pytest.approx(4.0, rel=1e-3)
    memory.note(norm, (batch[:8],))
    assert memory._fresh == {}


def test_hooks_go_with_the_look() -> None:
    module = net()
    probe = ModeProbe()
    loop(probe, module, steps=3, loss_of=loss_of)
    assert not any(part._forward_pre_hooks for part in module.modules())
    assert probe._handles == []


@pytest.mark.parametrize(("rate", "falls", "told"), [(0.97, False, True), (0.97, True, False), (0.8, False, False)])
def test_a_dropout_that_keeps_next_to_nothing_is_told_where_validation_stands(
    rate: float, falls: bool, told: bool
) -> None:
    probe, evidence = ModeProbe(), Evidence()
    probe.begin(None, nn.Sequential(nn.Linear(3, 3), nn.Dropout(rate), nn.Linear(3, 1)), evidence)
    probe.tell(evidence)
    steps = range(0, 400, 100)
    evidence.curves["loss"] = Curve(range(400), [1.0] * 400)
    evidence.curves["val_loss"] = Curve(steps, [1.0 - 0.001 * falls * step for step in steps])
    finding = next(rule for rule in MODE_RULES if rule.name == "dropout-too-strong").check(evidence)
    assert (finding is not None) == told
    if finding:
        assert finding.evidence["dropout"] == rate
        assert finding.remedy == "dropout=0.03"
