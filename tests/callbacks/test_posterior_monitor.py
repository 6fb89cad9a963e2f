from __future__ import annotations

import math

import lightning.pytorch as pl
import pytest
import torch
from torch import nn

from stablelit.callbacks import GradientReachCheck, KLCapCallback, PosteriorMonitor
from stablelit.errors import ConfigurationError, ContractError
from stablelit.findings import FindingError, read_findings
from stablelit.functional.posterior import mutual_information
from tests.contract.modules import BATCHES, make_module, make_trainer, module_classes, samples, train_loader, val_loader

TinyVAE = module_classes("lightning.pytorch")["automatic"]
pytestmark = pytest.mark.filterwarnings("ignore")


class FullVAE(TinyVAE):
    """A module that returns all that there is to look at."""

    def validation_step(self, batch, batch_idx):
        mean, logvar = self.encode(batch)
        kl_per_dim = 0.5 * (mean**2 + logvar.exp() - 1 - logvar)
        recon = 0.5 * ((self.decoder(mean) - batch[0]) ** 2).sum(-1)
        self.log("val/bound", (recon + kl_per_dim.sum(-1)).mean())
        return {"recon": recon, "kl": kl_per_dim.sum(-1), "kl_per_dim": kl_per_dim, "mean": mean, "logvar": logvar}

    def encode(self, batch):
        return self.encoder(batch[0]).chunk(2, -1)


def fit(directory, monitor, module, *others, train=None, **kwargs):
    trainer = make_trainer(directory, [*others, monitor], **kwargs)
    trainer.fit(module, train or train_loader(), val_loader())
    return trainer


def lines(trainer, name):
    return [float(line[name]) for _, line in trainer.logger.lines if name in line]


def found(directory):
    return [finding.name for finding in read_findings(directory)]


def test_what_it_logs_is_what_the_posteriors_of_the_validation_say(tmp_path):
    module = FullVAE()
    trainer = fit(tmp_path, PosteriorMonitor(), module)
    with torch.no_grad():
        mean, logvar = module.encode([samples()[:16]])
    kl_per_dim = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean(0)
    information, marginal = mutual_information(mean, logvar)
    expected = {
        "active_units": float((kl_per_dim > 0.01).sum()),
        "kl_per_dim_max": float(kl_per_dim.max()),
        "active_units_by_mean": float((mean.var(0, correction=0) > 0.01).sum()),
        "mutual_information": information,
        "marginal_kl": marginal,
        "mean_sigma": float((0.5 * logvar).exp().mean()),
        "rms_mean": float(mean.square().mean().sqrt()),
    }
    for name, value in expected.items():
        assert lines(trainer, f"posterior/{name}")[-1] == pytest.approx(value, rel=1e-4, abs=1e-6), name
    assert len(lines(trainer, "posterior/active_units")) == 3


def test_the_shares_are_those_of_the_values_and_of_the_gradients_by_hand(tmp_path):
    values, gradients = [], []

    class Recording(FullVAE):
        def training_step(self, batch, batch_idx):
            outputs = super().training_step(batch, batch_idx)
            kl, loss = outputs["kl"].mean(), outputs["loss"]
            values.append((float(loss), 0.25 * float(kl)))
            encoder = list(self.encoder.parameters())
            norms = [
                torch.cat([g.flatten() for g in torch.autograd.grad(term, encoder, retain_graph=True)]).norm()
                for term in (0.25 * kl, outputs["recon"].mean())
            ]
            gradients.append(float(norms[0] / norms[1]))
            return outputs

    module = Recording()
    module.kl_weight.fill_(0.25)
    monitor = PosteriorMonitor(gradient_every=1)
    trainer = fit(tmp_path, monitor, module, accumulate_grad_batches=2, max_epochs=1)
    loss, term = (sum(column) / BATCHES for column in zip(*values, strict=True))
    assert lines(trainer, "posterior/kl_share") == pytest.approx([term / loss], rel=1e-5)
    assert lines(trainer, "posterior/gradient_share") == pytest.approx([sum(gradients) / BATCHES], rel=1e-4)
    assert "training_step" not in vars(module)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("batches", "arguments", "every"),
    [(63, {}, 1), (64, {}, 4), (128, {"val_check_interval": 32}, 1), (129, {"val_check_interval": 64}, 4)],
)
def test_of_many_batches_between_two_evaluations_every_fourth_is_looked_at(batches, arguments, every, tmp_path):
    values = []

    class Recording(FullVAE):
        def training_step(self, batch, batch_idx):
            outputs = super().training_step(batch, batch_idx)
            values.append((float(outputs["loss"]), 0.25 * float(outputs["kl"].mean())))
            return outputs

    module = Recording()
    module.kl_weight.fill_(0.25)
    data = torch.utils.data.TensorDataset(torch.randn(2 * batches, 6))
    loader = torch.utils.data.DataLoader(data, batch_size=2)
    trainer = fit(tmp_path, PosteriorMonitor(), module, train=loader, max_epochs=1, **arguments)
    whole = arguments.get("val_check_interval", batches)
    shares = lines(trainer, "posterior/kl_share")
    for share, begin in zip(shares, range(0, batches, whole), strict=True):
        loss, term = (sum(column) for column in zip(*values[begin : begin + whole][::every], strict=True))
        assert share == pytest.approx(term / loss, rel=1e-5)


def test_a_module_that_only_logs_its_kl_gets_what_is_possible_and_is_told_the_rest_once(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr("stablelit.callbacks.posterior_monitor.rank_zero_info", said.append)
    trainer = make_trainer(tmp_path, [PosteriorMonitor(kl="train_kl")])
    trainer.fit(make_module(kind="logging"), train_loader())
    assert len(lines(trainer, "posterior/kl_share")) == 3
    assert lines(trainer, "posterior/active_units") == []
    assert len(said) == 1
    assert "active units (return 'kl_per_dim'" in said[0]
    assert "neg_elbo=" in said[0]


def test_a_module_without_a_kl_is_refused_with_what_is_there(tmp_path):
    with pytest.raises(ContractError, match=r"PosteriorMonitor: no KL named 'kl'.*logs train_kl"):
        fit(tmp_path, PosteriorMonitor(), make_module(kind="logging"))
    with pytest.raises(ContractError, match=r"TinyVAE has no method 'encode'"):
        fit(tmp_path, PosteriorMonitor(encode="encode"), make_module())


@pytest.mark.slow
def test_posteriors_may_come_from_a_method_and_the_bound_from_the_log(tmp_path):
    class Encodes(FullVAE):
        def validation_step(self, batch, batch_idx):
            super().validation_step(batch, batch_idx)

    by_method = PosteriorMonitor(encode="encode", neg_elbo="val/bound")
    torch.manual_seed(0)
    first = fit(tmp_path, by_method, Encodes())
    returned = PosteriorMonitor()
    torch.manual_seed(0)
    second = fit(tmp_path, returned, FullVAE())
    for name in ("mutual_information", "mean_sigma", "active_units"):
        assert lines(first, f"posterior/{name}") == pytest.approx(lines(second, f"posterior/{name}"))
    bounds = [[row[6] for row in monitor.state_dict()["history"]] for monitor in (by_method, returned)]
    assert bounds[0] == pytest.approx(bounds[1], rel=1e-5)


@pytest.mark.slow
def test_two_ranks_log_what_one_process_does(tmp_path):
    class Keep(pl.Callback):
        def on_train_end(self, trainer, pl_module):
            names = ("mutual_information", "rms_mean", "active_units", "kl_per_dim_max")
            torch.save(
                {n: trainer.callback_metrics[f"posterior/{n}"] for n in names},
                tmp_path / f"{trainer.world_size}-{trainer.global_rank}.pt",
            )

    class Still(FullVAE):
        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.0)

    for devices in (1, 2):
        torch.manual_seed(3)
        strategy = "ddp_fork" if devices == 2 else "auto"
        fit(tmp_path, PosteriorMonitor(), Still(), Keep(), devices=devices, strategy=strategy, max_epochs=1)
    one, two, other = (torch.load(tmp_path / n, weights_only=True) for n in ("1-0.pt", "2-0.pt", "2-1.pt"))
    assert two == other
    for name in ("rms_mean", "active_units", "kl_per_dim_max"):
        assert float(one[name]) == pytest.approx(float(two[name]), rel=1e-5), name
    # the draws come in another order
    assert float(one["mutual_information"]) == pytest.approx(float(two["mutual_information"]), abs=0.2)


class Story(pl.LightningModule):
    """The first failed run in small: mean-squared error, a cap of 1e-4, and a count that nothing can move."""

    def __init__(self, with_count):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(8, 16), nn.Linear(8, 8)
        self.register_buffer("kl_weight", torch.tensor(0.0), persistent=False)
        self.with_count = with_count

    def parts(self, x):
        mean, logvar = self.encoder(x).chunk(2, -1)
        z = mean + torch.randn_like(mean) * (0.5 * logvar).exp()
        out = self.decoder(z)
        kl_per_dim = 0.5 * (mean**2 + logvar.exp() - 1 - logvar)
        return (out - x).square().mean(-1), kl_per_dim, out

    def training_step(self, batch, batch_idx):
        recon, kl_per_dim, out = self.parts(batch[0])
        parts = {"recon": recon, "kl": kl_per_dim.sum(-1), "kl_per_dim": kl_per_dim}
        loss = (recon + self.kl_weight * parts["kl"]).mean()
        if self.with_count:
            # 31,465 true against at most 50 that were found: a hard count, so no gradient
            parts["count"] = ((out > 0).sum(-1).float() - 31_465).square()
            loss = loss + parts["count"].mean()
        return {"loss": loss, **parts}

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 3e-3)


def story_loader():
    x = torch.randn(256, 8, generator=torch.Generator().manual_seed(0)) * torch.linspace(0.5, 1.5, 8)
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x), batch_size=32)


def test_a_count_without_a_gradient_is_told_in_the_first_step(tmp_path):
    monitor = PosteriorMonitor(action="raise")
    trainer = make_trainer(tmp_path, [monitor])
    with pytest.raises(FindingError, match=r"constant-loss-term: 'count' is 100 % of the loss.*no parameter"):
        trainer.fit(Story(with_count=True), story_loader())
    assert trainer.global_step == 0


@pytest.mark.slow
def test_a_cap_of_1e_4_lets_the_kl_grow_and_a_cap_of_1_does_not(tmp_path):
    for cap in (1e-4, 0.5):
        torch.manual_seed(0)
        callbacks = [KLCapCallback(max_weight=cap), PosteriorMonitor()]
        trainer = make_trainer(tmp_path / str(cap), callbacks, max_epochs=16, log_every_n_steps=1000)
        trainer.fit(Story(with_count=False), story_loader())
    assert found(tmp_path / "0.0001") == ["cap-ineffective"]
    assert "cap-ineffective" not in found(tmp_path / "0.5")


def test_a_healthy_vae_raises_no_alarm(tmp_path):
    module = FullVAE()
    data = torch.randn(512, 2, generator=torch.Generator().manual_seed(0)) @ torch.randn(2, 6) * 2
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(data), batch_size=64)
    trainer = make_trainer(tmp_path, [PosteriorMonitor()], max_epochs=16, log_every_n_steps=1000)
    trainer.fit(module, loader, loader)
    assert found(tmp_path) == []


@pytest.mark.slow
def test_a_number_that_is_the_same_in_every_batch_is_a_constant_and_a_converged_one_is_not(tmp_path):
    class Detached(FullVAE):
        """The constant is there only as a number, so the first step cannot say what it depends on."""

        offset = 1e4

        def training_step(self, batch, batch_idx):
            outputs = super().training_step(batch, batch_idx)
            del outputs["recon"]
            return {**outputs, "loss": outputs["loss"] + self.offset, "offset": torch.full((), self.offset)}

    class Converged(FullVAE):
        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.0)

    data = torch.utils.data.TensorDataset(samples().repeat(2, 1))
    loader = torch.utils.data.DataLoader(data, batch_size=8)
    fit(tmp_path / "a", PosteriorMonitor(), Detached(), train=loader, max_epochs=1)
    assert found(tmp_path / "a") == ["constant-loss-term"]
    fit(tmp_path / "b", PosteriorMonitor(), Converged(), train=loader, max_epochs=2)
    assert found(tmp_path / "b") == []


@pytest.mark.slow
def test_a_warmup_that_was_allowed_to_be_longer_than_the_run_is_told(tmp_path):
    cap = KLCapCallback(warmup="6ep", allow_unfinished_warmup=True)
    fit(tmp_path / "a", PosteriorMonitor(), FullVAE(), cap)
    assert found(tmp_path / "a") == ["warmup-never-finishes"]
    fit(tmp_path / "b", PosteriorMonitor(), FullVAE(), KLCapCallback(warmup="2ep"))
    assert found(tmp_path / "b") == []


@pytest.mark.slow
@pytest.mark.parametrize("mean_over_features", [True, False])
def test_a_mean_over_features_is_told_and_a_sum_is_not(mean_over_features, tmp_path):
    class Wide(Story):
        def __init__(self):
            super().__init__(with_count=False)
            self.encoder, self.decoder = nn.Linear(40, 8), nn.Linear(4, 40)
            self.kl_weight.fill_(1.0)

        def parts(self, x):
            recon, kl_per_dim, out = super().parts(x)
            return recon if mean_over_features else 20 * recon, kl_per_dim, out

    torch.manual_seed(0)
    x = torch.randn(256, 2) @ torch.randn(2, 40)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x), batch_size=32)
    trainer = make_trainer(tmp_path, [PosteriorMonitor(patience=3)], max_epochs=12, log_every_n_steps=1000)
    trainer.fit(Wide(), loader)
    names = found(tmp_path)
    assert ("reduction-mismatch" in names) == mean_over_features
    assert mean_over_features or names == []


def test_it_stands_before_a_step_together_with_another_that_does(tmp_path):
    looks = []

    class Counting(GradientReachCheck):
        def _look(self, *args):
            looks.append(1)
            super()._look(*args)

    module = FullVAE()
    others = [Counting({"recon": "encoder"}, name="a"), Counting({"recon": "encoder"}, name="b")]
    fit(tmp_path, PosteriorMonitor(gradient_every=2), module, *others)
    assert len(looks) == 2
    assert "training_step" not in vars(module)


def test_a_resumed_run_without_a_validation_goes_on_inside_its_epoch(tmp_path):
    state = None

    class Keep(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, *args):
            nonlocal state
            if trainer.global_step == 4:
                state = monitor.state_dict()

    monitor = PosteriorMonitor()
    fit(tmp_path, monitor, FullVAE(), Keep(), max_epochs=1, limit_val_batches=0)
    again = PosteriorMonitor()
    again.load_state_dict(state)
    assert again.state_dict() == state
    assert state["train"]["n"] == 3  # taken before the monitor saw the fourth batch


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"kl": ""}, "kl=''"),
        ({"weight": None}, "weight=None"),
        ({"encode": 3}, "encode=3"),
        ({"patience": 2}, "patience=2"),
        ({"buffer": 1}, "buffer=1"),
        ({"gradient_every": -1}, "gradient_every=-1"),
        ({"active_threshold": 0.0}, "active_threshold=0.0"),
        ({"active_threshold": math.nan}, "active_threshold=nan"),
        ({"action": "panic"}, "action='panic'"),
        ({"name": ""}, "name=''"),
    ],
)
def test_bad_arguments_are_refused(arguments, says):
    with pytest.raises(ConfigurationError, match=f"PosteriorMonitor.*{says}"):
        PosteriorMonitor(**arguments)
