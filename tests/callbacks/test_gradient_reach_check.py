from __future__ import annotations

import lightning.pytorch as pl
import pytest
import torch
from torch import nn

from stablelit import GradientReachCheck
from stablelit.errors import ConfigurationError, ContractError
from stablelit.findings import FindingError, FindingWarning, read_findings
from tests.contract.modules import make_module, make_trainer, train_loader

pytestmark = pytest.mark.filterwarnings("ignore::stablelit.findings.FindingWarning")


class SensorAutoencoder(pl.LightningModule):
    """The architecture of the causal post-mortem: the adjacency is penalised, and the decoder never sees it."""

    def __init__(self, through_the_graph=False):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(6, 3), nn.Linear(3, 6)
        self.adjacency = nn.Parameter(0.1 * torch.ones(6, 6))
        self.through_the_graph = through_the_graph

    def training_step(self, batch, batch_idx):
        x = batch[0]
        seen = x @ self.adjacency if self.through_the_graph else x
        recon = (self.decoder(self.encoder(seen)) - x).square().mean()
        sparse = self.adjacency.abs().mean()
        return {"loss": 10 * recon + 1e-4 * sparse, "recon": recon, "sparse": sparse}

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1e-3)


class CountingVAE(pl.LightningModule):
    """The loss of the jets post-mortem: the squared error of a count that is rounded, 8e8, beside what trains."""

    def __init__(self, returns="tensor"):
        super().__init__()
        self.encoder, self.decoder, self.returns = nn.Linear(6, 6), nn.Linear(3, 6), returns

    def training_step(self, batch, batch_idx):
        mean, logvar = self.encoder(batch[0]).chunk(2, -1)
        kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum(-1)
        recon = (self.decoder(mean) - batch[0]).square().sum(-1)
        count = (self.decoder(mean) > 0).sum().long()
        topology = (count.float() - 31465.0) ** 2
        outputs = {"loss": 10 * recon.mean() + 1e-3 * kl.mean() + topology, "recon": recon, "kl": kl}
        return {**outputs, "topology": topology.item() if self.returns == "number" else topology}

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1e-3)


def fit(directory, module, *checks, **kwargs):
    trainer = make_trainer(directory, list(checks), **{"max_steps": 2, "max_epochs": -1, **kwargs})
    trainer.fit(module, train_loader())
    return trainer


def test_a_graph_that_the_decoder_never_uses_is_found_in_the_first_step(tmp_path):
    module = SensorAutoencoder()
    before = module.encoder.weight.clone()
    check = GradientReachCheck({"recon": ["adjacency", "decoder"]})
    with pytest.raises(FindingError, match=r"adjacency is to be trained and is not: recon .* unused"):
        fit(tmp_path, module, check)
    assert torch.equal(before, module.encoder.weight)
    assert "training_step" not in vars(module)
    (finding,) = read_findings(tmp_path)
    assert finding.name == "gradient-does-not-reach"
    assert finding.evidence["recon -> adjacency"] == "unused"
    assert 0 < finding.evidence["share recon -> adjacency"] < 1
    assert "use them on the way" in finding.remedy


def test_the_same_model_with_the_graph_in_its_likelihood_passes(tmp_path):
    check = GradientReachCheck({"recon": ["adjacency", "decoder"], "sparse": "adjacency"}, {"sparse": "decoder"})
    fit(tmp_path, SensorAutoencoder(through_the_graph=True), check)
    assert [line.reach.state for line in check.table] == ["reaches", "reaches", "reaches", "unused"]
    assert not (tmp_path / "findings.jsonl").exists()


@pytest.mark.slow
@pytest.mark.parametrize("returns", ["tensor", "number"])
def test_a_loss_that_is_a_constant_for_its_greatest_part_is_found_unasked(returns, tmp_path):
    with pytest.raises(FindingError, match=r"loss-without-gradient.*topology \(100 % of the loss\).*detached"):
        fit(tmp_path, CountingVAE(returns), GradientReachCheck())


def test_a_copy_of_the_loss_for_the_log_is_no_alarm(tmp_path):
    class Logged(SensorAutoencoder):
        def training_step(self, batch, batch_idx):
            outputs = super().training_step(batch, batch_idx)
            mse, kept = 10 * outputs["recon"].detach(), outputs["sparse"]
            return {"loss": outputs["loss"], "mse": mse, "sparse": kept, "total": outputs["loss"].item()}

    check = GradientReachCheck()
    fit(tmp_path, Logged(), check)
    assert not (tmp_path / "findings.jsonl").exists()


def test_a_dominant_component_behind_a_threshold_is_found(tmp_path):
    class Rounded(SensorAutoencoder):
        def training_step(self, batch, batch_idx):
            recon = (torch.round(self.decoder(batch[0][:, :3]).clamp(100, 101)) - batch[0]).square().mean()
            sparse = self.adjacency.abs().mean()
            return {"loss": recon + sparse, "recon": recon, "sparse": sparse}

    with pytest.warns(FindingWarning, match="loss-without-gradient.*recon .*zero"):
        fit(tmp_path, Rounded(), GradientReachCheck(action="warn"))


@pytest.mark.parametrize(
    ("way", "state"),
    [
        (lambda m, r: r.detach(), "detached"),
        (lambda m, r: r * 0, "zero"),
        (lambda m, r: m.adjacency.sum(), "unused"),
        (lambda m, r: (r - r).sqrt() * r, "non-finite"),
    ],
)
def test_what_keeps_a_gradient_away_is_named(way, state, tmp_path):
    class Broken(SensorAutoencoder):
        def training_step(self, batch, batch_idx):
            outputs = super().training_step(batch, batch_idx)
            return {**outputs, "recon": way(self, outputs["recon"])}

    check = GradientReachCheck({"recon": "encoder"}, action="warn")
    with pytest.warns(FindingWarning, match=f"gradient-does-not-reach.*{state}"):
        fit(tmp_path, Broken(), check)
    assert check.table[0].reach.state == state


def test_a_frozen_target_is_named(tmp_path):
    module = SensorAutoencoder(through_the_graph=True)
    module.encoder.requires_grad_(False)
    with pytest.raises(FindingError, match="recon .*encoder: frozen"):
        fit(tmp_path, module, GradientReachCheck({"recon": "encoder"}))


def test_a_gradient_that_was_to_stop_is_found(tmp_path):
    with pytest.raises(FindingError, match=r"gradient-not-stopped: decoder gets a gradient.*recon"):
        fit(tmp_path, SensorAutoencoder(), GradientReachCheck(must_not_reach={"recon": "decoder"}))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"must_reach": {"recon": "adjacencies"}}, "no submodule or parameter 'adjacencies'.*Did you mean 'adjacency'"),
        ({"must_reach": {"rekon": "decoder"}}, "no component 'rekon'. It returns loss, recon, sparse.*mean 'recon'"),
        ({"must_reach": {"recon": "wieght"}}, "'wieght'.*Did you mean '(en|de)coder.weight'"),
        ({"must_not_reach": {"recon": "decoder.wight"}}, "'decoder.wight'.*Did you mean 'decoder.weight'"),
    ],
)
def test_what_does_not_exist_is_an_error_with_near_names(arguments, message, tmp_path):
    module = SensorAutoencoder()
    with pytest.raises(ContractError, match=message):
        fit(tmp_path, module, GradientReachCheck(**arguments))
    assert "training_step" not in vars(module)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"must_reach": "recon"}, "must_reach"),
        ({"must_reach": {"recon": []}}, "must_reach"),
        ({"must_reach": {"recon": 3}}, "must_reach"),
        ({"must_reach": {"a": "b"}, "must_not_reach": {"a": ["b"]}}, "must_not_reach"),
        ({"dominant_share": 0.0}, "dominant_share"),
        ({"dominant_share": 1.5}, "dominant_share"),
        ({"repeat": 1}, "repeat"),
        ({"print_table": "yes"}, "print_table"),
        ({"name": ""}, "name"),
        ({"action": "shout"}, "action"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, name):
    with pytest.raises(ConfigurationError, match=name):
        GradientReachCheck(**arguments)


@pytest.mark.parametrize("kind", ["automatic", "manual"])
def test_the_weights_are_those_of_a_run_without_it(kind, tmp_path):
    def train(*checks):
        module = make_module(kind=kind)
        torch.manual_seed(5)
        fit(tmp_path, module, *checks, max_steps=-1, max_epochs=2)
        assert not {"training_step", "manual_backward"} & set(vars(module))
        return module

    check = GradientReachCheck({"recon": ["encoder", "decoder"], "kl": "encoder"}, {"kl": "decoder"})
    for a, b in zip(train().parameters(), train(check).parameters(), strict=True):
        assert torch.equal(a, b)
    assert [line.reach.state for line in check.table] == ["reaches"] * 3 + ["unused"]


def test_norms_under_manual_optimisation_are_those_before_the_step(tmp_path):
    norms = []
    for kind in ("automatic", "manual"):
        torch.manual_seed(5)
        check = GradientReachCheck({"recon": ["encoder", "decoder"], "kl": "encoder"})
        module = make_module(kind=kind)
        torch.manual_seed(5)
        fit(tmp_path, module, check)
        norms.append([line.reach.norm for line in check.table])
    assert norms[0] == norms[1]


def test_a_graph_freed_by_hand_is_said(tmp_path):
    class ByHand(SensorAutoencoder):
        automatic_optimization = False

        def training_step(self, batch, batch_idx):
            outputs = super().training_step(batch, batch_idx)
            outputs["loss"].backward()
            return outputs

    with pytest.raises(ContractError, match=r"call self.manual_backward\(loss\)"):
        fit(tmp_path, ByHand(), GradientReachCheck({"recon": "encoder"}), max_steps=-1, max_epochs=1)


@pytest.mark.slow
def test_a_compiled_module_is_looked_into_and_stays_compiled(tmp_path):
    module = SensorAutoencoder(through_the_graph=True)
    module.decoder = torch.compile(module.decoder, backend="aot_eager")
    check = GradientReachCheck({"recon": ["adjacency", "decoder.weight"]})
    fit(tmp_path, torch.compile(module, backend="aot_eager"), check)
    assert [line.reach.state for line in check.table] == ["reaches", "reaches"]
    assert vars(module)["training_step"].__name__ != "_call"


def test_batch_statistics_and_random_numbers_are_those_of_a_run_without_it(tmp_path):
    class Noisy(SensorAutoencoder):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))

    states = []
    for checks in ([], [GradientReachCheck({"recon": "encoder"})]):
        torch.manual_seed(0)
        module = Noisy()
        fit(tmp_path, module, *checks)
        states.append(module.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_it_looks_once_also_in_a_resumed_run_unless_told_to(tmp_path):
    check = GradientReachCheck({"recon": "decoder"})
    trainer = fit(tmp_path, SensorAutoencoder(), check)
    assert len(check.table) == 1
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    for repeat, lines in ((False, 0), (True, 1)):
        again = GradientReachCheck({"recon": "decoder"}, repeat=repeat)
        resumed = make_trainer(tmp_path, [again], max_steps=4, max_epochs=-1)
        resumed.fit(SensorAutoencoder(), train_loader(), ckpt_path=str(tmp_path / "a.ckpt"))
        assert len(again.table) == lines


def test_the_table_is_printed_on_request(tmp_path, capsys):
    fit(tmp_path, SensorAutoencoder(), GradientReachCheck({"recon": "decoder"}, print_table=True))
    printed = capsys.readouterr().out
    assert "decoder: reaches, gradient norm" in printed
    assert "2 of 2 parameters" in printed


@pytest.mark.slow
def test_a_gradient_on_one_of_two_ranks_is_one(tmp_path):
    class OneRank(SensorAutoencoder):
        def training_step(self, batch, batch_idx):
            outputs = super().training_step(batch, batch_idx)
            return {**outputs, "recon": outputs["recon"] * float(self.global_rank)}

    fit(tmp_path, OneRank(), GradientReachCheck({"recon": "decoder"}), devices=2, strategy="ddp_fork")
    with pytest.raises(Exception, match="gradient-not-stopped"):
        fit(
            tmp_path,
            OneRank(),
            GradientReachCheck(must_not_reach={"recon": "decoder"}),
            devices=2,
            strategy="ddp_fork",
        )
