"""Rules of model families: on small trainings, and on curves whose answer is known from arithmetic."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from stablelit.doctor.evidence import Curve, Evidence, OperationFacts, Settings
from stablelit.doctor.evidence.operations import LossTerm
from stablelit.doctor.rules.family import FAMILY_RULES
from stablelit.findings import Finding

CHECKS = {rule.name: rule for rule in FAMILY_RULES}
LAST = 400


def ask(name: str, evidence: Evidence) -> Finding | None:
    """What the rule finds, where it can be checked."""
    rule = CHECKS[name]
    return rule.check(evidence) if rule.can_check(evidence) else None


def evidence(
    curves: dict[str, object],
    step: int = LAST,
    planned: int | None = LAST,
    ended: bool = False,
    **hyperparameters: object,
) -> Evidence:
    """Curves as lists are spread evenly up to `step`; a number is a constant."""
    made = {}
    for name, held in curves.items():
        if isinstance(held, Curve):
            made[name] = held
            continue
        values = np.atleast_1d(np.asarray(held, dtype=float))
        made[name] = Curve(np.linspace(0, step, len(values)), values)
    settings = Settings(batch_size=hyperparameters.pop("batch_size", None), hyperparameters=hyperparameters)
    return Evidence(step=step, planned_steps=planned, ended=ended, curves=made, settings=settings)


def views(n: int, noise: float, generator: torch.Generator, mixing: Tensor) -> tuple[Tensor, Tensor]:
    x = torch.randn(n, 8, generator=generator) @ mixing / 3
    return tuple(x + noise * torch.randn(n, 16, generator=generator) for _ in range(2))  # type: ignore[return-value]


@cache
def contrastive_losses(
    n: int, temperature: float, rate: float, seed: int, fault: str, noise: float
) -> tuple[float, ...]:
    """NT-Xent of a small encoder on vectors, 175 steps."""
    generator = torch.Generator().manual_seed(seed)
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 16))
    optimizer = torch.optim.Adam(encoder.parameters(), lr=rate)
    mixing, losses = torch.randn(8, 16, generator=generator), []
    for _ in range(175):
        a, b = views(n, noise, generator, mixing)
        b = b[torch.randperm(n, generator=generator)] if fault == "mispaired" else b
        z = functional.normalize(encoder(torch.cat([a, b])) * (fault != "collapsed") + (fault == "collapsed"), dim=1)
        scores = (z @ z.T / temperature).fill_diagonal_(-1e9)
        loss = functional.cross_entropy(scores, torch.arange(2 * n).roll(n))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return tuple(losses)


def judged_all_along(losses: tuple[float, ...], n: int, temperature: float) -> list[int]:
    """Steps at which it is said twice in a row, judged every 25."""
    said = [
        step
        for step in range(25, len(losses) + 1, 25)
        if ask(
            "contrastive-at-chance", evidence({"loss": losses[:step]}, step, 175, batch_size=n, temperature=temperature)
        )
    ]
    return [step for step in said if step - 25 in said]


MORE_RUNS = [(8, 0.5, 1e-2), (24, 0.5, 1e-3)]


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["mispaired", "collapsed"])
@pytest.mark.parametrize(("n", "temperature"), [(8, 0.5), (24, 0.2)])
def test_a_contrastive_run_that_knows_nothing_of_its_pairs_is_at_chance(n, temperature, fault):
    assert judged_all_along(contrastive_losses(n, temperature, 3e-3, 0, fault, 0.3), n, temperature)


@pytest.mark.parametrize(
    ("n", "temperature", "rate"),
    [(8, 0.5, 1e-3), (24, 1.0, 3e-4), *(pytest.param(*c, marks=pytest.mark.slow) for c in MORE_RUNS)],
)
@pytest.mark.parametrize("noise", [0.3, pytest.param(1.5, marks=pytest.mark.slow)])
def test_a_contrastive_run_that_learns_is_not(n, temperature, rate, noise):
    assert judged_all_along(contrastive_losses(n, temperature, rate, 1, "", noise), n, temperature) == []


def at(level: float, noise: float = 0.003, n: int = 300, seed: int = 0) -> np.ndarray:
    return level * (1 + noise * np.random.default_rng(seed).standard_normal(n))


@pytest.mark.parametrize("classes", [10, 63, 100])
def test_a_classifier_that_has_converged_is_at_no_chance_level(classes):
    """Down from ln C to where ln(2N-1) of its batch lies."""
    loss = np.concatenate([np.linspace(2.5 * math.log(classes), math.log(classes), 60), at(math.log(classes))])
    n = (classes + 1) // 2
    assert ask("contrastive-at-chance", evidence({"loss": loss}, batch_size=n)) is None


def test_a_loss_near_chance_of_another_kind_of_model_is_not_taken_for_it():
    assert ask("contrastive-at-chance", evidence({"loss": at(math.log(63) * 1.01)}, batch_size=32)) is None
    assert ask("contrastive-at-chance", evidence({"loss": at(math.log(63) * 1.01)}, batch_size=32, temperature=0.5))


@pytest.mark.parametrize(("leaf", "expected"), [("", True), ("batch[1]", False)], ids=["own-pairs", "labels"])
def test_the_traced_loss_decides_between_pairs_and_labels(leaf, expected):
    term = LossTerm(
        "cross_entropy", alone=True, prediction_shape=(64, 64), classes=64, candidates=63.0, target_leaf=leaf
    )
    held = evidence({"loss": at(math.log(63))}, batch_size=32, temperature=0.5)
    held.operations = OperationFacts(traced=1, terms=[term])
    assert (ask("contrastive-at-chance", held) is not None) == expected


def test_a_slow_start_that_falls_is_no_chance_level():
    falling = at(math.log(63), 0.0005) * np.linspace(1.0, 0.985, 300)
    assert ask("contrastive-at-chance", evidence({"loss": falling}, batch_size=32, temperature=0.5)) is None


def test_a_step_that_hardly_moves_is_another_fault():
    curves = {"loss": at(math.log(63)), "update_ratio": np.full(50, 1e-7)}
    assert ask("contrastive-at-chance", evidence(curves, batch_size=32, temperature=0.5)) is None


def test_young_runs_are_not_judged():
    assert (
        ask("contrastive-at-chance", evidence({"loss": at(math.log(63), n=100)}, 100, batch_size=32, tau=1.0)) is None
    )


# graphs


def test_a_method_that_begins_without_edges_is_healthy():
    assert ask("graph-empty", evidence({"edges": [0, 0, 0, 0]}, step=40, planned=LAST)) is None
    assert ask("graph-empty", evidence({"edges": [0] * 4 + [3, 9, 12]}, ended=True)) is None


def test_a_graph_that_has_lost_its_edges_is_empty():
    finding = ask("graph-empty", evidence({"edges": [20, 9, 0, 0, 0, 0]}))
    assert finding is not None
    assert finding.evidence == {"edges": 0, "most": 20.0, "evaluations": 4}


def test_two_evaluations_without_edges_are_not_enough():
    assert ask("graph-empty", evidence({"edges": [20, 9, 0, 0]}, ended=True)) is None


def test_where_the_length_is_unknown_many_evaluations_are_asked_for():
    assert ask("graph-empty", evidence({"edges": [0] * 9}, planned=None)) is None
    assert ask("graph-empty", evidence({"edges": [0] * 10}, planned=None)) is not None


FULL_GRAPHS = {
    "all-of-10-nodes": ([90, 90, 90], {"nodes": 10}, True),
    "nearly-all": ([88, 86, 87], {"nodes": 10}, True),
    "dense": ([60, 60, 60], {"nodes": 10}, False),
    "truth-is-dense": ([90, 90, 90], {"nodes": 10, "true_edges": 50}, False),
    "nodes-unknown": ([90, 90, 90], {"true_edges": 13}, True),
    "no-whole-number-of-nodes": ([88, 88, 88], {"true_edges": 13}, False),
    "twelve-of-thirteen": ([12, 12, 12], {"true_edges": 13}, False),
    "nothing-known": ([90, 90, 90], {}, False),
    "empty": ([0, 0, 0], {"true_edges": 13}, False),
    "thins-out": ([90, 90, 30], {"nodes": 10}, False),
}


@pytest.mark.parametrize("case", FULL_GRAPHS)
def test_a_graph_is_full_where_all_its_edges_are_there(case):
    edges, known, expected = FULL_GRAPHS[case]
    assert (ask("graph-full", evidence({"edges": edges, **known})) is not None) == expected


@pytest.mark.parametrize(
    ("distance", "expected"),
    [
        ([40, 30, 27, 27, 27, 27], True),
        ([40, 30, 20, 14, 13, 12], False),  # it gets below
        ([40, 30, 27, 13, 27, 27], False),  # at its best it is no worse
        ([13, 13, 13, 13], False),  # the empty graph itself
    ],
    ids=["worse", "falls-below", "touches", "equal"],
)
def test_a_distance_is_compared_with_that_of_no_edges(distance, expected):
    assert (ask("worse-than-empty-graph", evidence({"shd": distance, "true_edges": 13})) is not None) == expected


def test_a_distance_early_in_a_run_is_not_judged():
    assert ask("worse-than-empty-graph", evidence({"shd": [60, 50, 40], "true_edges": 13}, step=100)) is None


@pytest.mark.parametrize(
    ("best", "expected"),
    [([0.3, 0, 0, 0], True), ([1, 1, 1], True), ([0.05, 0.05, 0.05], False), ([0, 0, 0.1], False), ([0, 1, 0], False)],
    ids=["zero", "one", "inside", "left", "swings"],
)
def test_only_the_very_end_of_the_grid_counts(best, expected):
    assert (ask("threshold-at-the-grids-end", evidence({"threshold": best})) is not None) == expected


# variational


def collapsing(kl: object, weight: object = None, dims: int = 16, **more: object) -> Evidence:
    curves = {"kl": kl, "latent_dim": dims, "loss": np.linspace(2, 1, 40)}
    return evidence(curves if weight is None else {**curves, "kl_weight": weight}, **more)


def test_a_kl_of_nothing_is_collapse():
    assert ask("posterior-collapse", collapsing(np.full(40, 1e-5), 1.0)) is not None
    assert ask("posterior-collapse", collapsing(np.geomspace(10, 1e-6, 40))) is not None


HEALTHY_KL = {
    "a-few-nats": (np.full(40, 3.0), 1.0),
    "mean-over-128-dimensions": (np.full(40, 0.004), 1.0),
    "times-a-tiny-weight": (np.full(40, 1e-4 * 5.0), 1e-4),
    "tiny-weight-not-logged": (np.full(40, 1e-6), None),
    "warms-up-from-nothing": (np.geomspace(1e-6, 1e-2, 40), None),
    "weight-of-zero": (np.full(40, 1e-6), 0.0),
    "still-rising": (np.concatenate([np.full(20, 1e-6), np.linspace(1e-6, 4e-5, 20)]), 1.0),
}


@pytest.mark.parametrize("case", HEALTHY_KL)
def test_a_small_kl_that_may_be_a_matter_of_reduction_is_no_collapse(case):
    kl, weight = HEALTHY_KL[case]
    assert ask("posterior-collapse", collapsing(kl, weight, dims=128 if "128" in case else 16)) is None


def test_a_first_half_is_too_early_for_collapse():
    assert ask("posterior-collapse", collapsing(np.full(40, 1e-6), 1.0, step=150)) is None


def over_coded(nats: float, validation: np.ndarray) -> Finding | None:
    kl = nats * 16 * np.linspace(0.7, 1.0, 60)
    return ask("over-coding", evidence({"kl": kl, "latent_dim": 16, "val_loss": validation}, ended=True))


def test_many_nats_that_rise_while_validation_gets_worse_are_over_coding():
    worse = np.concatenate([np.linspace(5, 3, 20), np.linspace(3, 6, 40)])
    assert over_coded(9.0, worse) is not None
    assert over_coded(3.0, worse) is None
    assert over_coded(9.0, np.linspace(6, 3, 60)) is None


def test_a_weight_that_rises_to_the_end_is_a_note():
    finding = ask("kl-weight-without-cap", evidence({"kl_weight": np.linspace(0, 1, 40)}, ended=True))
    assert finding is not None
    assert finding.severity == "info"


@pytest.mark.parametrize("case", ["capped", "cyclical", "constant"])
def test_a_weight_that_has_an_end_is_none(case):
    ramp = np.linspace(0, 1, 20)
    weight = {"capped": [*ramp, *np.ones(20)], "cyclical": [*ramp, *ramp[:10], *ramp[:10]], "constant": np.ones(40)}
    assert ask("kl-weight-without-cap", evidence({"kl_weight": weight[case]}, ended=True)) is None


def test_a_small_weight_with_a_kl_that_stands_is_no_note():
    curves = {"kl": np.full(40, 9.0), "kl_weight": 1e-6, "loss": np.linspace(9, 2, 40), "latent_dim": 16}
    assert ask("kl-weight-too-small", evidence(curves, ended=True)) is None


# what moves


def test_an_average_as_long_as_the_run_is_a_note():
    finding = ask("average-remembers-the-start", evidence({"ema_decay": 0.9995}, planned=5000))
    assert finding is not None
    assert finding.evidence["length"] == pytest.approx(2000)
    assert ask("average-remembers-the-start", evidence({"ema_decay": 0.9995}, planned=100_000)) is None


@pytest.mark.parametrize(("late", "expected"), [(2.4, True), (2.0, False)], ids=["above", "below"])
def test_a_curriculum_is_judged_at_full_difficulty(late, expected):
    steps = np.arange(0, 401, 4)
    curves = {
        "difficulty": Curve(steps, np.minimum(1.0, steps / 200)),
        "loss": Curve(steps, np.where(steps < 200, 0.01 * steps, late)),
        "val_loss": Curve([4, 100, 200, 400], [2.23, 2.2, 2.1, 2.0]),
    }
    assert (ask("curriculum-too-fast", evidence(curves)) is not None) == expected


def test_a_first_validation_in_the_middle_of_the_ramp_is_no_yardstick():
    steps = np.arange(0, 401, 4)
    curves = {
        "difficulty": Curve(steps, np.minimum(1.0, steps / 200)),
        "loss": Curve(steps, np.full(len(steps), 2.4)),
        "val_loss": Curve([100, 200], [2.2, 2.1]),
    }
    assert ask("curriculum-too-fast", evidence(curves)) is None


@pytest.mark.parametrize("rule", FAMILY_RULES, ids=lambda rule: rule.name)
def test_nothing_is_said_of_nothing(rule):
    assert not rule.can_check(Evidence())
    empty = Evidence(curves={need.partition(".")[2]: Curve([0], [math.nan]) for need in rule.needs})
    assert rule.check(empty) is None


# reconstruction, KL and weight of a small VAE whose weight rises over the first half to what is given (one seed each)
RISING_WEIGHT = {
    1.0: (
        [51.9, 15.6, 13.2, 13.0, 15.9, 15.3, 14.2, 13.0, 13.1, 13.8],
        [9.5, 16.4, 13.4, 11.0, 10.0, 9.8, 9.9, 9.3, 9.1, 9.5],
    ),
    4.0: (
        [51.9, 18.9, 18.2, 20.7, 25.3, 25.4, 21.8, 19.7, 21.1, 21.7],
        [8.8, 10.1, 7.2, 6.1, 5.5, 5.4, 5.6, 5.1, 4.9, 5.4],
    ),
    10.0: (
        [52.7, 26.7, 25.9, 33.3, 39.9, 41.7, 33.7, 31.1, 33.3, 37.0],
        [7.5, 5.9, 4.5, 3.7, 3.2, 3.1, 3.4, 3.2, 3.1, 3.4],
    ),
    30.0: (
        [59.7, 47.0, 47.5, 64.0, 77.3, 84.3, 73.5, 71.8, 75.0, 84.2],
        [4.2, 2.7, 2.1, 1.6, 1.1, 1.0, 1.2, 1.0, 1.0, 1.1],
    ),
}


@pytest.mark.parametrize("largest", [1.0, 4.0, 10.0, 30.0])
def test_a_kl_weight_is_too_large_where_it_costs_what_had_been_gained(largest: float) -> None:
    recon, kl = RISING_WEIGHT[largest]
    weight = [largest * min(1.0, 0.2 * (n + 1)) for n in range(10)]
    held = evidence({"kl": kl, "kl_weight": weight, "logged/train_recon": recon, "logged/val_recon": recon[::-1]})
    found = ask("kl-weight-too-large", held)
    assert (found is not None) == (largest == 30.0)
    if found is not None:
        assert found.evidence["bound_best"] == pytest.approx(min(a + b for a, b in zip(recon, kl, strict=True)))
        assert "1" in found.remedy


def test_a_kl_weight_that_never_rose_says_nothing_of_itself() -> None:
    recon, kl = RISING_WEIGHT[30.0]
    held = {"kl": kl, "logged/train_recon": recon}
    assert ask("kl-weight-too-large", evidence(held | {"kl_weight": [30.0] * 10})) is None
    # nor where the bound got worse while the KL rose: another thing has happened
    assert ask("kl-weight-too-large", evidence(held | {"kl": kl[::-1], "kl_weight": range(3, 33, 3)})) is None
    assert ask("kl-weight-too-large", evidence({"kl": kl, "kl_weight": range(3, 33, 3)})) is None
