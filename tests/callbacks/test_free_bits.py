from __future__ import annotations

import copy

import lightning.pytorch as pl
import pytest
import torch

from stablelit.callbacks import KLCapCallback
from stablelit.errors import ConfigurationError, ContractError
from tests.contract.modules import make_module, make_trainer, train_loader, val_loader

pytestmark = pytest.mark.filterwarnings("ignore")


class LinearGaussianVAE(pl.LightningModule):
    """One weight and one variance a dimension, so that everything is known in closed form.

    x_j ~ N(0, 1), the decoder is z_j -> a_j z_j with unit noise, the posterior N(m_j x_j, s_j^2): with a weight of 1 or
    more nothing is worth coding, and every KL goes to 0.
    """

    def __init__(self, dimensions=4):
        super().__init__()
        self.m = torch.nn.Parameter(torch.full((dimensions,), 0.9))
        self.logvar = torch.nn.Parameter(torch.full((dimensions,), -1.5))
        self.a = torch.nn.Parameter(torch.full((dimensions,), 0.9))
        self.register_buffer("kl_weight", torch.tensor(1.0), persistent=False)
        self.penalties = []

    def kl_penalty(self, kl_per_dim):
        return self.kl_weight * kl_per_dim.sum(-1)

    def training_step(self, batch, batch_idx):
        x = batch[0]
        mean, variance = x * self.m, self.logvar.exp()
        kl_per_dim = 0.5 * (mean**2 + variance - 1 - self.logvar)
        # the expectation over z in closed form: no noise of the estimate
        recon = 0.5 * ((self.a * mean - x) ** 2 + self.a**2 * variance).sum(-1)
        penalty = self.kl_penalty(kl_per_dim)
        self.penalties.append((penalty.mean().detach(), kl_per_dim.detach()))
        return {"loss": (recon + penalty).mean(), "recon": recon, "kl": kl_per_dim.sum(-1), "kl_per_dim": kl_per_dim}

    def validation_step(self, batch, batch_idx):
        self.log("val/penalty", self.kl_penalty(torch.ones(2, 4)).mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 0.05)


def gaussian_loader(repeats=1):
    """The same 64 samples as one batch, `repeats` times an epoch."""
    data = torch.randn(64, 4, generator=torch.Generator().manual_seed(0)).repeat(repeats, 1)
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(data), batch_size=64)


LONG = {"max_epochs": 1, "limit_val_batches": 0, "log_every_n_steps": 10**6}


def fit(directory, callback, module, train=None, **kwargs):
    trainer = make_trainer(directory, callback if isinstance(callback, list) else [callback], **kwargs)
    trainer.fit(module, train or train_loader(), val_loader())
    return trainer


@pytest.mark.slow
def test_every_dimension_of_the_analytic_vae_keeps_its_floor_and_without_it_none_does(tmp_path):
    kept = {}
    for name, callback in (
        ("free", KLCapCallback(mode="free_bits", free_bits=0.2)),
        ("weight", KLCapCallback(mode="weight", start=1.0)),
    ):
        module = LinearGaussianVAE()
        fit(tmp_path, callback, module, gaussian_loader(200), **LONG)
        kept[name] = module.penalties[-1][1].mean(0)
    assert (kept["free"] > 0.9 * 0.2).all()
    assert (kept["weight"] < 0.5 * 0.2).all()


@pytest.mark.parametrize("reduce", ["batch", "sample"])
def test_the_penalty_in_the_loss_is_the_weight_times_the_floored_kl_and_the_logged_kl_is_raw(reduce, tmp_path):
    module = LinearGaussianVAE()
    callback = KLCapCallback(
        mode="free_bits", free_bits=0.3, free_bits_reduce=reduce, max_weight=0.5, warmup=4, smoothing=0.0
    )
    trainer = fit(tmp_path, callback, module, gaussian_loader(), max_epochs=6)
    raw = [float(line["kl/raw"]) for _, line in trainer.logger.lines if "kl/raw" in line]
    for step, (penalty, kl) in enumerate(module.penalties):
        floored = kl.mean(0).clamp_min(0.3) if reduce == "batch" else kl.clamp_min(0.3).mean(0)
        assert float(penalty) == pytest.approx(0.5 * min(1.0, step / 4) * float(floored.sum()), rel=1e-5)
        assert raw[step] == pytest.approx(float(kl.sum(-1).mean()), rel=1e-5)


def test_evaluation_has_the_modules_own_penalty_at_the_evaluation_weight(tmp_path):
    callback = KLCapCallback(mode="free_bits", free_bits=9.0, max_weight=0.5, eval_weight=1.0)
    trainer = fit(tmp_path, callback, LinearGaussianVAE(), gaussian_loader())
    assert float(trainer.callback_metrics["val/penalty"]) == 4.0


@pytest.mark.slow
def test_with_a_kl_target_the_weight_is_steered_and_the_floor_stands(tmp_path):
    module = LinearGaussianVAE()
    callback = KLCapCallback(free_bits=0.2, kl_target=2.0)
    assert callback.mode == "free_bits"
    fit(tmp_path, callback, module, gaussian_loader(200), **LONG)
    kl = module.penalties[-1][1].mean(0)
    assert float(kl.sum()) == pytest.approx(2.0, rel=0.05)


@pytest.mark.slow
def test_two_ranks_take_the_steps_of_one_process_with_the_whole_batch(tmp_path):
    class Keep(pl.Callback):
        def on_train_end(self, trainer, pl_module):
            torch.save(pl_module.state_dict(), tmp_path / f"{trainer.world_size}-{trainer.global_rank}.pt")

    data = torch.utils.data.TensorDataset(torch.randn(8, 4, generator=torch.Generator().manual_seed(1)) ** 3)
    for devices in (1, 2):
        loader = torch.utils.data.DataLoader(data, batch_size=8 // devices)
        callback = KLCapCallback(mode="free_bits", free_bits=0.4)
        strategy = "ddp_fork" if devices == 2 else "auto"
        fit(tmp_path, [callback, Keep()], LinearGaussianVAE(), loader, devices=devices, strategy=strategy, max_epochs=9)
    one, two = (torch.load(tmp_path / name, weights_only=True) for name in ("1-0.pt", "2-1.pt"))
    for key in one:
        torch.testing.assert_close(one[key], two[key], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("broken", [False, True])
def test_the_module_gets_its_own_penalty_back_and_a_copy_costs_nothing(broken, tmp_path):
    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, *args):
            assert "kl_penalty" in vars(pl_module)
            assert copy.deepcopy(pl_module).kl_penalty is pl_module.kl_penalty
            if broken:
                raise RuntimeError("broken on purpose")

    module = LinearGaussianVAE()
    try:
        fit(tmp_path, [KLCapCallback(mode="free_bits"), Watch()], module, gaussian_loader())
    except RuntimeError as error:
        assert str(error) == "broken on purpose"  # noqa: PT017 - both ways are looked at
    assert "kl_penalty" not in vars(module)
    assert float(module.kl_penalty(torch.ones(1, 4))) == pytest.approx(4 * float(module.kl_weight))


def test_a_module_without_the_contract_is_shown_what_to_write(tmp_path):
    class NeverCalls(LinearGaussianVAE):
        def __getattribute__(self, name):
            if name == "kl_penalty":
                return type(self).kl_penalty.__get__(self)
            return super().__getattribute__(name)

    with pytest.raises(ContractError, match=r"LoggingVAE.kl_penalty\(kl_per_dim\)[\s\S]*def kl_penalty"):
        fit(tmp_path, KLCapCallback(kl="train_kl", mode="free_bits"), make_module(kind="logging"))
    with pytest.raises(ContractError, match=r"NeverCalls.training_step did not call self.kl_penalty"):
        fit(tmp_path, KLCapCallback(mode="free_bits"), NeverCalls(), gaussian_loader())


def test_floors_that_add_up_to_more_than_the_target_are_refused_in_the_first_batch(tmp_path):
    with pytest.raises(ConfigurationError, match=r"free_bits=0.5 in each of 4 .*at 2 nats or more, above kl_target=1"):
        fit(tmp_path, KLCapCallback(mode="free_bits", kl_target=1.0), LinearGaussianVAE(), gaussian_loader())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"mode": "free_bits", "free_bits": 0.0}, r"free_bits=0.0"),
        ({"mode": "free_bits", "free_bits": -1.0}, r"free_bits=-1.0"),
        ({"mode": "weight", "free_bits": 0.5}, r"free_bits=0.5 has no effect in mode='weight'"),
        ({"mode": "hinge", "kl_target": 2.0, "free_bits": 0.5}, r"free_bits=0.5 has no effect in mode='hinge'"),
        ({"mode": "free_bits", "free_bits_reduce": "mean"}, r"free_bits_reduce='mean'.*batch, sample"),
        ({"mode": "free_bit"}, r"mode='free_bit'.*Did you mean 'free_bits'"),
    ],
)
def test_bad_arguments_are_refused(arguments, says):
    with pytest.raises(ConfigurationError, match=f"KLCapCallback.*{says}"):
        KLCapCallback(**arguments)
