from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import normalize

from stablelit.callbacks import ContrastiveHealthMonitor, contrastive_health
from stablelit.errors import ConfigurationError, ContractError
from stablelit.findings import FindingError, FindingWarning, read_findings
from stablelit.functional.contrastive import nt_xent
from stablelit.functional.contrastive_levels import chance_nt_xent, excess
from stablelit.functional.contrastive_verdict import ContrastiveVerdict
from tests.callbacks.contrast import DIM, SOON, N, blank, dead_projector, fit, loader, logged, make_contrast, quiet
from tests.contract.modules import NAMES, framework


class Keep:
    """What the last step returned, and the losses of all."""

    def __init__(self, name=NAMES[0]):
        seen = self

        class Watch(framework(name).Callback):
            def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
                seen.outputs = outputs
                seen.losses.append(float(outputs["loss"]) * trainer.accumulate_grad_batches)

        self.losses, self.outputs, self.callback = [], {}, Watch()


def test_what_is_logged_is_what_the_embeddings_say(tmp_path):
    keep = Keep()
    monitor = ContrastiveHealthMonitor(every_n_steps=6)
    trainer = fit(tmp_path, make_contrast(norm=True), monitor, steps=6, callbacks=[keep.callback])
    z0, z1 = (normalize(keep.outputs[key].detach().double(), dim=1) for key in ("z0", "z1"))
    z, cosine = torch.cat([z0, z1]), z0 @ z1.T
    positive = cosine.diagonal().mean()
    every = z @ z.T
    negative = (every.sum() - 2 * N - 2 * N * positive) / (2 * N * (2 * N - 2))
    pairs = torch.pdist(z0)
    expected = {
        "pos_cos": positive,
        "neg_cos": negative,
        "gap": positive - negative,
        "align": (z0 - z1).square().sum(dim=1).mean(),
        "uniform": torch.log(torch.exp(-2 * pairs.square()).mean()),
        "std_ratio": z.std(dim=0, correction=0).mean() * math.sqrt(DIM),
        "contrast_top1": 0.5
        * ((cosine.argmax(0) == torch.arange(N)).double() + (cosine.argmax(1) == torch.arange(N)).double()).mean(),
        "excess": excess(sum(keep.losses) / 6, N, 0.5),
        "loss_over_chance": sum(keep.losses) / 6 / chance_nt_xent(N),
        "dead_frac": (keep.outputs["h"] == 0).all(dim=0).double().mean(),
    }
    for key, value in expected.items():
        assert logged(trainer, f"ssl/{key}") == [pytest.approx(float(value), abs=1e-5)], key


def test_the_loss_is_that_of_a_micro_batch_and_a_look_comes_by_optimizer_steps(tmp_path):
    keep = Keep()
    monitor = ContrastiveHealthMonitor(every_n_steps=2)
    with pytest.warns(FindingWarning, match=r"averages 3 losses of N=16 each: 30 negatives, not 94"):
        trainer = fit(tmp_path, make_contrast(), monitor, steps=6, callbacks=[keep.callback], accumulate_grad_batches=3)
    assert logged(trainer, "ssl/excess") == [pytest.approx(excess(sum(keep.losses) / 6, N, 0.5), abs=1e-5)]


@pytest.mark.slow
@quiet
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("calls", ["one", "two", "chunks"])
def test_a_module_that_returns_nothing_is_heard_at_its_submodules(calls, name, tmp_path):
    def numbers(module, **kwargs):
        trainer = fit(tmp_path, module, ContrastiveHealthMonitor(every_n_steps=4, **kwargs), steps=8, name=name)
        lines = [{k: v for k, v in line.items() if k.startswith("ssl/")} for _, line in trainer.logger.lines]
        return [line for line in lines if line]

    told = numbers(make_contrast(name))
    heard = numbers(make_contrast(name, returns=False, calls=calls), projector="head.projector", loss="contrast")
    assert len(told) == len(heard) == 2
    for a, b in zip(told, heard, strict=True):
        assert a.keys() == b.keys()
        assert list(a.values()) == pytest.approx(list(b.values()), rel=1e-4, abs=1e-5)


@quiet
def test_the_encoders_gradient_is_measured_before_a_clip_and_without_the_scalers_factor(tmp_path):
    from lightning.pytorch.plugins.precision import MixedPrecision

    def norm(directory, **kwargs):
        module = make_contrast(optimizer=torch.optim.SGD, lr=0.0)
        module.noise = 0.0
        trainer = fit(directory, module, ContrastiveHealthMonitor(every_n_steps=1), steps=1, **kwargs)
        return logged(trainer, "ssl/enc_grad_norm")[0], module, loader(1)

    plain, module, data = norm(tmp_path / "a")
    module.zero_grad()
    z = module.project(module.encoder(next(iter(data))[0]))
    nt_xent(z, z, module.temperature, gather=False).backward()
    by_hand = math.sqrt(sum(float(p.grad.square().sum()) for p in module.encoder.parameters()))
    assert plain == pytest.approx(by_hand, rel=1e-5)
    scaler = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**10))
    assert norm(tmp_path / "b", plugins=[scaler])[0] == pytest.approx(by_hand, rel=0.02), "half precision has 3 digits"
    assert norm(tmp_path / "c", gradient_clip_val=1e-3)[0] == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.slow
def test_the_rank_is_that_of_a_few_steps_before_a_look(tmp_path):
    monitor = ContrastiveHealthMonitor(every_n_steps=10)
    # 4 d = 64 rows make a rank of 16 dimensions sound; 8 steps of 2 pairs have half of them
    for n, rows in ((32, 64), (16, 64), (4, 64), (2, 32)):
        fit(tmp_path, make_contrast(), monitor, data=loader(10, n))
        assert monitor.health.rank_rows == rows


def test_a_smaller_last_batch_moves_chance_by_its_share(tmp_path):
    monitor = ContrastiveHealthMonitor(every_n_steps=3)
    with pytest.warns(FindingWarning, match="last-batch-is-small.*8 of 16"):
        fit(tmp_path, make_contrast(), monitor, data=loader(0, samples=2 * N + 8))
    assert monitor.health.chance == pytest.approx((2 * chance_nt_xent(16) + chance_nt_xent(8)) / 3)


def test_nan_embeddings_are_told_at_the_first_look_and_raise_nothing(tmp_path):
    class Break(framework(NAMES[0]).Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if batch_idx == 5:
                pl_module.head["projector"][-1].bias.data.fill_(math.nan)

    monitor = ContrastiveHealthMonitor(every_n_steps=6, warmup_steps=100)
    with pytest.warns(FindingWarning, match="50 % of the embeddings are not finite"):
        fit(tmp_path, make_contrast(), monitor, steps=6, callbacks=[Break()])
    assert monitor.verdict.name == "non-finite-embeddings"


def test_an_optimizer_without_the_encoder_is_refused_before_training(tmp_path):
    module = make_contrast()
    module.configure_optimizers = lambda: torch.optim.Adam(module.head.parameters())
    with pytest.warns(FindingWarning), pytest.raises(FindingError, match="6 of 6 .* in no optimizer: 0.weight, 0.bias"):
        fit(tmp_path, module, ContrastiveHealthMonitor())
    assert [f.name for f in read_findings(tmp_path)] == ["encoder-not-optimised"]
    assert not module.encoder._forward_hooks


def test_a_frozen_encoder_is_told_once_and_trains_on(tmp_path):
    module = make_contrast(norm=True)
    module.encoder.requires_grad_(False)
    monitor = ContrastiveHealthMonitor(every_n_steps=5, warmup_steps=0, patience_steps=0)
    with pytest.warns(FindingWarning, match="requires_grad=False"):
        fit(tmp_path, module, monitor, steps=20)
    assert monitor.verdict.name == "encoder-not-optimised"
    assert [(f.name, f.step) for f in read_findings(tmp_path)] == [("encoder-not-optimised", 0)]


@quiet
def test_a_state_that_comes_again_is_told_again(tmp_path, monkeypatch):
    script = iter(["ok", "slow-start", "slow-start", "ok", "ok", "slow-start", "slow-start"])
    monkeypatch.setattr(contrastive_health, "contrastive_verdict", lambda health: ContrastiveVerdict(next(script)))
    monitor = ContrastiveHealthMonitor(every_n_steps=1, warmup_steps=0, patience_steps=1)
    fit(tmp_path, make_contrast(), monitor, steps=7)
    assert [(f.name, f.step) for f in read_findings(tmp_path) if f.name == "slow-start"] == [
        ("slow-start", 3),
        ("slow-start", 7),
    ]


@quiet
@pytest.mark.parametrize("action", ["stop", "raise"])
def test_a_verdict_stops_or_raises(action, tmp_path):
    monitor = ContrastiveHealthMonitor(every_n_steps=5, warmup_steps=0, patience_steps=5, action=action)
    module, data = blank(make_contrast())
    if action == "raise":
        with pytest.raises(FindingError, match="blank-input"):
            fit(tmp_path, module, monitor, data=data)
    else:
        trainer = fit(tmp_path, module, monitor, data=data, min_epochs=0)
        assert trainer.global_step == 10
    assert monitor.verdict.name == "blank-input"
    assert not module.encoder._forward_hooks


@quiet
def test_byol_is_judged_by_its_geometry(tmp_path):
    module, data = dead_projector(make_contrast(norm=True))
    monitor = ContrastiveHealthMonitor(chance="byol", **SOON)
    trainer = fit(tmp_path, module, monitor, data=data, max_steps=30)
    assert monitor.verdict.name == "collapsed-projector"
    assert not logged(trainer, "ssl/excess")


@quiet
def test_a_module_without_encoder_features_and_temperature_is_told_what_is_not_known(tmp_path, monkeypatch):
    class Bare(framework(NAMES[0]).LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(12, DIM)

        def training_step(self, batch, batch_idx):
            z = self.net(batch[0])
            return {"loss": nt_xent(z, z, 0.5, gather=False), "z0": z, "z1": z}

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    said = []
    monkeypatch.setattr(contrastive_health, "rank_zero_info", said.append)
    monitor = ContrastiveHealthMonitor(every_n_steps=5)
    fit(tmp_path, Bare(), monitor, steps=5)
    assert "no temperature is known" in said[0]
    assert "no encoder is known" in said[0]
    assert math.isnan(monitor.health.h_std_ratio)
    assert monitor.health.input_max == pytest.approx(float(list(loader(5))[-1][0].max()))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"z0": "za"}, "'za' is not there in what Contrast.training_step returns: h, loss, z0, z1"),
        ({"h": "h", "projector": "head.projektor"}, r"no submodule projector='head.projektor'.*'head.projector'"),
        ({"encoder": "backbone"}, "no submodule encoder='backbone'"),
        ({"temperature": "loss.tau"}, "no number at temperature='loss.tau'"),
        ({"loss": "nce"}, "no loss named 'nce'"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(kwargs, message, tmp_path):
    module = make_contrast()
    with pytest.raises(ContractError, match=message):
        fit(tmp_path, module, ContrastiveHealthMonitor(every_n_steps=1, **kwargs), steps=3)
    assert not module.encoder._forward_hooks


@pytest.mark.parametrize(
    "kwargs",
    [
        {"loss": ""},
        {"projector": ""},
        {"name": ""},
        {"temperature": 0.0},
        {"temperature": True},
        {"chance": "ntxent"},
        {"chance": -1.0},
        {"scale": 0.0},
        {"gathered": "yes"},
        {"every_n_steps": 0},
        {"max_rows": 3},
        {"rank_rows": 3},
        {"warmup_steps": -1},
        {"patience_steps": 1.5},
        {"action": "shout"},
    ],
    ids=lambda kwargs: next(iter(kwargs)),
)
def test_an_argument_out_of_range_is_refused(kwargs):
    with pytest.raises(ConfigurationError, match=next(iter(kwargs)) if "chance" not in kwargs else "kind="):
        ContrastiveHealthMonitor(**kwargs)


@pytest.mark.slow
@quiet
def test_two_ranks_have_one_verdict_and_stop_together(tmp_path):
    class Check(framework(NAMES[0]).Callback):
        """Runs inside the ranks; what it finds wrong fails the fit."""

        def on_train_end(self, trainer, pl_module):
            monitor = trainer.callbacks[0]
            mine = torch.tensor([trainer.global_step, monitor.health.loss, monitor.health.std_ratio])
            both = [torch.zeros_like(mine) for _ in range(2)]
            torch.distributed.all_gather(both, mine)
            assert torch.equal(*both)
            if trainer.is_global_zero:
                (tmp_path / "steps").write_text(f"{trainer.global_step} {monitor.health.formula}")

    monitor = ContrastiveHealthMonitor(every_n_steps=4, warmup_steps=0, patience_steps=4, gathered=True, action="stop")
    module, data = make_contrast(lr=1e-6), loader(150)
    module.factor = chance_nt_xent(2 * N) / chance_nt_xent(N)  # as if embeddings were gathered
    fit(tmp_path, module, monitor, data=data, callbacks=[Check()], devices=2, strategy="ddp_fork", min_epochs=0)
    assert (tmp_path / "steps").read_text() == "8 ln(2*32-1)"
