from __future__ import annotations

import math
import warnings
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn.functional import normalize
from torch.utils.checkpoint import checkpoint

from stablelit.callbacks import ContrastiveHealthMonitor, contrastive_health
from stablelit.errors import ConfigurationError, ContractError
from stablelit.findings import FindingError, FindingWarning, read_findings
from stablelit.functional.contrastive import nt_xent
from stablelit.functional.contrastive_levels import chance_nt_xent, excess
from stablelit.functional.contrastive_verdict import ContrastiveVerdict
from tests.contract.modules import NAMES, framework, make_trainer

N, WIDTH, DIM = 16, 24, 16
SOON = {"every_n_steps": 10, "warmup_steps": 20, "patience_steps": 10}
quiet = pytest.mark.filterwarnings("ignore")


def mlp(*widths, norm=False):
    layers = []
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b), *([nn.BatchNorm1d(b)] if norm else []), nn.ReLU()]
    return layers


def make_contrast(name=NAMES[0], norm=False, lr=1e-3, returns=True, seed=0, calls="one", optimizer=torch.optim.Adam):
    """Vectors whose views are themselves and noise; `returns` says whether training_step hands out its embeddings."""

    class Contrast(framework(name).LightningModule):
        noise, factor, shuffles = 0.3, 1.0, False
        temperature = 0.5

        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(*mlp(12, WIDTH, WIDTH, WIDTH, norm=norm))
            self.head = nn.ModuleDict(
                {"projector": nn.Sequential(*mlp(WIDTH, WIDTH, norm=norm), nn.Linear(WIDTH, DIM))}
            )

        def views(self, x):
            return x + self.noise * torch.randn_like(x), x + self.noise * torch.randn_like(x)

        def project(self, h):
            projector = self.head["projector"]
            if calls == "one":
                return projector(h)
            if calls == "two":
                return torch.cat([projector(part) for part in h.chunk(2)])
            return torch.cat([checkpoint(projector, part, use_reentrant=True) for part in h.split(5)])

        def training_step(self, batch, batch_idx):
            x0, x1 = self.views(batch[0])
            if self.shuffles:
                x1 = x1[torch.randperm(len(x1))]
            h = self.encoder(torch.cat([x0, x1]))
            z0, z1 = self.project(h).chunk(2)
            loss = self.factor * nt_xent(z0, z1, self.temperature, gather=False)
            self.log("contrast", loss)
            return {"loss": loss, "z0": z0, "z1": z1, "h": h} if returns else loss

        def configure_optimizers(self):
            return optimizer(self.parameters(), lr)

    torch.manual_seed(seed)
    return Contrast()


def loader(steps, n=N, scale=1.0, samples=None, **kwargs):
    generator = torch.Generator().manual_seed(1)
    data = scale * torch.randn(steps * n if samples is None else samples, 12, generator=generator)
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(data), batch_size=n, **kwargs)


def fit(directory, module, monitor, steps=150, name=NAMES[0], data=None, callbacks=(), **kwargs):
    kwargs.setdefault("max_epochs", 1)
    trainer = make_trainer(directory, [monitor, *callbacks], name, log_every_n_steps=1, **kwargs)
    trainer.fit(module, loader(steps) if data is None else data)
    return trainer


def logged(trainer, key):
    return [line[key] for _, line in trainer.logger.lines if key in line]


def blank(module):
    module.noise = 0.0
    return module, loader(150, scale=0.0)


def raw(module):
    module.noise = 3.0
    nn.init.constant_(module.encoder[-2].bias, -1e4)
    return module, loader(150, scale=100.0)


def dead_encoder(module):
    nn.init.constant_(module.encoder[-2].bias, -100.0)
    return module, loader(150)


def dead_projector(module):
    module.head["projector"].append(nn.ReLU())
    nn.init.constant_(module.head["projector"][-2].bias, -100.0)
    return module, loader(150)


def shuffled(module):
    module.shuffles = True
    return module, loader(150)


def no_noise(module):
    module.noise, module.temperature = 0.0, 0.1
    return module, loader(150)


def twice(module):
    module.factor = 3.0
    return module, loader(150)


FAILURES = {
    "blank-input": (blank, {}),
    "input-not-normalised": (raw, {}),
    "dead-encoder": (dead_encoder, {}),
    "collapsed-projector": (dead_projector, {"norm": True}),
    "mispaired-views": (shuffled, {"norm": True}),
    "slow-start": (lambda module: (module, loader(150)), {"lr": 1e-6}),
    "worse-than-independent": (twice, {"norm": True}),
    "weak-augmentation": (no_noise, {"norm": True, "lr": 1e-2}),
}


@pytest.mark.parametrize("verdict", FAILURES)
def test_each_failure_has_its_verdict(verdict, tmp_path):
    breaks, kwargs = FAILURES[verdict]
    module, data = breaks(make_contrast(**kwargs))
    monitor = ContrastiveHealthMonitor(**SOON)
    with pytest.warns(FindingWarning, match=verdict):
        fit(tmp_path, module, monitor, data=data, max_steps=40)
    assert monitor.verdict.name == verdict
    assert [f.step for f in read_findings(tmp_path) if f.name == verdict] == [30]


@pytest.mark.slow
@pytest.mark.parametrize("verdict", FAILURES)
def test_each_failure_has_its_verdict_after_150_steps(verdict, tmp_path):
    breaks, kwargs = FAILURES[verdict]
    module, data = breaks(make_contrast(**kwargs))
    monitor = ContrastiveHealthMonitor()
    with pytest.warns(FindingWarning, match=verdict):
        fit(tmp_path, module, monitor, data=data)
    assert [f.step for f in read_findings(tmp_path) if f.name == verdict] == [150]


def test_a_shuffled_view_without_batch_norm_is_no_dead_encoder(tmp_path):
    module, data = shuffled(make_contrast(lr=1e-2))
    monitor = ContrastiveHealthMonitor(**SOON)
    with pytest.warns(FindingWarning, match="mispaired-views"):
        fit(tmp_path, module, monitor, data=data, max_steps=100)
    assert monitor.health.std_ratio < 0.1, "by its spread alone it has collapsed"
    assert monitor.verdict.name == "mispaired-views"


@pytest.mark.parametrize("norm", [True, False])
def test_a_run_that_learns_has_no_verdict(norm, tmp_path):
    monitor = ContrastiveHealthMonitor(**SOON)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FindingWarning)
        fit(tmp_path, make_contrast(norm=norm, lr=1e-2), monitor, steps=60)
    assert monitor.verdict.name == "ok"
    assert monitor.health.excess < 0.8


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
    pairs = torch.pdist(z)
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
