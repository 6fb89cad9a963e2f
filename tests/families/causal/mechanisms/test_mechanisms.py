"""What every mechanism has to keep: its prediction of a node does not know that node, and goes through the graph."""

from __future__ import annotations

import pytest
import torch

from stablelit.errors import ConfigurationError
from stablelit.families.causal.mechanisms import build_mechanism

NODES, ROWS = 5, 12
THROUGH = ("linear", "network", "tri_latent")


def made(name, lags=0, allowed=None, environments=1, shared_scale=False):
    torch.manual_seed(0)
    mechanism = build_mechanism(name, NODES, lags, allowed, shared_scale, environments)
    with torch.no_grad():
        mechanism.structure.weights.normal_()
    return mechanism


def rows_of(lags=0):
    return torch.randn(ROWS, 1 + lags, NODES, generator=torch.Generator().manual_seed(1))


def jacobian(mechanism, rows, environment, graph=None):
    """(d, d): [i, j] is whether the prediction of j moves with the present i, in any row."""
    mechanism.eval()
    rows = rows.clone().requires_grad_()
    mean = mechanism(rows, environment, graph).mean
    moved = torch.zeros(NODES, NODES, dtype=torch.bool)
    for j in range(NODES):
        (gradient,) = torch.autograd.grad(mean[:, j].sum(), rows, retain_graph=True)
        moved[:, j] = (gradient[:, 0] != 0).any(0)
    return moved


@pytest.mark.parametrize("name", THROUGH)
@pytest.mark.parametrize("lags", [0, 2])
def test_a_prediction_moves_with_its_parents_and_with_nothing_else(name, lags):
    mechanism = made(name, lags)
    graph = torch.rand(NODES, NODES, generator=torch.Generator().manual_seed(2)) < 0.4
    graph.fill_diagonal_(False)
    environment = torch.zeros(ROWS, dtype=torch.long)
    assert torch.equal(jacobian(mechanism, rows_of(lags), environment, graph), graph)


@pytest.mark.parametrize("name", THROUGH)
def test_no_node_helps_to_predict_itself(name):
    moved = jacobian(made(name), rows_of(), torch.zeros(ROWS, dtype=torch.long))
    assert not moved.diagonal().any()
    assert moved.sum() == NODES * (NODES - 1)


@pytest.mark.parametrize("name", THROUGH)
def test_an_edge_that_is_not_allowed_is_zero_and_stays_so(name):
    allowed = torch.ones(NODES, NODES, dtype=torch.bool)
    allowed[1, 3] = False
    mechanism = made(name, allowed=allowed)
    assert float(mechanism.edge_weights()[1, 3]) == 0.0
    assert not jacobian(mechanism, rows_of(), torch.zeros(ROWS, dtype=torch.long))[1, 3]


@pytest.mark.parametrize("name", THROUGH)
def test_the_gradient_of_a_reconstruction_reaches_the_graph(name):
    mechanism = made(name, lags=1)
    rows = rows_of(1)
    (rows[:, 0] - mechanism(rows, torch.zeros(ROWS, dtype=torch.long)).mean).square().sum().backward()
    gradient = mechanism.structure.weights.grad
    assert gradient is not None
    assert float(gradient.abs().sum()) > 0


def test_that_of_the_post_mortems_autoencoder_does_not():
    mechanism = made("autoencoder")
    rows = rows_of()
    (rows[:, 0] - mechanism(rows, torch.zeros(ROWS, dtype=torch.long)).mean).square().sum().backward()
    assert mechanism.structure.weights.grad is None
    assert not mechanism.predicts_by_graph


def test_the_autoencoder_keeps_a_tenth_of_the_entries_at_about_a_half():
    torch.manual_seed(0)
    mechanism = build_mechanism("autoencoder", 13, 0, None, True, 1)
    weights = mechanism.edge_weights().detach()
    assert int((weights > 0).sum()) == 16
    assert 0.5 < float(weights[weights > 0].mean()) < 0.6
    largest = mechanism.structure.weights.flatten().topk(16).values
    torch.testing.assert_close(weights[weights > 0].sort().values, torch.sigmoid(largest).sort().values)


def test_a_linear_mechanism_is_the_product_of_its_formula():
    mechanism = made("linear", lags=2)
    with torch.no_grad():
        mechanism.structure.lag_weights.normal_()
        mechanism.bias.normal_()
    rows = rows_of(2)
    w, a = mechanism.edge_weights().float(), mechanism.structure.lag_weights.float()
    expected = [x[0] @ w + x[1] @ a[0] + x[2] @ a[1] + mechanism.bias for x in rows]
    torch.testing.assert_close(mechanism(rows, torch.zeros(ROWS)).mean, torch.stack(expected))


def test_a_network_mechanism_is_one_network_a_node():
    mechanism = made("network", lags=1)
    rows, structure = rows_of(1), mechanism.structure
    expected = torch.zeros(ROWS, NODES)
    for j in range(NODES):
        first = structure.weights[:, j].float().clone()
        first[j] = 0.0
        hidden = rows[:, 0] @ first + rows[:, 1] @ structure.lag_weights[0, :, j].float() + mechanism.first_bias[j]
        readout = mechanism.second[j] / mechanism.second[j].norm()
        expected[:, j] = torch.tanh(hidden) @ readout + mechanism.bias[j]
    torch.testing.assert_close(mechanism(rows, torch.zeros(ROWS)).mean, expected)
    norms = structure.weights.detach().square().sum(-1).sqrt()
    off = ~torch.eye(NODES, dtype=torch.bool)
    torch.testing.assert_close(mechanism.edge_weights().detach()[off], norms[off])
    assert not mechanism.edge_weights().diagonal().any()


def test_a_norm_of_zero_has_a_gradient_of_zero_and_not_nan():
    mechanism = made("network")
    with torch.no_grad():
        mechanism.structure.weights.zero_()
    mechanism.edge_weights().sum().backward()
    assert mechanism.structure.weights.grad.isfinite().all()


def test_the_codes_of_the_context_move_level_and_noise_and_no_edge():
    mechanism = made("tri_latent", lags=1, environments=3)
    mechanism.eval()
    with torch.no_grad():
        mechanism.noise_decoder.weight.normal_()
    rows = rows_of(1)
    one, two = (mechanism(rows, torch.full((ROWS,), k)) for k in (0, 1))
    assert not torch.equal(one.mean, two.mean)
    assert not torch.equal(one.log_scale, two.log_scale)
    assert one.log_scale.shape == (ROWS, NODES)
    assert len(one.codes) == 3


def test_the_size_of_an_edge_does_not_hide_in_a_network():
    mechanism, rows = made("network"), rows_of()
    before = mechanism(rows, torch.zeros(ROWS)).mean
    with torch.no_grad():
        mechanism.second.mul_(7.0)
    torch.testing.assert_close(mechanism(rows, torch.zeros(ROWS)).mean, before)


def test_the_size_of_an_edge_does_not_hide_in_the_encoder():
    mechanism = made("tri_latent").train()
    rows, environment = rows_of(), torch.zeros(ROWS, dtype=torch.long)
    before = mechanism(rows, environment).mean
    with torch.no_grad():
        for parameter in (mechanism.signal_out, mechanism.signal_straight, mechanism.readout):
            parameter.mul_(7.0)
    torch.testing.assert_close(mechanism(rows, environment).mean, before, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("lineer", "Did you mean 'linear'"),
        ({"hidden": 3}, "mechanism=None"),
        ({"name": "network", "hiden": 3}, "no setting 'hiden'. Did you mean 'hidden'"),
        ({"name": "network", "hidden": 0}, "mechanism.hidden=0"),
        ({"name": "tri_latent", "latent_dim": 0}, "mechanism.latent_dim=0"),
        ({"name": "autoencoder", "kept_share": 0.0}, "mechanism.kept_share=0.0"),
    ],
)
def test_names_and_settings_that_are_wrong_are_refused_with_the_nearest_right_one(wrong, message):
    with pytest.raises(ConfigurationError, match=message):
        build_mechanism(wrong, NODES, 0, None, False, 1)


def test_the_autoencoder_refuses_earlier_rows():
    with pytest.raises(ConfigurationError, match=r"data\.lags=0"):
        build_mechanism("autoencoder", NODES, 1, None, False, 1)
