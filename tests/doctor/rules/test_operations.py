from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stablelit.doctor.evidence import Curve, Evidence, OptimizerSettings
from stablelit.doctor.evidence.batches import BatchFacts, LabelFacts
from stablelit.doctor.evidence.operations import LossTerm, OperationFacts
from stablelit.doctor.levels import chance_of_other_rows, double_softmax_floor, entropy
from stablelit.doctor.rules.operations import OPERATION_RULES, dropout_in_validation
from stablelit.findings import Finding
from tests.doctor.probes.traced import Host, seeded, watch

X, CLASSES = seeded(16, 6), torch.arange(16) % 3


def found(evidence: Evidence) -> dict[str, Finding]:
    findings = [rule.check(evidence) for rule in OPERATION_RULES if rule.can_check(evidence)]
    return {finding.name: finding for finding in findings if finding is not None}


def looked_at(loss: Any, target: Tensor = CLASSES, outputs: int = 3, x: Tensor = X) -> dict[str, Finding]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, outputs))
    return found(watch(Host(network, lambda m, b: loss(m.network(b[0]), b[1])), [(x, target)] * 2))


Y = seeded(16, 1, seed=4)
ONES = (CLASSES == 0).float()[:, None]
FAULTS: dict[str, tuple[str, Any, Tensor, int]] = {
    "softmax": ("softmax-before-cross-entropy", lambda p, y: F.cross_entropy(p.softmax(-1), y), CLASSES, 3),
    "softmax-then-log-softmax": (
        "softmax-before-cross-entropy",
        lambda p, y: F.nll_loss(p.softmax(-1).log_softmax(-1), y),
        CLASSES,
        3,
    ),
    "nll-of-probabilities": ("softmax-before-cross-entropy", lambda p, y: F.nll_loss(p.softmax(-1), y), CLASSES, 3),
    "sigmoid": (
        "sigmoid-before-bce-with-logits",
        lambda p, y: F.binary_cross_entropy_with_logits(p.sigmoid(), y),
        ONES,
        1,
    ),
    "sigmoid-twice": (
        "sigmoid-before-bce-with-logits",
        lambda p, y: F.binary_cross_entropy(p.sigmoid().sigmoid(), y),
        ONES,
        1,
    ),
    "relu-on-logits": ("activation-before-loss", lambda p, y: F.cross_entropy(p.relu(), y), CLASSES, 3),
    "tanh-on-logits": ("activation-before-loss", lambda p, y: F.cross_entropy(p.tanh(), y), CLASSES, 3),
    "relu-of-numbers": ("activation-before-loss", lambda p, y: F.mse_loss(p.relu(), y), Y, 1),
    "sigmoid-of-numbers": ("activation-before-loss", lambda p, y: (p.sigmoid() - y).square().mean(), 3 * Y, 1),
    "column-against-row": ("loss-broadcasts", lambda p, y: (p - y).abs().mean(), Y[:, 0], 1),
    "row-against-column": ("loss-broadcasts", lambda p, y: (p[:, 0] - y).square().mean(), Y, 1),
    "root-at-zero": ("infinite-derivative", lambda p, y: (p - p).square().sum(-1).sqrt().mean(), CLASSES, 3),
    "power-at-zero": ("infinite-derivative", lambda p, y: ((p - p) ** 0.5).mean(), CLASSES, 3),
    "log-of-zero": ("infinite-derivative", lambda p, y: -(p - p).log().mean(), CLASSES, 3),
    "by-zero": ("infinite-derivative", lambda p, y: (p / (p - p).sum(-1, keepdim=True)).mean(), CLASSES, 3),
    "acos-beyond": ("infinite-derivative", lambda p, y: (p * 0 + 1.5).acos().mean(), CLASSES, 3),
    "deviation-of-one": ("infinite-derivative", lambda p, y: p[:1].std(0).mean(), CLASSES, 3),
    "root-behind-where": (
        "infinite-derivative",
        lambda p, y: torch.where(p > 1e9, (p - p).sqrt(), p).mean(),
        CLASSES,
        3,
    ),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_once_and_its_line_given(name: str) -> None:
    expected, loss, target, outputs = FAULTS[name]
    told = looked_at(loss, target, outputs)
    assert set(told) == {expected}
    assert told[expected].severity == "critical"
    assert "traced.py" in told[expected].message or "test_operations.py" in told[expected].message


HEALTHY: dict[str, tuple[Any, Tensor, int]] = {
    "cross-entropy": (F.cross_entropy, CLASSES, 3),
    "log-softmax-twice": (lambda p, y: F.cross_entropy(p.log_softmax(-1), y), CLASSES, 3),
    "nll-of-log-softmax": (lambda p, y: F.nll_loss(p.log_softmax(-1), y), CLASSES, 3),
    "nll-of-log-of-softmax": (lambda p, y: F.nll_loss(p.softmax(-1).log(), y), CLASSES, 3),
    "distillation": (
        lambda p, y: F.kl_div((p / 2).log_softmax(-1), p.detach().softmax(-1), reduction="batchmean"),
        CLASSES,
        3,
    ),
    "soft-targets": (lambda p, y: F.cross_entropy(p, F.one_hot(y, 3).float().softmax(-1)), CLASSES, 3),
    "attention-then-logits": (lambda p, y: F.cross_entropy((p @ p.T).softmax(-1) @ p, y), CLASSES, 3),
    "scaled-cosine": (lambda p, y: F.cross_entropy(p.tanh() * 10, y), CLASSES, 3),
    "pooled-after-relu": (lambda p, y: F.cross_entropy(p.relu().reshape(16, 3, 2).mean(-1), y), CLASSES, 6),
    "binary": (F.binary_cross_entropy_with_logits, ONES, 1),
    "binary-of-sigmoid": (lambda p, y: F.binary_cross_entropy(p.sigmoid(), y), ONES, 1),
    "gate-inside": (lambda p, y: F.binary_cross_entropy_with_logits(p.sigmoid() * p, y), ONES, 1),
    "relu-of-positive-numbers": (lambda p, y: F.mse_loss(p.relu(), y), Y.abs(), 1),
    "sigmoid-of-shares": (lambda p, y: F.mse_loss(p.sigmoid(), y), Y.sigmoid(), 1),
    "tanh-of-actions": (lambda p, y: F.l1_loss(p.tanh(), y), Y.tanh(), 1),
    "squeezed": (lambda p, y: F.mse_loss(p.squeeze(-1), y), Y[:, 0], 1),
    "all-pairs-of-predictions": (lambda p, y: (p - p.squeeze(-1)).square().mean(), Y, 1),
    "ranking-by-hand": (lambda p, y: F.softplus(-(p - p.T) * (y - y.T).sign()).mean(), Y, 1),
    "root-away-from-zero": (lambda p, y: ((p - p).square().sum(-1) + 1e-12).sqrt().mean(), CLASSES, 3),
    "norm-at-zero": (lambda p, y: (p - p).norm(dim=-1).mean() + p.mean(), CLASSES, 3),
    "normalised-zeros": (lambda p, y: F.normalize(p - p).mean() + p.mean(), CLASSES, 3),
    "negative": (lambda p, y: F.gaussian_nll_loss(p, y, torch.full_like(p, 1e-3)), Y * 0.01, 1),
    "sum-without-an-optimizer-known": (lambda p, y: F.mse_loss(p, y, reduction="sum"), Y, 1),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_what_is_sound_is_not_talked_about(name: str) -> None:
    assert looked_at(*HEALTHY[name]) == {}


def test_the_lowest_loss_of_a_softmax_taken_twice_is_told() -> None:
    finding = looked_at(lambda p, y: F.cross_entropy(p.softmax(-1), y))["softmax-before-cross-entropy"]
    assert finding.evidence["lowest_loss"] == pytest.approx(double_softmax_floor(3))


def summed(kind: str = "SGD", clip: float | None = None, losses: Any = (3.0, 9.0, 40.0, *[90.0] * 8)) -> Evidence:
    evidence = Evidence(step=len(losses), operations=OperationFacts(traced=1, summed_over=64, summed_where="a.py:1"))
    evidence.settings.optimizers = [OptimizerSettings(kind, 0.1)]
    evidence.settings.clip_value = clip
    evidence.settings.keys = {"learning_rate": "model.lr"}
    evidence.curves["loss"] = Curve(range(len(losses)), losses)
    return evidence


def test_a_sum_is_told_only_where_it_makes_steps_too_long() -> None:
    told = found(summed())["loss-summed"]
    assert told.remedy.endswith("model.lr=0.00156")
    assert found(summed(kind="Adam")) == {}
    assert found(summed(clip=1.0)) == {}
    assert found(summed(losses=[3.0 / (1 + i) for i in range(30)])) == {}
    assert "loss-summed" in found(summed(losses=[3.0, *[math.nan] * 10]))


def test_steps_of_a_sum_are_too_long_where_weights_change_by_a_fifth() -> None:
    evidence = summed(losses=[3.0] * 12)
    evidence.curves["update_ratio"] = Curve(range(4), [0.05] * 4)
    assert found(evidence) == {}
    evidence.curves["update_ratio"] = Curve(range(4), [0.9] * 4)
    assert "loss-summed" in found(evidence)


def test_a_functional_dropout_in_validation_is_told_with_its_line() -> None:
    facts = OperationFacts(validation_dropout=0.5, validation_dropout_where="net.py:7")
    told = dropout_in_validation(Evidence(operations=facts))
    assert told is not None
    assert "net.py:7" in told.remedy
    assert dropout_in_validation(Evidence(operations=OperationFacts())) is None


def begun_at(ratio: float, now: float, step: int = 120, first: int = 0, kind: str = "cross_entropy") -> Evidence:
    level = math.log(4) if kind == "cross_entropy" else 1.0
    term = LossTerm(kind, value=ratio * level, alone=True, classes=4, target_leaf="y", target_std=1.0)
    facts = OperationFacts(traced=1, step=first, loss=term.value, terms=[term])
    evidence = Evidence(step=step, planned_steps=200, operations=facts, batches=BatchFacts())
    evidence.curves["loss"] = Curve(range(step), [term.value, *[now * level] * (step - 1)])
    return evidence


def test_a_first_loss_far_above_chance_is_told_where_it_stays_there() -> None:
    assert "initial-loss-far-from-chance" in found(begun_at(30.0, 8.0))
    assert found(begun_at(30.0, 0.5)) == {}
    assert found(begun_at(1.7, 1.6)) == {}
    assert found(begun_at(30.0, 8.0, step=20)) == {}
    assert found(begun_at(30.0, 8.0, first=5000)) == {}


def test_a_first_loss_far_above_chance_that_halves_all_the_time_is_left_alone() -> None:
    # embeddings that are tied to the output, as torch initialises them
    evidence = begun_at(70.0, 1.0, step=100)
    evidence.planned_steps = 1000
    for half_life, told in ((18, False), (60, False), (1000, True)):
        evidence.curves["loss"] = Curve(range(100), [100.0 * 0.5 ** (i / half_life) for i in range(100)])
        assert ("initial-loss-far-from-chance" in found(evidence)) is told, half_life


def test_a_quiet_target_is_no_network_initialised_too_large() -> None:
    # an untrained output of 0.1 against a target that varies by 0.02
    assert found(begun_at(25.0, 3.0, kind="mse")) == {}
    assert "initial-loss-far-from-chance" in found(begun_at(1e5, 3e3, kind="mse"))


def memorised(validation: list[float], train: float, level: float = math.log(2)) -> Evidence:
    term = LossTerm("cross_entropy", value=level, alone=True, classes=2, target_leaf="y")
    facts = OperationFacts(traced=1, loss=level, terms=[term])
    evidence = Evidence(step=240, planned_steps=240, operations=facts, batches=BatchFacts())
    evidence.curves["loss"] = Curve(range(240), torch.linspace(level, train, 240).tolist())
    evidence.curves["val_loss"] = Curve([30 * i + 30 for i in range(len(validation))], validation)
    return evidence


def test_validation_with_other_shares_of_classes_is_compared_with_what_these_shares_give() -> None:
    counts, validation = {0: 960, 1: 40}, {0: 200, 1: 200}
    drawn = [0] * 960 + [1] * 40
    # what the frequencies of training lose on rows of validation, row by row
    by_hand = sum(-math.log(drawn.count(c) / 1000) for c, n in validation.items() for _ in range(n)) / 400
    facts = BatchFacts(labels=LabelFacts("y", counts, validation))
    level = entropy(counts.values())

    def told_of(losses: list[float]) -> bool:
        evidence = memorised(losses, 0.3 * level, level)
        evidence.batches = facts
        return "labels-unrelated-to-input" in found(evidence)

    term = LossTerm("cross_entropy", target_leaf="y", classes=2)
    assert chance_of_other_rows(term, facts) == pytest.approx(by_hand, rel=0.01)
    # well above what training has as chance, and far better than knowing no input
    assert not told_of([0.9, 0.7, 0.6, 0.53, 0.53])
    assert told_of([by_hand * f for f in (1.0, 1.01, 1.05, 1.1, 1.2)])


def test_learning_by_heart_alone_is_told_from_overfitting_and_from_noisy_labels() -> None:
    level = math.log(2)
    shuffled = [level * f for f in (1.0, 1.003, 1.01, 1.02, 1.04)]
    assert "labels-unrelated-to-input" in found(memorised(shuffled, 0.9 * level))
    assert found(memorised([level * f for f in (0.97, 0.96, 0.98, 1.02, 1.1)], 0.7 * level)) == {}
    assert found(memorised([level * f for f in (1.0, 0.985, 0.98, 0.98)], 0.97 * level)) == {}
    # nothing has been learnt yet
    assert found(memorised([level * f for f in (1.0, 1.001, 1.0, 1.001)], 0.999 * level)) == {}
