from __future__ import annotations

import math
from importlib.util import find_spec

import lightning.pytorch as pl
import pytest
import torch

from stablelit.errors import ConfigurationError, ContractError
from stablelit.families.jets import JetDataModule, JetVAE
from stablelit.families.jets.coordinates import JetCoordinates
from stablelit.families.jets.decoders import build_decoder
from stablelit.families.jets.decoders.slots import SlotsDecoder
from stablelit.families.jets.hyperedges import topk_weight_hyperedges
from stablelit.families.jets.scaler import JetScaler

needs_scipy = pytest.mark.skipif(find_spec("scipy") is None, reason="scipy is in the extra `dev`")
LOSSES = ["nll", "mse", "chamfer", pytest.param("hungarian", marks=needs_scipy)]
ALL_TERMS = {"edge_weight": 5.0, "hyperedge_weight": 3.0, "topology_weight": 1.0}


@pytest.fixture
def coordinates(batch):
    made = JetCoordinates(30)
    made.set_scaler(JetScaler.fit(batch["particles"], batch["mask"], batch["jet"]))
    return made


@pytest.fixture
def graph(batch, coordinates):
    return coordinates.graph(batch["particles"], batch["mask"], batch["jet"][:, 0])


def decoder(**arguments):
    torch.manual_seed(1)
    widths = {"particle_hidden": 16, "edge_hidden": 8, "hyperedge_hidden": 8}
    return SlotsDecoder(4, 30, **{**widths, **arguments})


def terms_of(made, graph):
    torch.manual_seed(2)
    return made.recon_terms(torch.randn(len(graph.mask), 4), graph.x, graph.mask, graph)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("targets", ["normalised", "raw"])
def test_terms_add_up_and_follow_their_weights(graph, loss, targets):
    one = terms_of(decoder(particle_loss=loss, targets=targets, **ALL_TERMS), graph)
    assert list(one) == ["recon", "particles", "count", "edges", "hyperedges", "topology"]
    assert torch.allclose(one["recon"], sum(term for name, term in one.items() if name != "recon"))
    weights = {"particle_weight": 2.0, "edge_weight": 15.0, "hyperedge_weight": 1.5, "topology_weight": 0.1}
    other = terms_of(decoder(particle_loss=loss, targets=targets, count_weight=0.5, **weights), graph)
    expected = {"particles": 2.0, "count": 0.5, "edges": 3.0, "hyperedges": 0.5, "topology": 0.1}
    for name, factor in expected.items():
        assert torch.allclose(other[name], factor * one[name], rtol=1e-5), name


def test_raw_targets_are_gev_and_radians(batch, graph):
    made = decoder(particle_loss="mse", targets="raw", output_activation="physical")
    z = torch.randn(len(graph.mask), 4)
    found = made.recon_terms(z, graph.x, graph.mask, graph)["particles"].detach()
    slots = made.particles(made.body(z)).unflatten(-1, (30, 3)).tolist()
    for row in range(len(found)):
        n, pt_jet = int(batch["mask"][row].sum()), float(batch["jet"][row, 0])
        total = 0.0
        for (eta, phi, ptrel), (a, b, c) in zip(batch["particles"][row, :n].tolist(), slots[row], strict=False):
            predicted = (100 * math.log1p(math.exp(a)), 2.5 * math.tanh(b), math.pi * math.tanh(c))
            total += math.dist(predicted, (ptrel * pt_jet, eta, phi)) ** 2
        assert float(found[row]) == pytest.approx(total / (3 * n), rel=1e-4)


@torch.no_grad()
def test_pairs_and_hyperedges_are_predicted_as_their_means_over_the_jet(graph):
    made = decoder(edge_weight=1.0, hyperedge_weight=1.0)
    z = torch.randn(len(graph.mask), 4)
    found = made.recon_terms(z, graph.x, graph.mask, graph)
    _, edge, hyperedge = made.body(z).split(made.widths, dim=-1)
    predicted_pair = made.edges(edge)
    slots = made.hyperedges(hyperedge).unflatten(-1, (10, 3))
    for row in range(len(graph.mask)):
        pairs, there = graph.pairs[row], graph.pair_mask[row]
        expected = float((predicted_pair[row] - pairs[there].mean(0)).square().mean()) if there.any() else 0.0
        assert float(found["edges"][row]) == pytest.approx(expected, rel=1e-4)
        exists = torch.sigmoid(slots[row, :, 2])
        predicted = torch.stack([(exists * slots[row, :, f]).sum() / exists.sum() for f in range(2)])
        there = graph.hyperedge_mask[row]
        means = graph.hyperedges[row][there].mean(0)
        expected = float((predicted - means).square().mean()) if there.any() else 0.0
        assert float(found["hyperedges"][row]) == pytest.approx(expected, rel=1e-4)


def test_every_parameter_gets_a_gradient_whatever_is_left_out(graph):
    for arguments in ({}, {"edge_weight": 1.0}, {"topology_weight": 1.0}, {"count_weight": 0.0}, ALL_TERMS):
        made = decoder(**arguments)
        terms_of(made, graph)["recon"].sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in made.parameters()), arguments


def test_the_number_of_hyperedges_is_all_of_the_loss_and_none_of_its_gradient(graph):
    gradients = {}
    for weight in (0.0, 1.0):
        made = decoder(edge_weight=5.0, hyperedge_weight=3.0, topology_weight=weight)
        found = terms_of(made, graph)
        found["recon"].mean().backward()
        gradients[weight] = [p.grad for p in made.parameters()]
    assert not found["topology"].requires_grad
    assert float(found["topology"].mean() / found["recon"].mean()) > 0.9999
    assert all(torch.equal(a, b) for a, b in zip(gradients[0.0], gradients[1.0], strict=True))


@pytest.mark.parametrize("loss", LOSSES)
def test_an_order_of_particles_is_not_asked_for(graph, loss):
    made = decoder(particle_loss=loss)
    order = torch.randperm(30)
    z = torch.randn(len(graph.mask), 4)
    first = made.recon_terms(z, graph.x, graph.mask)["recon"]
    assert torch.allclose(first, made.recon_terms(z, graph.x[:, order], graph.mask[:, order])["recon"], atol=1e-4)


def test_only_the_gaussians_with_unit_weights_are_a_bound():
    assert decoder().is_likelihood
    for other in ({"particle_loss": "mse"}, {"targets": "raw"}, {"particle_weight": 2.0}, {"topology_weight": 1.0}):
        assert not decoder(**other).is_likelihood


def test_draws_are_the_slots_and_follow_their_gaussians():
    made, z = decoder(), torch.zeros(3000, 4)
    x, mask = made.draw(z, torch.Generator().manual_seed(0))
    mean, log_sigma = made.particles(made.body(z[:1])).unflatten(-1, (30, 6)).chunk(2, dim=-1)
    assert torch.allclose(x.mean(0), mean[0], atol=0.1)
    assert torch.allclose(x.std(0), log_sigma[0].exp(), rtol=0.1)
    shares = torch.bincount(mask.sum(1), minlength=31)[1:] / 3000
    assert torch.allclose(shares, made.count(made.body(z[:1])).softmax(-1)[0], atol=0.02)
    made = decoder(particle_loss="mse")
    x, _ = made.draw(z, torch.Generator().manual_seed(0))
    assert torch.equal(x[0], x[1])


def test_raw_draws_come_back_in_the_coordinates_of_the_model(batch, coordinates):
    made = decoder(particle_loss="mse", targets="raw", output_activation="physical")
    z, jet_pt = torch.randn(5, 4), torch.full((5,), 800.0)
    x, mask = made.draw(z, torch.Generator().manual_seed(0), coordinates, jet_pt)
    particles = coordinates.destandardise(x, mask)
    pt = 100 * torch.nn.functional.softplus(made.particles(made.body(z)).unflatten(-1, (30, 3))[..., 0])
    assert torch.allclose(800 * particles[..., 2][mask], pt[mask], rtol=1e-4)


def test_an_untrained_number_of_particles_is_drawn_as_in_training(coordinates):
    made = decoder(count_weight=0.0)
    _, mask = made.draw(torch.randn(6000, 4), torch.Generator().manual_seed(0), coordinates)
    shares = torch.bincount(mask.sum(1), minlength=31)[1:] / 6000
    assert torch.allclose(shares, coordinates.log_count_prob.exp(), atol=0.02)


def test_a_batch_without_its_graph_is_refused_where_it_is_needed(graph):
    made = decoder(edge_weight=1.0)
    with pytest.raises(ContractError, match="needs `graph`"):
        made.recon_terms(torch.zeros(12, 4), graph.x, graph.mask)
    with pytest.raises(ContractError, match="needs `coordinates`"):
        decoder(targets="raw").draw(torch.zeros(2, 4), torch.Generator())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"particle_loss": "hungarain"}, "Did you mean 'hungarian'"),
        ({"targets": "gev"}, "normalised, raw"),
        ({"output_activation": "relu"}, "none, physical"),
        ({"edge_weight": -1.0}, "edge_weight=-1.0"),
        ({"particle_weight": 0.0}, "particle_weight=0.0"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"particle_hidden": 0}, "particle_hidden=0"),
        ({"topolgy_weight": 1.0}, "Did you mean 'topology_weight'"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        build_decoder({"name": "slots", **settings}, 4, 30)


@pytest.fixture
def fit(tmp_path):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}

    def run(**arguments):
        trainer = pl.Trainer(max_epochs=1, enable_checkpointing=False, num_sanity_val_steps=0, **quiet)
        module = JetVAE(latent_dim=4, particle_hidden=8, edge_hidden=8, hyperedge_hidden=8, **arguments)
        trainer.fit(module, JetDataModule(n_jets=60, train=32, val=16, test=12, batch_size=16))
        trainer.save_checkpoint(tmp_path / "last.ckpt")
        return module, set(trainer.callback_metrics), tmp_path / "last.ckpt"

    return run


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*LeafSpec:", "ignore:.*val_dataloader")
def test_what_is_no_bound_is_not_logged_as_one(fit):
    settings = {"name": "slots", "particle_loss": "mse", **ALL_TERMS}
    module, logged, checkpoint = fit(decoder=settings, jet_level=False)
    assert {"val/loss", "val/topology", "val/edges", "val/mass_w1"} < logged
    assert "val/neg_elbo" not in logged
    assert torch.load(checkpoint, weights_only=True)["hyper_parameters"]["decoder"] == settings
    loaded = JetVAE.load_from_checkpoint(checkpoint, weights_only=True)
    assert torch.equal(loaded.sample(3)["particles"], module.sample(3)["particles"])
    _, logged, _ = fit(decoder="slots")
    assert {"val/loss", "val/neg_elbo", "val/neg_elbo_baseline"} < logged


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*LeafSpec:", "ignore:.*val_dataloader")
def test_a_model_scales_the_kind_of_hyperedges_that_it_has(fit):
    module, _, _ = fit(decoder="slots", hyperedges="topk_weight", backend="pyg")
    data = JetDataModule(n_jets=60, train=32, val=16, test=12)
    data.setup()
    train = next(iter(data.train_dataloader()))
    _, features, there = topk_weight_hyperedges(train["particles"], train["mask"])
    assert torch.allclose(module.network.hyperedge_mean, features[there].mean(0), atol=1e-4)
    assert torch.allclose(module.network.hyperedge_std, features[there].std(0, unbiased=False), atol=1e-4)
    assert not torch.allclose(data.scaler.hyperedge_mean, module.network.hyperedge_mean, atol=0.5)
