from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from stablelit.doctor.evidence import Evidence
from stablelit.doctor.evidence.batches import BatchFacts, LabelFacts, LabelOrder, LeafFacts, RowFacts
from stablelit.doctor.evidence.operations import LossTerm, OperationFacts
from stablelit.doctor.probes.batches import BatchProbe
from stablelit.doctor.rules.rows import ROW_RULES, differences, log_chance_of_runs
from stablelit.findings import Finding
from tests.doctor.probes.traced import seeded

# trainings, of seconds each
pytestmark = pytest.mark.slow


def found(evidence: Evidence) -> dict[str, Finding]:
    findings = [rule.check(evidence) for rule in ROW_RULES if rule.can_check(evidence)]
    return {finding.name: finding for finding in findings if finding is not None}


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def passed(batches: list[Any], validation: list[Any] = [], apart: int = 1, epochs: list[int] | None = None) -> Evidence:  # noqa: B006
    """What the probe knows after looks at these batches."""
    probe = BatchProbe()
    probe.facts.collated = True
    for i, batch in enumerate(batches):
        probe.batch_start(SimpleNamespace(current_epoch=epochs[i] if epochs else 0), None, batch, apart * i)
    for batch in validation:
        probe.validation_batch_start(None, None, batch, 0)
    target = OperationFacts(traced=1, terms=[LossTerm("cross_entropy", target_leaf="batch[1]", classes=10)])
    evidence = Evidence(step=len(batches), operations=target)
    evidence.settings.steps_per_epoch = 50.0
    probe.tell(evidence)
    return evidence


def labelled(y: Tensor, batch_size: int = 32) -> list[Any]:
    return list(zip(seeded(len(y), 6).split(batch_size), y.split(batch_size), strict=True))


@pytest.mark.parametrize("counts", [(2, 2), (3, 1, 2), (1, 1, 1)])
def test_the_probability_of_so_few_stretches_is_that_of_counting_all_orders(counts: tuple[int, ...]) -> None:
    labels = [label for label, n in enumerate(counts) for _ in range(n)]
    orders = list(itertools.permutations(labels))
    blocks = [o for o in orders if len(list(itertools.groupby(o))) == len(counts)]
    rising = [o for o in orders if list(o) == sorted(o)]
    assert math.exp(log_chance_of_runs(LabelOrder(counts=list(counts), descents=1))) == pytest.approx(
        len(blocks) / len(orders)
    )
    assert math.exp(log_chance_of_runs(LabelOrder(counts=list(counts)))) == pytest.approx(len(rising) / len(orders))


SORTED: dict[str, Tensor] = {
    "ten-classes": torch.arange(10).repeat_interleave(40),
    "two-classes": torch.arange(2).repeat_interleave(100),
    "blocks-in-any-order": torch.tensor([4, 1, 3, 0, 2]).repeat_interleave(70),
    "numbers": seeded(200).sort().values,
}


@pytest.mark.parametrize("name", SORTED)
def test_rows_in_the_order_of_their_labels_are_told(name: str) -> None:
    assert set(found(passed(labelled(SORTED[name])))) == {"labels-sorted"}


def _episodes(classes: int, ways: int, shots: int, grouped: bool, seed: int) -> Iterator[Tensor]:
    for i in range(12):
        chosen = torch.randperm(classes, generator=generator(100 * seed + i))[:ways]
        y = chosen.repeat_interleave(shots)
        yield y if grouped else y[torch.randperm(len(y), generator=generator(i))]


def unsorted(kind: str, seed: int) -> Tensor:
    draw = generator(seed)
    if kind == "shuffled":
        return torch.randint(0, 10, (384,), generator=draw)
    if kind == "rare":
        return (torch.rand(384, generator=draw) < 0.05).long()
    if kind == "rarer-than-a-batch":
        return (torch.rand(384, generator=draw) < 0.004).long()
    if kind == "one-class":
        return torch.zeros(384, dtype=torch.long)
    if kind == "balanced-parts":
        return torch.tensor([0, 1, 2, 3]).repeat_interleave(8).repeat(12)
    if kind == "episodes-grouped":
        return torch.cat(list(_episodes(20, 4, 8, True, seed)))
    if kind == "episodes-of-thousands":
        return torch.cat(list(_episodes(5000, 8, 4, True, seed)))
    if kind == "one-class-a-batch":
        return torch.randint(0, 10, (12,), generator=draw).repeat_interleave(32)
    if kind == "activity-in-stretches":
        return torch.randint(0, 4, (40,), generator=draw).repeat_interleave(10)[:384]
    return torch.randn(384, generator=draw)


UNSORTED = (
    "shuffled rare rarer-than-a-batch one-class balanced-parts episodes-grouped episodes-of-thousands "
    "one-class-a-batch activity-in-stretches numbers"
)


@pytest.mark.parametrize("kind", list(UNSORTED.split()))
def test_batches_that_are_made_on_purpose_are_not_taken_for_sorted_ones(kind: str) -> None:
    for seed in range(20):
        assert found(passed(labelled(unsorted(kind, seed)))) == {}, seed


@pytest.mark.parametrize("batch_size", [1, 4])
def test_tiny_batches_in_a_random_order_are_not_sorted(batch_size: int) -> None:
    for seed in range(20):
        y = torch.randint(0, 3, (40,), generator=generator(seed))
        assert found(passed(labelled(y, batch_size))) == {}


def test_an_order_is_followed_within_an_epoch_only() -> None:
    y = torch.arange(4).repeat_interleave(16)
    once_a_look = passed(labelled(y) * 6, apart=40, epochs=[0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5])
    assert found(once_a_look) == {}


def shares(shared: int, twins: int = 0, in_training: int | None = 1000, **more: Any) -> dict[str, Finding]:
    rows = RowFacts(training=1000, training_distinct=1000, training_twins=twins, in_training=in_training)
    rows.validation, rows.shared = 200, shared
    evidence = Evidence(batches=BatchFacts(looks=5, rows=rows))
    for name, value in more.items():
        setattr(rows if hasattr(rows, name) else evidence.settings, name, value)
    return found(evidence)


def test_shared_rows_are_told_beyond_what_twins_explain() -> None:
    assert set(shares(60)) == {"validation-rows-in-training"}
    assert shares(0) == shares(7) == {}
    # a row in five has a twin within training
    assert shares(40, twins=200) == shares(55, twins=200) == {}
    assert set(shares(200, twins=200)) == {"validation-rows-in-training"}


def test_shared_rows_are_counted_up_by_the_share_of_training_that_was_seen() -> None:
    told = shares(20, in_training=10_000)["validation-rows-in-training"]
    assert told.evidence["share"] == pytest.approx(1.0)


def test_one_graph_for_both_parts_and_a_batch_overfitted_on_purpose_are_silent() -> None:
    assert shares(200, masked=True) == {}
    assert shares(200, overfit_batches=True) == {}


def test_rows_of_few_values_coincide_without_a_leak() -> None:
    for seed in range(10):
        draw = generator(seed)
        x = torch.randint(0, 3, (960, 6), generator=draw).float()
        batches = [(part, part[:, 0].long()) for part in x[:640].split(64)]
        validation = [(part, part[:, 0].long()) for part in x[640:].split(160)]
        assert "validation-rows-in-training" not in found(passed(batches, validation))


def test_one_batch_every_step_is_told_and_an_epoch_of_one_batch_is_not() -> None:
    batches = [(seeded(32, 6), torch.arange(32) % 10) for _ in range(5)]
    evidence = passed(batches)
    assert set(found(evidence)) == {"same-batch-every-step"}
    evidence.settings.steps_per_epoch = 1.0
    assert found(evidence) == {}
    evidence.settings.steps_per_epoch = 50.0
    evidence.batches.collated = False  # type: ignore[union-attr]
    assert found(evidence) == {}


def missing(training: dict[int, int], validation: dict[int, int], kind: str = "cross_entropy") -> bool:
    mixed = LabelOrder(looks=5, counts=list(training.values()), runs=sum(training.values()))
    facts = BatchFacts(looks=5, labels=LabelFacts("y", training, validation, order=mixed))
    operations = OperationFacts(traced=1, terms=[LossTerm(kind, target_leaf="y")])
    return "labels-missing-in-training" in found(Evidence(batches=facts, operations=operations))


def test_a_class_that_chance_cannot_have_left_out_is_told() -> None:
    even = dict.fromkeys(range(5), 40)
    assert missing({c: 100 for c in range(4)}, even)
    assert not missing({c: 100 for c in range(5)}, even)
    # too few rows seen to say so
    assert not missing({c: 10 for c in range(4)}, even)
    # a rare class may be absent by chance
    assert not missing({0: 200, 1: 200}, {0: 100, 1: 98, 2: 2})
    # other classes on purpose, as in few-shot learning
    assert not missing({c: 100 for c in range(5)}, {c: 40 for c in range(4, 12)})


def moments(x: Tensor, name: str = "x") -> LeafFacts:
    return LeafFacts(
        name,
        "float",
        role="input",
        rows=len(x),
        mean=x.mean(0).tolist(),
        std=x.std(0, correction=0).tolist(),
        drift=1.0,
    )


def differs(training: Tensor, validation: Tensor) -> bool:
    facts = BatchFacts(looks=5, validation_looks=2)
    facts.leaves, facts.validation = {"x": moments(training)}, {"x": moments(validation)}
    return "validation-input-differs" in found(Evidence(batches=facts))


def test_a_validation_set_on_another_scale_is_told() -> None:
    x, other = seeded(256, 10), seeded(256, 10, seed=1)
    assert differs(x, other * 20)
    assert differs(x * 20, other)
    assert differs(x, other + 5)
    assert differs(x * 50 + 120, other)
    assert not differs(x, other)
    assert not differs(x, other * 2 + 1)
    # mixup, and noise that only training gets
    assert not differs(0.6 * x + 0.4 * x[torch.randperm(256, generator=generator(0))], other)
    assert not differs(x + seeded(256, 10, seed=2), other)


def test_a_validation_batch_of_one_class_does_not_differ() -> None:
    for seed in range(20):
        centres = 10 * seeded(5, 10, seed=seed)
        y = torch.arange(250) % 5
        x = centres[y] + seeded(250, 10, seed=seed + 100)
        other = centres[torch.full((100,), seed % 5)] + seeded(100, 10, seed=seed + 200)
        assert not differs(x, other), differences(moments(x), moments(other))


def test_a_series_in_its_order_is_not_judged_by_its_beginning() -> None:
    time = torch.arange(2000.0) / 100
    x = torch.stack([torch.sin(time + k) for k in range(6)], 1) + 0.1 * seeded(2000, 6)
    y = torch.arange(2000) % 3
    ordered = passed([(x[i : i + 64], y[i : i + 64]) for i in range(0, 320, 64)], [(x[400:], y[400:])])
    assert found(ordered) == {}
    shuffled = torch.randperm(1600, generator=generator(0))
    mixed = passed([(x[i], y[i]) for i in shuffled.split(64)[:5]], [(20 * x[1600:], y[1600:])])
    assert set(found(mixed)) == {"validation-input-differs"}


def test_a_slow_trend_in_an_order_of_its_own_is_no_difference_and_another_scale_is() -> None:
    time = torch.arange(3200.0)
    trend = 0.003 * time + torch.sin(time / 5)
    series = torch.stack([trend[i : i + 16] for i in range(3000)]) + 0.1 * seeded(3000, 16)
    plain = seeded(3000, 16, seed=1)
    looked = (0, 1, 2, 3, 4, 8, 16, 32)

    def told_of(rows: Tensor, validation: Tensor, looks: int = len(looked)) -> bool:
        evidence = passed(
            [(rows[32 * i : 32 * i + 32], rows[:32, 0] > 0) for i in looked[:looks]], [(validation, None)]
        )
        assert evidence.batches is not None
        evidence.batches.in_order = True
        return "validation-input-differs" in found(evidence)

    assert not any(told_of(series, series[2400:], looks) for looks in range(3, 9))
    assert not told_of(plain, plain[2400:])
    assert told_of(plain, 20 * plain[2400:])


def test_an_offset_of_two_deviations_is_told_where_both_parts_hold_the_same_mix_of_classes() -> None:
    x, other, y = seeded(320, 6), seeded(200, 6, seed=1), torch.arange(320) % 4
    training = list(zip(x.split(64), y.split(64), strict=True))
    assert found(passed(training, [(other, y[:200])])) == {}
    assert set(found(passed(training, [(other + 2, y[:200])]))) == {"validation-input-differs"}
    # rows of one class may well lie as far from the others
    assert found(passed(training, [(other + 2, torch.zeros(200, dtype=torch.long))])) == {}
