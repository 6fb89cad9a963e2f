from __future__ import annotations

import json

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from stablelit import (
    AdaptiveGradClip,
    GradClipMonitor,
    KLCapCallback,
    NonFiniteGuard,
    ScalarSchedule,
    ShuffleDataLoader,
    ShuffleSampler,
)
from stablelit.data import leave_out, read_skipped
from stablelit.errors import ConfigurationError, ContractError
from stablelit.findings import FindingError, read_findings
from tests.contract.modules import make_module, make_trainer, train_loader

pytestmark = pytest.mark.filterwarnings("ignore")
NAN = float("nan")
SIZE = 4


class Net(pl.LightningModule):
    """A regression with batch norm; what becomes of the loss of a batch can be changed by its number."""

    def __init__(self, optimizer="adamw", manual=False, spoil=None, scheduler=None):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Linear(8, 1)
        self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
        self.optimizer, self.scheduler = optimizer, scheduler
        self.spoil = spoil or {}
        self.automatic_optimization = not manual
        self.seen = []

    def training_step(self, batch, batch_idx):
        x, y = batch[0], batch[1]
        self.seen.append(self.trainer.fit_loop.epoch_loop.batch_progress.total.ready - 1)
        per_sample = (self.last(torch.relu(self.norm(self.first(x)))) - y).square().mean(1)
        loss = per_sample.mean()
        if self.seen[-1] in self.spoil:
            loss = self.spoil[self.seen[-1]](loss)
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        if not self.automatic_optimization:
            optimizers = self.optimizers()
            for optimizer in optimizers:
                optimizer.zero_grad()
            self.manual_backward(loss)
            for optimizer in optimizers:
                optimizer.step()
        return {"loss": loss, "per_sample": per_sample.detach()}

    def configure_optimizers(self):
        if not self.automatic_optimization:
            first = torch.optim.AdamW([*self.first.parameters(), *self.norm.parameters()], 1e-2)
            return [first, torch.optim.SGD(self.last.parameters(), 1e-2, momentum=0.9)]
        makers = {
            "adamw": lambda p: torch.optim.AdamW(p, 1e-2, weight_decay=0.1),
            "sgd": lambda p: torch.optim.SGD(p, 1e-2, momentum=0.9, weight_decay=0.1),
            "fused": lambda p: torch.optim.AdamW(p, 1e-2, weight_decay=0.1, fused=True),
        }
        optimizer = makers[self.optimizer](self.parameters())
        if self.scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.scheduler(optimizer), "interval": "step"}}


def table(n=12 * SIZE, bad=()):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 3, generator=generator)
    y = x.sum(1, keepdim=True) + 0.1 * torch.randn(n, 1, generator=generator)
    for row in bad:
        x[row, 1] = NAN
    return x, y


def fit(directory, module, callbacks=(), data=None, **kwargs):
    data = table() if data is None else data
    trainer = make_trainer(directory, list(callbacks), **{"max_epochs": 1, **kwargs})
    trainer.fit(module, DataLoader(TensorDataset(*data), SIZE))
    return trainer


def make_net(**kwargs):
    torch.manual_seed(0)
    return Net(**kwargs)


def state_of(module):
    # how many batches were seen is a number, and a skipped one is none of them
    return {k: v for k, v in module.state_dict().items() if k != "mask"}


def assert_same(a, b):
    assert all(torch.equal(a[k], b[k]) for k in a), [k for k in a if not torch.equal(a[k], b[k])]


def scaler_plugin(scale=2.0**10):
    return MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=10**6))


WITHOUT_BATCH_5 = tuple(torch.cat([t[: 5 * SIZE], t[6 * SIZE :]]) for t in table())


WAYS = {
    "adamw": ({}, {}),
    "sgd": ({"optimizer": "sgd"}, {}),
    "clip": ({}, {"gradient_clip_val": 0.5}),
    "clip-value": ({}, {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"}),
    "bf16": ({}, {"precision": "bf16-mixed"}),
    "scaler": ({}, {"plugins": "scaler"}),
    "fused-scaler": ({"optimizer": "fused"}, {"plugins": "scaler"}),
    "manual": ({"manual": True}, {}),
    "manual-scaler": ({"manual": True}, {"plugins": "scaler"}),
}
# under a scaler an infinite gradient is the scaler's affair
TRIED = [(way, bad) for way in WAYS for bad in ("data", "loss", "gradient") if bad != "gradient" or "scaler" not in way]


@pytest.mark.parametrize(("way", "bad"), TRIED, ids=["-".join(pair) for pair in TRIED])
def test_a_run_with_a_bad_batch_equals_the_run_without_it(way, bad, tmp_path):
    module, trainer = WAYS[way]
    scaled = "plugins" in trainer
    spoil = {"loss": {5: lambda loss: loss + NAN}, "gradient": {5: lambda loss: loss + (loss - loss).sqrt()}}.get(bad)

    def kwargs():
        return {**trainer, **({"plugins": [scaler_plugin()]} if scaled else {})}

    clean = make_net(**module)
    fit(tmp_path / "clean", clean, data=WITHOUT_BATCH_5, **kwargs())
    guarded = make_net(**module, spoil=spoil)
    data = table(bad=[5 * SIZE + 2] if bad == "data" else [])
    fitted = fit(tmp_path, guarded, [NonFiniteGuard()], data, **kwargs())
    assert_same(state_of(clean), state_of(guarded))
    steps = 2 if module.get("manual") else 1
    assert fitted.callback_metrics["guard/skipped_steps"] == steps
    assert fitted.global_step == 12 * steps
    assert torch.isfinite(fitted.callback_metrics["train/loss"])
    assert {line.batch for line in read_skipped(tmp_path)} == {5}


def test_adaptive_clip_and_monitor_beside_it_see_the_same_run(tmp_path):
    histories = []
    for data in (WITHOUT_BATCH_5, table(bad=[5 * SIZE])):
        clip, monitor, module = AdaptiveGradClip(), GradClipMonitor(), make_net()
        fit(tmp_path, module, [NonFiniteGuard(), clip, monitor], data)
        histories.append((state_of(module), clip.state_dict()["states"]["0"]))
    assert_same(histories[0][0], histories[1][0])
    assert torch.equal(histories[0][1], histories[1][1])


def test_without_it_the_same_run_is_lost(tmp_path):
    module = make_net()
    fit(tmp_path, module, data=table(bad=[5 * SIZE]))
    assert not torch.isfinite(module.last.weight).any()


def test_mean_of_the_epoch_is_that_of_the_batches_that_counted(tmp_path):
    clean, guarded = make_net(), make_net(spoil={5: lambda loss: loss + NAN})
    expected = fit(tmp_path / "clean", clean, data=WITHOUT_BATCH_5).callback_metrics["train/loss"]
    found = fit(tmp_path, guarded, [NonFiniteGuard()]).callback_metrics["train/loss"]
    assert float(found) == pytest.approx(float(expected), rel=1e-6)


def test_statistics_that_a_bad_batch_poisons_are_put_back(tmp_path):
    # the gradients of a huge input are finite, and its variance is not
    x, y = table()
    x[5 * SIZE : 6 * SIZE, 0] = torch.tensor([1e30, -1e30, 1e30, 0.0])
    module = make_net(spoil={5: lambda loss: torch.nan_to_num(loss, 1.0, 1.0, 1.0) * 0})
    fit(tmp_path, module, [NonFiniteGuard()], (x, y))
    assert torch.isfinite(module.norm.running_var).all()
    assert torch.isinf(module.mask).any()
    assert module.norm.num_batches_tracked == 11


@pytest.mark.parametrize("bad", [4, 5])
def test_a_bad_batch_takes_its_accumulated_window_with_it(bad, tmp_path):
    kept = tuple(torch.cat([t[: 4 * SIZE], t[6 * SIZE :]]) for t in table())
    clean, guarded = make_net(), make_net()
    fit(tmp_path / "clean", clean, data=kept, accumulate_grad_batches=2)
    fit(tmp_path, guarded, [NonFiniteGuard(ids=None)], table(bad=[bad * SIZE]), accumulate_grad_batches=2)
    assert_same(state_of(clean), state_of(guarded))
    lines = read_skipped(tmp_path)
    assert [(line.batch, line.guilty) for line in lines] == [(4, bad == 4), (5, bad == 5)]
    assert lines[bad - 4].ids == tuple(range(bad * SIZE, (bad + 1) * SIZE))
    assert lines[bad - 4].culprits == (bad * SIZE,)


def test_loss_that_is_watched_is_the_unscaled_mean_over_the_window(tmp_path, monkeypatch):
    seen = []

    def follow(rule, state, loss):
        seen.append(loss)
        return state, "normal"

    monkeypatch.setattr("stablelit.functional.spikes.SpikeRule.step", follow)
    module = make_net()
    losses = []
    original = module.training_step
    module.training_step = lambda *args: losses.append((out := original(*args))["loss"].item()) or out
    x, y = table(7 * SIZE)
    fit(tmp_path, module, [NonFiniteGuard()], (x, y), accumulate_grad_batches=3, plugins=[scaler_plugin()])
    expected = [sum(losses[:3]) / 3, sum(losses[3:6]) / 3, losses[6]]
    assert seen == pytest.approx(expected, rel=1e-3)


def test_a_scalers_search_is_healthy_and_counted_apart(tmp_path):
    trainer = fit(tmp_path, make_net(), [NonFiniteGuard("stop")], plugins=[scaler_plugin(2.0**30)])
    assert trainer.callback_metrics["guard/scaler_skips"] >= 3
    assert trainer.callback_metrics["guard/skipped_steps"] == 0
    assert trainer.global_step == 12
    assert not (tmp_path / "findings.jsonl").exists()


def test_a_scaler_that_finds_no_scale_is_an_alarm(tmp_path):
    spoil = {k: lambda loss: loss + (loss - loss).sqrt() for k in range(12)}
    trainer = fit(tmp_path, make_net(spoil=spoil), [NonFiniteGuard()], plugins=[scaler_plugin(4.0)])
    assert trainer.global_step == 4  # scales 4, 2, 1, 0.5
    (finding,) = read_findings(tmp_path)
    assert finding.name == "scaler-finds-no-scale"


def test_stop_keeps_the_state_before_the_bad_step(tmp_path):
    module = make_net()
    trainer = fit(tmp_path, module, [NonFiniteGuard("stop")], table(bad=[5 * SIZE]))
    assert trainer.global_step == 6
    (finding,) = read_findings(tmp_path)
    assert (finding.name, finding.severity) == ("non-finite-persists", "critical")
    saved = tmp_path / "checkpoints" / "before-nonfinite.ckpt"
    assert str(saved) in finding.message
    before = make_net()
    fit(tmp_path / "clean", before, data=tuple(t[: 5 * SIZE] for t in table()))
    assert_same(state_of(before), torch.load(saved, weights_only=True)["state_dict"] | {"mask": module.mask})
    again = make_net()
    resumed = make_trainer(tmp_path / "again", [NonFiniteGuard()], max_epochs=1)
    resumed.fit(
        again,
        ShuffleDataLoader(TensorDataset(*table()), sampler=ShuffleSampler(range(12 * SIZE)), batch_size=SIZE),
        ckpt_path=str(saved),
    )
    assert resumed.global_step == 12


def test_too_many_in_a_row_end_the_run(tmp_path):
    bad = range(5 * SIZE, 12 * SIZE)
    trainer = fit(tmp_path, make_net(), [NonFiniteGuard(max_consecutive=3)], table(bad=bad))
    assert trainer.global_step == 9
    assert [f.name for f in read_findings(tmp_path)] == ["non-finite-step", "non-finite-persists"]
    with pytest.raises(FindingError, match="non-finite-persists.*4 in a row"):
        fit(tmp_path / "raise", make_net(), [NonFiniteGuard(max_consecutive=3, action="raise")], table(bad=bad))


def test_trouble_of_one_optimizer_is_not_forgotten_for_the_health_of_the_next(tmp_path):
    class Two(Net):
        def training_step(self, batch, batch_idx):
            first, second = self.optimizers()
            for optimizer, factor in ((first, NAN), (second, 1.0)):
                optimizer.zero_grad()
                self.manual_backward(self(batch) * factor)
                optimizer.step()

        def forward(self, batch):
            return (self.last(self.norm(self.first(batch[0]))) - batch[1]).square().mean()

    torch.manual_seed(0)
    trainer = fit(tmp_path, Two(manual=True), [NonFiniteGuard("stop")])
    assert trainer.global_step == 2
    assert [f.name for f in read_findings(tmp_path)] == ["non-finite-persists"]


def test_weights_that_are_lost_already_are_told(tmp_path):
    module = make_net()
    with torch.no_grad():
        module.last.weight[0, 0] = NAN
    fit(tmp_path, module, [NonFiniteGuard(max_consecutive=2)])
    assert "weights themselves are not finite" in read_findings(tmp_path)[-1].message
    assert not (tmp_path / "checkpoints").exists()


class Steps(pl.LightningModule):
    """One weight on a parabola, so that every state can be computed by hand; a kick throws it off."""

    def __init__(self, kicks=(), scheduler=None, lr=0.1):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))
        self.kicks, self.scheduler, self.lr = set(kicks), scheduler, lr
        self.batches, self.weights, self.rates = [], [], []

    def training_step(self, batch, batch_idx):
        number = self.trainer.global_step
        self.batches.append(int(batch[0][0]))
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        if number in self.kicks:
            with torch.no_grad():
                self.weight += 100.0
        self.weights.append(float(self.weight))
        # a little noise of zero mean, so that the losses have a spread
        return (self.weight - 3.0) ** 2 + 1.0 + 0.01 * ((-1) ** number)

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), self.lr, momentum=0.5)
        if self.scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.scheduler(optimizer), "interval": "step"}}


def numbers(n=200):
    return DataLoader(TensorDataset(torch.arange(n)), 1)


def run_steps(directory, module, *callbacks, steps=100, **kwargs):
    trainer = make_trainer(directory, list(callbacks), **{"max_steps": steps, "max_epochs": -1, **kwargs})
    trainer.fit(module, numbers())
    return trainer


GUARD = {"spike_window": 16, "patience": 3, "every": "10st", "keep": 2}


class Frozen(Steps):
    """Its weight does not come back by itself: what is high stays high."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return loss - (loss - loss.detach()) * 0.999


def test_rollback_goes_back_to_a_state_that_is_known_to_be_good_and_on_with_later_data(tmp_path):
    module = Frozen(kicks=[45])
    guard = NonFiniteGuard("rollback", **GUARD)
    trainer = run_steps(tmp_path, module, guard, steps=60)
    # the loss rises at step 45; more than three steps above: seen at 48; snapshots are there of 30 and 40
    assert module.batches == list(range(60))
    assert module.weights[45] > 90
    assert module.weights[48] > 90
    assert module.weights[49] == module.weights[40]
    assert module.rates[49] == pytest.approx(0.05)
    assert trainer.global_step == 60
    assert trainer.callback_metrics["guard/rollbacks"] == 1
    assert trainer.callback_metrics["guard/spikes"] == 1
    (finding,) = read_findings(tmp_path)
    assert finding.name == "rolled-back"
    assert (finding.evidence["to_step"], finding.step) == (40, 49)


def test_a_snapshot_that_no_good_step_has_followed_is_not_trusted(tmp_path):
    # a snapshot is taken behind step 40, whose outcome is the loss of the next step
    module = Frozen(kicks=[40])
    run_steps(tmp_path, module, NonFiniteGuard("rollback", **GUARD), steps=60)
    assert module.weights[44] == module.weights[30]


def test_the_second_rollback_goes_further_back(tmp_path):
    module = Frozen(kicks=[45, 50])
    run_steps(tmp_path, module, NonFiniteGuard("rollback", **GUARD), steps=60)
    assert module.weights[49] == module.weights[40]
    assert module.weights[54] == module.weights[30]
    # the snapshot of step 30 has the full rate; two rollbacks make a quarter of it
    assert module.rates[54] == pytest.approx(0.025)


def test_it_gives_up_after_so_many_rollbacks(tmp_path):
    module = Frozen(kicks=[45, 55, 65, 75])
    trainer = run_steps(tmp_path, module, NonFiniteGuard("rollback", max_rollbacks=2, **GUARD))
    assert trainer.global_step == 69
    names = [f.name for f in read_findings(tmp_path)]
    assert names == ["rolled-back", "rollbacks-exhausted"]
    assert "2 rollbacks have not helped" in read_findings(tmp_path)[-1].message


def test_weights_that_are_not_finite_are_taken_back(tmp_path):
    class Lost(Steps):
        def on_train_batch_start(self, batch, batch_idx):
            if self.trainer.global_step == 45:
                self.weight.data.fill_(NAN)

    module = Lost()
    run_steps(tmp_path, module, NonFiniteGuard("rollback", max_consecutive=2, **GUARD), steps=60)
    assert module.weights[48] == module.weights[40]
    assert all(torch.isfinite(torch.tensor(module.weights[48:])))


@pytest.mark.slow
def test_a_spike_that_comes_back_is_left_alone(tmp_path):
    for policy in ("skip", "stop", "rollback"):
        module = Steps(lr=0.3)

        def outlier(batch, batch_idx, module=module, step=module.training_step):
            return step(batch, batch_idx) * (50.0 if module.trainer.global_step in (40, 60) else 1.0)

        module.training_step = outlier
        trainer = run_steps(tmp_path / policy, module, NonFiniteGuard(policy, **{**GUARD, "patience": 12}))
        assert trainer.callback_metrics["guard/rollbacks"] == 0
        assert trainer.callback_metrics["guard/spikes"] == 2
        assert trainer.global_step == 100
        assert not (tmp_path / policy / "findings.jsonl").exists()


@pytest.mark.parametrize(("policy", "severity", "steps"), [("skip", "warning", 100), ("stop", "critical", 49)])
def test_a_loss_that_does_not_come_back_is_told(policy, severity, steps, tmp_path):
    trainer = run_steps(tmp_path, Frozen(kicks=[45]), NonFiniteGuard(policy, **GUARD))
    assert trainer.global_step == steps
    (finding,) = read_findings(tmp_path)
    assert (finding.name, finding.severity, finding.step) == ("loss-does-not-recover", severity, 49)


def test_a_guard_that_does_not_look_for_spikes_sees_none(tmp_path):
    trainer = run_steps(tmp_path, Frozen(kicks=[45]), NonFiniteGuard("stop", spike_threshold=None))
    assert trainer.global_step == 100


def test_schedules_keep_to_the_lowered_rate(tmp_path):
    def cosine(optimizer):
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 200, eta_min=0.01)

    module = Frozen(kicks=[45], scheduler=cosine)
    run_steps(tmp_path, module, NonFiniteGuard("rollback", **GUARD), steps=80)
    # the schedule goes on from step 40's place, at half of it
    assert module.rates[49:80] == pytest.approx([rate / 2 for rate in clean_rates(cosine)[40:71]])


def clean_rates(scheduler):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)
    schedule, rates = scheduler(optimizer), []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


def test_a_run_resumed_behind_a_rollback_keeps_its_rate_and_its_count(tmp_path):
    def decaying(optimizer):
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.99**step)

    guard = NonFiniteGuard("rollback", **GUARD)
    trainer = run_steps(tmp_path, Frozen(kicks=[45], scheduler=decaying), guard, steps=60)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    torch.load(tmp_path / "a.ckpt", weights_only=True)
    again = NonFiniteGuard("rollback", **GUARD)
    module = Frozen(scheduler=decaying)
    resumed = make_trainer(tmp_path, [again], max_steps=62, max_epochs=-1)
    resumed.fit(module, numbers(), ckpt_path=str(tmp_path / "a.ckpt"))
    assert again.state_dict()["rollbacks"] == 1
    assert module.rates == pytest.approx([0.05 * 0.99**51, 0.05 * 0.99**52])


class Kicked(pl.Callback):
    """Lifts the loss of a module of the contract suite from one step on, until a rollback."""

    def __init__(self, step):
        self.step, self.state, self.before, self.after = step, {}, None, None
        self.bias = None

    def look(self, trainer, pl_module):
        found = {k: v.clone() for k, v in pl_module.state_dict().items()}
        for callback in trainer.callbacks:
            if type(callback).__name__ == "KLCapCallback":
                found |= {
                    f"controller.{k}": torch.as_tensor(v)
                    for k, v in callback.state_dict().items()
                    if isinstance(v, float)
                }
            average = getattr(callback, "_average_model", None)
            found |= {f"average.{k}": v.clone() for k, v in average.state_dict().items()} if average is not None else {}
        for number, optimizer in enumerate(trainer.optimizers):
            for key, values in optimizer.state_dict()["state"].items():
                found |= {f"optimizer.{number}.{key}.{k}": v.clone() for k, v in values.items() if torch.is_tensor(v)}
        return found

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        step = trainer.global_step
        self.state[step] = self.look(trainer, pl_module)
        if step == self.step:
            with torch.no_grad():
                pl_module.decoder.bias += 300.0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("other", "kind"),
    [
        (lambda: KLCapCallback(mode="weight", warmup=10, max_weight=0.3), "automatic"),
        (lambda: KLCapCallback(kl_target=1.0), "automatic"),
        (lambda: KLCapCallback(mode="capacity", kl_target=1.0), "automatic"),
        (lambda: KLCapCallback(mode="hinge", kl_target=0.1), "automatic"),
        (lambda: ScalarSchedule("other_weight", 0.0, 2.0, duration=36), "automatic"),
        (lambda: EMAWeightAveraging(decay=0.9), "automatic"),
        (lambda: KLCapCallback(kl_target=1.0), "manual"),
    ],
    ids=["weight", "target", "capacity", "hinge", "schedule", "ema", "manual"],
)
def test_everything_that_is_part_of_the_training_goes_back(other, kind, tmp_path):
    module, kicked, callback = make_module(kind=kind), Kicked(20 if kind == "automatic" else 40), other()
    guard = NonFiniteGuard("rollback", max_consecutive=2, spike_window=8, patience=2, every="6st", lr_factor=1.0)
    # the guard is listed first: it moves itself behind the others
    trainer = make_trainer(tmp_path, [guard, callback, kicked], max_epochs=6)
    loader = train_loader()
    trainer.fit(module, loader)
    assert trainer.callbacks.index(guard) > trainer.callbacks.index(callback)
    per_step = 1 if kind == "automatic" else 2
    finding = next(f for f in read_findings(tmp_path) if f.name == "rolled-back")
    back, now = finding.evidence["to_step"], finding.step
    assert back == 18 * per_step
    expected, found = kicked.state[back], kicked.state[now]
    assert len(expected) > 10
    for key in expected:
        assert torch.equal(expected[key], found[key]), key
    if isinstance(callback, ScalarSchedule):  # a pure function of the clock, which has gone on
        assert float(module.other_weight) == pytest.approx(2.0 * 35 / 36)


def test_books_are_kept(tmp_path):
    from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, Timer

    from stablelit import HistoryWriter
    from stablelit.callbacks._snapshots import keeps_books
    from stablelit.callbacks.shuffle_callback import ShuffleCallback

    for kind in (EarlyStopping("x"), ModelCheckpoint(), Timer(), HistoryWriter(), ShuffleCallback(), NonFiniteGuard()):
        assert keeps_books(kind)
    for kind in (EMAWeightAveraging(), KLCapCallback(), pl.Callback()):
        assert not keeps_books(kind)


def test_unfrozen_parameters_make_a_snapshot_useless_and_that_ends_the_run(tmp_path):
    class Unfreezing(Frozen):
        def on_train_batch_start(self, batch, batch_idx):
            if self.trainer.global_step == 44:
                self.extra = nn.Parameter(torch.zeros(1))
                self.trainer.optimizers[0].add_param_group({"params": [self.extra]})

    trainer = run_steps(tmp_path, Unfreezing(kicks=[45]), NonFiniteGuard("rollback", **GUARD))
    assert trainer.global_step == 49
    assert read_findings(tmp_path)[-1].name == "rollbacks-exhausted"


def shuffled(data, **kwargs):
    return ShuffleDataLoader(data, sampler=ShuffleSampler(data, seed=3), batch_size=SIZE, **kwargs)


@pytest.mark.slow
def test_skipped_samples_are_named_and_a_later_run_does_without_them(tmp_path):
    bad = [7, 30]
    data = TensorDataset(*table(bad=bad))
    trainer = make_trainer(tmp_path, [NonFiniteGuard()], max_epochs=2)
    trainer.fit(make_net(), shuffled(data))
    lines = read_skipped(tmp_path)
    assert sorted(i for line in lines for i in line.culprits) == [7, 7, 30, 30]
    loader = shuffled(data)
    for line in lines:
        loader.sampler.set_epoch(line.epoch)
        order = list(loader.sampler)
        assert line.ids == tuple(order[line.batch * SIZE : (line.batch + 1) * SIZE])
        assert (line.reason, line.quantity, line.guilty) == ("the loss is not finite", "loss", True)
    kept = leave_out(data, tmp_path)
    assert kept.left_out.tolist() == bad
    second = make_trainer(tmp_path / "second", [NonFiniteGuard()], max_epochs=2)
    second.fit(make_net(), shuffled(kept))
    assert second.callback_metrics["guard/skipped_steps"] == 0


@pytest.mark.parametrize("ids", [lambda batch: batch[2], lambda batch: batch[2].tolist()])
def test_sample_numbers_come_from_the_batch_where_it_has_them(ids, tmp_path):
    data = (*table(bad=[5 * SIZE + 1]), 1000 + torch.arange(12 * SIZE))
    trainer = make_trainer(tmp_path, [NonFiniteGuard(ids=ids)], max_epochs=1)
    trainer.fit(make_net(), DataLoader(TensorDataset(*data), SIZE, shuffle=True))
    (line,) = read_skipped(tmp_path)
    assert 1000 + 5 * SIZE + 1 in line.ids
    assert line.culprits == (1000 + 5 * SIZE + 1,)


def test_a_key_that_the_batch_does_not_have_is_told(tmp_path):
    with pytest.raises(ContractError, match="ids='index' is not in the batch"):
        fit(tmp_path, make_net(), [NonFiniteGuard(ids="index")], table(bad=[0]))


@pytest.mark.filterwarnings("default:NonFiniteGuard")
def test_unknown_samples_are_said_once(tmp_path):
    trainer = make_trainer(tmp_path, [NonFiniteGuard()], max_epochs=1)
    with pytest.warns(UserWarning, match="nobody knows which samples") as caught:
        trainer.fit(make_net(), DataLoader(TensorDataset(*table(bad=[0, 20])), SIZE, shuffle=True))
    assert sum("nobody knows" in str(w.message) for w in caught) == 1
    assert {line.ids for line in read_skipped(tmp_path)} == {()}


def test_steps_that_lightning_does_not_see_are_told(tmp_path):
    class Raw(Steps):
        automatic_optimization = False

        def training_step(self, batch, batch_idx):
            optimizer = self.optimizers(use_pl_optimizer=False)
            optimizer.zero_grad()
            super().training_step(batch, batch_idx).backward()
            optimizer.step()

    run_steps(tmp_path, Raw(), NonFiniteGuard(), steps=-1, max_epochs=1, limit_train_batches=3)
    assert [f.name for f in read_findings(tmp_path)] == ["no-step-to-guard"]


def test_nothing_is_left_on_the_trainer(tmp_path):
    trainer = fit(tmp_path, make_net(), [NonFiniteGuard("rollback")])
    assert not {"clip_grad_by_norm", "_clip_gradients"} & set(vars(trainer.precision_plugin))
    broken = make_net(spoil={3: lambda loss: 1 / 0})
    trainer = make_trainer(tmp_path, [NonFiniteGuard()], max_epochs=1)
    with pytest.raises(ZeroDivisionError):
        trainer.fit(broken, DataLoader(TensorDataset(*table()), SIZE))
    assert not {"clip_grad_by_norm", "_clip_gradients"} & set(vars(trainer.precision_plugin))


def test_fast_dev_run_writes_nothing(tmp_path):
    fit(tmp_path / "run", make_net(), [NonFiniteGuard("stop")], table(bad=[0]), fast_dev_run=3)
    assert not list(tmp_path.rglob("*"))


def in_ranks(directory, module, guard, steps=None, data=None, loader=None):
    """Fits on two ranks; returns what rank zero wrote: the weights, and whether the ranks' are equal."""

    class Check(pl.Callback):
        def on_train_end(self, trainer, pl_module):
            mine = torch.cat([v.detach().float().flatten() for v in pl_module.state_dict().values()])
            both = [torch.zeros_like(mine) for _ in range(2)]
            torch.distributed.all_gather(both, mine)
            if trainer.is_global_zero:
                equal = torch.equal(*(torch.nan_to_num(b, posinf=1, neginf=-1) for b in both))
                (directory / "ranks.json").write_text(json.dumps({"equal": equal, "step": trainer.global_step}))

    directory.mkdir(parents=True, exist_ok=True)
    kwargs = {"max_steps": steps, "max_epochs": -1} if steps else {"max_epochs": 3}
    trainer = make_trainer(directory, [guard, Check()], devices=2, strategy="ddp_fork", **kwargs)
    trainer.fit(module, loader if loader is not None else DataLoader(TensorDataset(*data), SIZE))
    return json.loads((directory / "ranks.json").read_text())


def test_a_bad_batch_on_one_of_two_ranks_is_left_out_on_both(tmp_path):
    data = TensorDataset(*table(bad=[5]))
    module = make_net()
    # equal statistics on both ranks need one set of them
    module.norm = nn.Identity()
    found = in_ranks(tmp_path, module, NonFiniteGuard(), loader=shuffled(data))
    assert found == {"equal": True, "step": 18}
    lines = read_skipped(tmp_path)
    assert len(lines) == 6  # three epochs, two ranks
    assert sorted(line.rank for line in lines if line.guilty) == sorted(line.rank for line in lines if 5 in line.ids)
    assert {line.culprits for line in lines if line.guilty} == {(5,)}
    assert all(line.ids for line in lines)
    assert torch.isfinite(module.last.weight).all()


@pytest.mark.slow
def test_two_ranks_go_back_together(tmp_path):
    module = Frozen(kicks=[45])
    found = in_ranks(tmp_path, module, NonFiniteGuard("rollback", **GUARD), steps=60, loader=numbers(400))
    assert found == {"equal": True, "step": 60}
    assert read_findings(tmp_path)[0].evidence["to_step"] == 40


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"policy": "skipp"}, "policy.*Did you mean 'skip'"),
        ({"max_consecutive": 0}, "max_consecutive"),
        ({"max_consecutive": 2.5}, "max_consecutive"),
        ({"spike_threshold": -1.0}, "spike_threshold"),
        ({"spike_window": 3}, "spike_window"),
        ({"patience": -1}, "patience"),
        ({"every": 0}, "every"),
        ({"every": "100bananas"}, "every"),
        ({"keep": 0}, "keep"),
        ({"lr_factor": -0.5}, "lr_factor"),
        ({"lr_factor": 1.5}, "lr_factor"),
        ({"max_rollbacks": 0}, "max_rollbacks"),
        ({"ids": 3}, "ids"),
        ({"action": "cry"}, "action"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, name):
    with pytest.raises(ConfigurationError, match=name):
        NonFiniteGuard(**arguments)


def test_two_guards_and_sharded_states_are_refused(tmp_path):
    class Second(NonFiniteGuard):
        @property
        def state_key(self):
            return "second"

    Second.__name__ = "NonFiniteGuard"
    with pytest.raises(ConfigurationError, match="two in one Trainer"):
        fit(tmp_path, make_net(), [NonFiniteGuard(), Second()])
    trainer = make_trainer(tmp_path, [NonFiniteGuard("rollback")])
    trainer.strategy.__class__ = type("FSDPStrategy", (type(trainer.strategy),), {})
    with pytest.raises(ConfigurationError, match="rollback.*FSDPStrategy.*policy='stop'"):
        trainer.fit(make_net(), numbers())


def test_a_share_of_a_run_without_a_length_is_refused(tmp_path):
    guard = NonFiniteGuard("rollback", every="0.1dur")
    trainer = make_trainer(tmp_path, [guard], max_epochs=-1, max_time={"seconds": 1})
    with pytest.raises(ConfigurationError, match="every='0.1dur'.*no known length"):
        trainer.fit(Steps(), numbers())


class Silent(Net):
    """Gives no loss from a batch on."""

    def training_step(self, batch, batch_idx):
        outputs = super().training_step(batch, batch_idx)
        return None if batch_idx > 3 else outputs


def test_a_step_without_a_loss_is_not_judged_by_the_last_one(tmp_path):
    guard = NonFiniteGuard(max_consecutive=2)
    trainer = fit(tmp_path, Silent(spoil={3: lambda loss: loss * NAN}), [guard])
    assert trainer.global_step == 12
    assert {finding.name for finding in read_findings(tmp_path)} == {"non-finite-step"}


class TwoLosses(Net):
    """Two networks of which the first has lost its way for good."""

    def __init__(self, lost=(True, False)):
        super().__init__(manual=True)
        self.lost = lost

    def training_step(self, batch, batch_idx):
        heads = (self.first, batch[0]), (self.last, torch.ones(SIZE, 8))
        for (head, x), optimizer, lost in zip(heads, self.optimizers(), self.lost, strict=True):
            optimizer.zero_grad()
            self.manual_backward(head(x).square().mean() * (NAN if lost else 1.0))
            optimizer.step()


@pytest.mark.parametrize("lost", [(True, False), (True, True)])
def test_steps_in_a_row_are_those_of_one_optimizer(lost, tmp_path):
    trainer = fit(tmp_path, TwoLosses(lost), [NonFiniteGuard(max_consecutive=3)])
    assert [f.name for f in read_findings(tmp_path)][-1] == "non-finite-persists"
    assert trainer.global_step == 2 * 4, "stopped with the batch that is the fourth in a row"


def test_the_monitor_leaves_it_to_the_guard_whether_a_nan_is_an_alarm(tmp_path):
    callbacks = [GradClipMonitor(action="raise"), NonFiniteGuard()]
    trainer = fit(tmp_path, Net(spoil={4: lambda loss: loss * NAN}), callbacks)
    assert trainer.global_step == 12
    assert "critical" not in {finding.severity for finding in read_findings(tmp_path)}
