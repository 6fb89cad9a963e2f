from __future__ import annotations

import itertools

import pytest
from omegaconf import OmegaConf

from stablelit.errors import ConfigurationError
from stablelit.run.problems import Problem
from stablelit.run.sweep.grouping import told_once
from stablelit.run.sweep.plan import SweepJob, SweepPlan, plan_of
from stablelit.run.sweep.sameness import identity_of, same_runs

BASIC = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
OPTUNA = "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper"


def plan(*typed: str, target: str = BASIC, **sweeper: object) -> SweepPlan:
    hydra = {"sweeper": {"_target_": target, **sweeper}, "overrides": {"task": list(typed)}}
    return plan_of(OmegaConf.create({"hydra": hydra}))


def test_a_grid_is_every_combination_in_the_order_of_the_sweeper():
    found = plan("+experiment=jets", "seed=0,1,2", "model.size=a,b", params={"x": "range(1,3)"})
    expected = [
        (f"x={x}", "+experiment=jets", f"seed={seed}", f"model.size={size}")
        for x, seed, size in itertools.product((1, 2), (0, 1, 2), "ab")
    ]
    assert [job.overrides for job in found.jobs] == expected
    assert [job.number for job in found.jobs] == list(range(12))
    assert found.swept == ("x", "seed", "model.size")
    assert found.complete


def test_what_is_typed_wins_over_the_file():
    found = plan("seed=5", params={"seed": "0,1", "lr": "1,2"})
    assert [job.overrides for job in found.jobs] == [("seed=5", "lr=1"), ("seed=5", "lr=2")]
    assert found.swept == ("lr",)


def test_a_list_is_one_value_and_not_several():
    assert len(plan("model.augment=[],[a,b]", "x=[1,2]").jobs) == 2


def test_a_sweeper_that_chooses_is_looked_at_at_its_edges_and_in_the_middle():
    found = plan("lr=tag(log,interval(1e-4,1e-2))", "n=int(interval(1,9))", "kind=a,b", "fixed=1", target=OPTUNA)
    values = {key: {o.partition("=")[2] for job in found.jobs for o in job.overrides if o.startswith(f"{key}=")}
              for key in ("lr", "n", "kind", "fixed")}  # fmt: skip
    assert sorted(map(float, values["lr"])) == pytest.approx([1e-4, 1e-3, 1e-2])
    assert (values["n"], values["kind"], values["fixed"]) == ({"1", "5", "9"}, {"a", "b"}, {"1"})
    assert not found.complete
    assert found.swept == ("lr", "n", "kind")
    # all corners are there
    corners = {tuple(o.partition("=")[2] for o in job.overrides[:3]) for job in found.jobs}
    assert {(lr, n, k) for lr in ("0.0001", "0.01") for n in "19" for k in "ab"} <= corners


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("seed=range(0,20000)", "10,000"),
        ("lr=interval(0,1)", "hydra/sweeper=optuna"),
        ("experiment=glob(nothing*)", "no value"),
    ],
)
def test_a_grid_that_nobody_means_is_refused(typed, told):
    class Loader:
        def get_group_options(self, *args: object, **more: object) -> list[str]:
            return ["jets", "proteins"]

    config = OmegaConf.create({"hydra": {"sweeper": {"_target_": BASIC}, "overrides": {"task": [typed]}}})
    with pytest.raises(ConfigurationError, match=told):
        plan_of(config, Loader())


GRID = plan("seed=0,1,2", "lr=1,2,3", "kind=a,b")


def problems_where(holds) -> dict[int, list[Problem]]:
    return {job.number: [Problem("key", job.number, "is wrong")] for job in GRID.jobs if holds(" ".join(job.overrides))}


@pytest.mark.parametrize(
    ("holds", "cause"),
    [
        (lambda o: True, "in all 18 jobs"),
        (lambda o: "lr=2" in o, "with lr=2"),
        (lambda o: "lr=2" in o or "lr=3" in o, "with lr=2 or lr=3"),
        (lambda o: "lr=2" in o and "kind=b" in o, "with lr=2 and kind=b"),
        (lambda o: o == "seed=1 lr=3 kind=a", "in job 10, with seed=1, lr=3, kind=a"),
    ],
    ids=["all", "one value", "two values", "a pair", "one job"],
)
def test_a_problem_of_many_jobs_is_told_once_with_its_cause(holds, cause):
    texts = told_once(problems_where(holds), GRID)
    assert len(texts) == 1
    assert texts[0].endswith(cause)


def model(**more: object) -> dict:
    return {"model": {"_target_": "fractions.Fraction", "numerator": 2}, "seed": 0, **more}


def test_what_reaches_no_object_makes_no_other_run():
    alone = identity_of(model())
    assert identity_of(model(optimizer={"_target_": "torch.optim.SGD", "lr": 3})) == alone
    assert identity_of(model(callbacks={"ema": {"half_life": 3}})) == identity_of(model(callbacks={}))
    assert identity_of(model(pacing="root", runs="there", logger={"a": {"_target_": "x.y"}})) == alone
    assert identity_of({**model(), "seed": 1}) != alone
    assert identity_of(model(callbacks={"a": {"_target_": "x.Y", "n": 1}})) != identity_of(model())


def test_two_jobs_that_would_be_the_same_are_told_with_what_differs():
    found = SweepPlan(tuple(SweepJob(i, (f"pacing={p}",)) for i, p in enumerate(("root", "linear"))), ("pacing",), True)
    (text,) = same_runs({0: "x", 1: "x"}, found)
    assert "pacing=root and linear" in text
    assert "jobs 0 and 1" in text
    assert same_runs({0: "x", 1: "y"}, found) == []
