from __future__ import annotations

import pytest
import torch

from stablelit.contracts import Scalar
from stablelit.families.causal.likelihoods import cell_nll
from stablelit.families.causal.mechanisms import build_mechanism
from stablelit.families.causal.objective import GraphObjective
from stablelit.families.causal.path import ConstraintPath

NODES, ROWS = 4, 20


def step(mechanism="linear", path="path", **settings):
    torch.manual_seed(0)
    made = build_mechanism(mechanism, NODES, 1 if mechanism != "autoencoder" else 0, None, False, 1)
    with torch.no_grad():
        made.structure.weights.uniform_(-0.3, 0.3)
    objective = GraphObjective(ConstraintPath(path), **settings)
    rows = torch.randn(ROWS, 1 + (mechanism != "autoencoder"), NODES)
    scored = torch.rand(ROWS, NODES) < 0.8
    prediction = made(rows, torch.zeros(ROWS, dtype=torch.long))
    return objective, made, prediction, rows[:, 0], scored


def test_the_loss_is_the_sum_that_the_docstring_writes():
    settings = {"lambda_sparse": 0.3, "lambda_lag": 0.2, "lambda_recon": 2.0}
    objective, mechanism, prediction, target, scored = step(**settings)
    with torch.no_grad():
        mechanism.structure.lag_weights.fill_(0.1)
    terms = objective.terms(mechanism, prediction, target, scored, None)
    w = mechanism.edge_weights()
    cells = cell_nll("laplace", target - prediction.mean, prediction.log_scale)[scored].mean()
    nll = cells - torch.linalg.det(torch.eye(NODES) - w).abs().log() / NODES
    h = -torch.logdet(torch.eye(NODES) - w * w)
    mu = 10.0
    expected = mu * (2.0 * NODES * nll + 0.3 * w.abs().sum() + 0.2 * 0.1 * NODES**2) + h
    torch.testing.assert_close(terms.loss, expected.double(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(terms.nll.double(), nll.double())


def test_the_post_mortems_loss_is_a_plain_weighted_sum():
    settings = {
        "noise": "squared_error",
        "kind": "trace_power",
        "sparsity": "mean",
        "disentanglement": "correlation",
        "lambda_recon": 10.0,
        "lambda_sparse": 0.5,
        "lambda_acyclic": 0.25,
        "lambda_disentangle": 0.125,
    }
    objective, mechanism, prediction, target, scored = step("autoencoder", "fixed", **settings)
    terms = objective.terms(mechanism, prediction, target, scored, None)
    weights = mechanism.edge_weights()
    expected = (
        10.0 * (target - prediction.mean)[scored].square().mean()
        + 0.5 * weights.mean()
        + 0.25 * terms.raw["acyclic"]
        + 0.125 * terms.raw["disentangle"]
    )
    torch.testing.assert_close(terms.loss, expected.double(), rtol=1e-5, atol=1e-6)
    assert set(terms.weighted) == {"recon", "sparse", "acyclic", "disentangle"}


def test_sparsity_costs_nothing_below_its_target():
    settings = {"noise": "squared_error", "kind": "trace_power", "sparsity": "mean"}
    values = {}
    for target in (None, 0.01, 0.9):
        objective, mechanism, *_ = step("autoencoder", "fixed", target_sparsity=target, **settings)
        terms = objective.terms(mechanism, *_, None)
        values[target] = float(terms.raw["sparse"].detach())
    assert values[0.01] == pytest.approx(values[None] - 0.01)
    assert values[0.9] == 0.0


def test_cells_that_are_not_scored_send_no_gradient():
    objective, mechanism, prediction, target, _ = step()
    scored = torch.ones(ROWS, NODES, dtype=torch.bool)
    scored[:, 2] = False
    objective.nll(mechanism, prediction, target, scored).backward()
    determinant = torch.autograd.grad(
        -torch.linalg.slogdet(torch.eye(NODES, dtype=torch.float64) - mechanism.edge_weights()).logabsdet / NODES,
        mechanism.structure.weights,
    )[0]
    # into column 2 there is the determinant's gradient alone
    torch.testing.assert_close(mechanism.structure.weights.grad[:, 2], determinant[:, 2])


def test_the_empty_graph_is_judged_at_the_scale_it_had():
    objective, _, _, target, scored = step(noise="gaussian")
    expected = cell_nll("gaussian", target, torch.full((NODES,), 0.5))[scored].mean()
    torch.testing.assert_close(objective.baseline_nll(target, scored, torch.full((NODES,), 0.5)), expected)


@pytest.mark.parametrize(
    "name", ["lambda_recon", "lambda_sparse", "lambda_acyclic", "lambda_lag", "lambda_disentangle"]
)
def test_every_weight_is_a_scalar_that_a_schedule_can_fill(name):
    objective, *_ = step()
    Scalar(objective, name).set(0.75)
    assert float(getattr(objective, name)) == 0.75
