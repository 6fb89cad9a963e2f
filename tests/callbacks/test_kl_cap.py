from __future__ import annotations

import math

import lightning.pytorch as pl
import pytest
import torch
import torchmetrics

from stablelit.callbacks import KLCapCallback, ScalarSchedule
from stablelit.errors import ConfigurationError, ContractError
from stablelit.findings import FindingWarning, read_findings
from stablelit.functional.kl import initial_state, log_pi_step
from tests.contract.modules import BATCHES, make_module, make_trainer, module_classes, train_loader, val_loader

TinyVAE = module_classes("lightning.pytorch")["automatic"]


def fit(directory, *callbacks, module=None, **kwargs):
    module = make_module() if module is None else module
    trainer = make_trainer(directory, list(callbacks), **kwargs)
    trainer.fit(module, train_loader(), val_loader())
    return trainer, module


def test_the_weight_follows_the_schedule_and_never_passes_its_cap(tmp_path):
    seen = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, *args):
            seen.append(float(pl_module.kl_weight))

    fit(tmp_path, KLCapCallback(max_weight=0.3, start=0.1, warmup=10), Watch())
    expected = [0.1 + 0.2 * min(1.0, step / 10) for step in range(3 * BATCHES)]
    assert seen == pytest.approx(expected)
    assert max(seen) == pytest.approx(0.3)


def test_the_logged_weight_is_the_weight_in_force_and_nothing_multiplies_it_again(tmp_path):
    # the fix of the original project multiplied the capped ramp by the base weight once more: 1e-9 instead of 1e-4
    seen = []

    class Watch(pl.Callback):
        def on_before_backward(self, trainer, pl_module, loss):
            seen.append((float(loss), float(pl_module.kl_weight)))

    class Recording(TinyVAE):
        def training_step(self, batch, batch_idx):
            outputs = super().training_step(batch, batch_idx)
            terms.append((outputs["recon"].mean().item(), outputs["kl"].mean().item()))
            return outputs

    terms = []
    trainer, _ = fit(tmp_path, KLCapCallback(max_weight=0.3, warmup=7), Watch(), module=Recording())
    logged = [line["kl/weight"] for _, line in trainer.logger.lines if "kl/weight" in line]
    assert logged == pytest.approx([weight for _, weight in seen])
    for (loss, weight), (recon, kl) in zip(seen, terms, strict=True):
        assert loss == pytest.approx(recon + weight * kl, rel=1e-5)


def test_the_controller_equals_its_pure_function_on_the_kl_of_each_step(tmp_path):
    class Recording(TinyVAE):
        def training_step(self, batch, batch_idx):
            outputs = super().training_step(batch, batch_idx)
            kls.append(outputs["kl"].detach().mean())
            return outputs

    kls: list[torch.Tensor] = []
    callback = KLCapCallback(kl_target=1.0)
    trainer, _ = fit(tmp_path, callback, module=Recording())
    state = initial_state(0.0, 1.0)
    for kl in kls:
        state = log_pi_step(state, float(kl), 1.0)
    assert len(kls) == trainer.global_step
    assert callback.state_dict()["weight"] == pytest.approx(float(state.weight), rel=1e-6)


def test_accumulated_batches_are_one_update_with_their_mean(tmp_path):
    class Constant(TinyVAE):
        def training_step(self, batch, batch_idx):
            outputs = super().training_step(batch, batch_idx)
            outputs["kl"] = torch.full((8,), float(batch_idx))
            return outputs

    callback = KLCapCallback(kl_target=1.0)
    trainer, _ = fit(tmp_path, callback, module=Constant(), accumulate_grad_batches=3)
    state = initial_state(0.0, 1.0)
    for _ in range(3):
        for kl in (1.0, 4.0):  # batches 0, 1, 2 and 3, 4, 5
            state = log_pi_step(state, kl, 1.0)
    assert trainer.global_step == 6
    assert callback.state_dict()["weight"] == pytest.approx(float(state.weight), rel=1e-6)


@pytest.mark.parametrize("mode", ["target", "capacity", "hinge"])
@pytest.mark.slow
def test_the_kl_of_a_real_vae_settles_where_it_was_asked_to(mode, tmp_path):
    trainer, module = fit(
        tmp_path,
        KLCapCallback(kl_target=0.5, mode=mode, base_weight=0.01),
        module=make_module(),
        max_epochs=60,
        limit_val_batches=0,
    )
    kls = [float(line["kl/raw"]) for _, line in trainer.logger.lines if "kl/raw" in line]
    assert sum(kls[-60:]) / 60 == pytest.approx(0.5, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("source", ["train_kl", lambda module, outputs, batch: outputs["kl_per_dim"].sum(-1)])
def test_the_kl_may_come_from_the_log_or_from_a_callable(source, tmp_path):
    by_key, first = fit(tmp_path, KLCapCallback(kl_target=1.0))
    by_other, second = fit(tmp_path, KLCapCallback(kl=source, kl_target=1.0))
    assert float(first.kl_weight) == pytest.approx(float(second.kl_weight), rel=1e-5)
    assert "log" not in vars(second)


def test_one_line_is_enough_for_a_module_that_only_logs_its_kl(tmp_path):
    module = make_module(kind="logging")
    trainer = make_trainer(tmp_path, [KLCapCallback(kl="train_kl", kl_target=0.2)], max_epochs=60)
    trainer.fit(module, train_loader())
    assert isinstance(module.kl_weight, float)
    assert float(trainer.callback_metrics["train_kl"]) == pytest.approx(0.2, rel=0.5)


@pytest.mark.parametrize("warmup", ["2ep", "12st", "12ba"])
def test_every_unit_of_the_clock_gives_the_controller_the_same_target(warmup, tmp_path):
    trainer, _ = fit(tmp_path, KLCapCallback(kl_target=2.0, warmup=warmup))
    targets = [line["kl/target"] for _, line in trainer.logger.lines if "kl/target" in line]
    assert targets[:12] == pytest.approx([0.1 + 1.9 * step / 12 for step in range(1, 13)])
    assert set(targets[12:]) == {2.0}


def test_a_kl_that_is_logged_now_and_then_counts_once(tmp_path):
    class Sometimes(TinyVAE):
        def training_step(self, batch, batch_idx):
            outputs = super().training_step(batch, batch_idx)
            if batch_idx % 3 == 0:
                self.log("rare_kl", float(batch_idx + 1))
            return outputs

    callback = KLCapCallback(kl="rare_kl", kl_target=2.0)
    fit(tmp_path, callback, module=Sometimes())
    state = initial_state(0.0, 1.0)
    for kl in (1.0, 4.0) * 3:
        state = log_pi_step(state, kl, 2.0)
    assert callback.state_dict()["weight"] == pytest.approx(state.weight, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["forward", "update"])
def test_a_metric_is_read_by_its_step_or_refused_with_the_way_out(how, tmp_path):
    class WithMetric(TinyVAE):
        def __init__(self):
            super().__init__()
            self.mean_kl = torchmetrics.MeanMetric()

        def training_step(self, batch, batch_idx):
            outputs = super().training_step(batch, batch_idx)
            getattr(self.mean_kl, how)(outputs["kl"].detach().mean())
            self.log("mean_kl", self.mean_kl)
            return outputs

    if how == "update":
        with pytest.raises(ContractError, match=r"logs 'mean_kl' as a MeanMetric, which has no value of the step"):
            fit(tmp_path, KLCapCallback(kl="mean_kl", kl_target=1.0), module=WithMetric())
        return
    pl.seed_everything(0, verbose=False)
    by_metric = KLCapCallback(kl="mean_kl", kl_target=1.0)
    fit(tmp_path, by_metric, module=WithMetric())
    pl.seed_everything(0, verbose=False)
    by_key = KLCapCallback(kl_target=1.0)
    fit(tmp_path, by_key, module=WithMetric())
    assert by_metric.state_dict()["weight"] == pytest.approx(by_key.state_dict()["weight"], rel=1e-6)


@pytest.mark.slow
def test_a_callback_that_is_used_again_begins_anew(tmp_path):
    used, fresh = KLCapCallback(kl_target=1.0, warmup="0.5dur"), KLCapCallback(kl_target=1.0, warmup="0.5dur")
    fit(tmp_path, used, max_epochs=1)
    states = []
    for callback in (used, fresh):
        torch.manual_seed(5)
        fit(tmp_path, callback, max_epochs=6, module=make_module())
        states.append(callback.state_dict())
    assert states[0]["clock"]["duration"] == [18.0, "st"]
    assert states[0] == states[1]


def test_capacity_begins_at_the_weight_it_was_given(tmp_path):
    seen = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, *args):
            seen.append(float(pl_module.kl_weight))

    fit(tmp_path, KLCapCallback(mode="capacity", kl_target=1.0, start=3.0, gamma=0.0), Watch())
    assert seen[0] == 3.0
    assert seen[1] == pytest.approx(3.0, rel=0.05)


@pytest.mark.slow
def test_ranks_steer_by_the_mean_of_their_kl(tmp_path):
    class ByRank(TinyVAE):
        def training_step(self, batch, batch_idx):
            return {**super().training_step(batch, batch_idx), "kl": torch.tensor(1.0 + 2.0 * self.global_rank)}

    class Keep(pl.Callback):
        def on_train_end(self, trainer, pl_module):
            (tmp_path / f"rank{trainer.global_rank}").write_text(repr(float(callback.state_dict()["weight"])))

    callback = KLCapCallback(kl_target=1.0)
    fit(tmp_path, callback, Keep(), module=ByRank(), devices=2, strategy="ddp_fork", max_epochs=1)
    state = initial_state(0.0, 1.0)
    for _ in range(BATCHES // 2):
        state = log_pi_step(state, 2.0, 1.0)
    for rank in (0, 1):
        assert float((tmp_path / f"rank{rank}").read_text()) == pytest.approx(state.weight, rel=1e-6)


def test_values_are_logged_when_the_loggers_take_them_and_not_at_every_step(tmp_path):
    trainer, _ = fit(tmp_path, KLCapCallback(kl_target=1.0), log_every_n_steps=4)
    steps = [step for step, line in trainer.logger.lines if "kl/weight" in line]
    assert steps == [3, 7, 11, 15]


def test_a_target_that_stands_still_reaches_the_loggers_and_every_epochs_history(tmp_path):
    trainer, _ = fit(tmp_path, KLCapCallback(kl_target=1.0), log_every_n_steps=4)
    assert [step for step, line in trainer.logger.lines if "kl/target" in line][:1] == [3]
    assert float(trainer.callback_metrics["kl/target"]) == 1.0


@pytest.mark.slow
def test_evaluation_has_the_weight_it_was_given_and_training_gets_its_own_back(tmp_path):
    trainer, module = fit(tmp_path, KLCapCallback(max_weight=0.3, eval_weight=1.0))
    assert float(trainer.callback_metrics["val/weight"]) == 1.0
    assert float(module.kl_weight) == pytest.approx(0.3)
    trainer, _ = fit(tmp_path, KLCapCallback(max_weight=0.3))
    assert float(trainer.callback_metrics["val/weight"]) == pytest.approx(0.3)


def test_a_non_finite_kl_is_left_out_and_reported(tmp_path):
    class Sometimes(TinyVAE):
        def training_step(self, batch, batch_idx):
            outputs = super().training_step(batch, batch_idx)
            if batch_idx == 2:
                outputs["kl"] = outputs["kl"] * math.nan
            return outputs

    with pytest.warns(FindingWarning, match=r"kl-non-finite.*in 1 optimizer steps"):
        _, module = fit(tmp_path, KLCapCallback(kl_target=1.0), module=Sometimes())
    assert math.isfinite(module.kl_weight)
    assert [finding.name for finding in read_findings(tmp_path)] == ["kl-non-finite"]


@pytest.mark.parametrize("mode", ["target", "capacity", "hinge"])
@pytest.mark.slow
def test_a_target_that_the_weight_cannot_reach_is_reported_with_its_numbers(mode, tmp_path):
    class Stubborn(TinyVAE):
        def training_step(self, batch, batch_idx):
            return {**super().training_step(batch, batch_idx), "kl": torch.tensor(9.0)}

    with pytest.warns(FindingWarning, match=r"kl-target-out-of-reach.*9 nats where 1 .*2 \(max_weight\)"):
        fit(tmp_path, KLCapCallback(mode=mode, kl_target=1.0, max_weight=2.0), module=Stubborn(), max_epochs=25)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"max_weight": 0.1, "start": 0.5}, r"max_weight=0.1 is below start=0.5"),
        ({"mode": "targt", "kl_target": 3.0}, r"mode='targt'.*Did you mean 'target'"),
        ({"mode": "target"}, r"mode='target' needs kl_target"),
        ({"mode": "weight", "kl_target": 3.0}, r"kl_target=3.0 has no effect"),
        ({"kl_target": 0.0}, r"kl_target=0.0"),
        ({"kl_target": "twenty"}, r"kl_target='twenty'"),
        ({"kl_target": 3.0, "kl": None}, r"kl=None"),
        ({"kl": 3}, r"kl=3"),
        ({"warmup": "100epochs"}, r"warmup='100epochs'"),
        ({"warmup": "5ep", "delay": 10}, r"different units"),
        ({"schedule": "linaer"}, r"schedule='linaer'.*Did you mean 'linear'"),
        ({"smoothing": 1.0}, r"smoothing=1.0"),
        ({"max_weight": math.nan}, r"max_weight=nan"),
        ({"kl_target": 3.0, "min_weight": 99.0}, r"min_weight=99.0"),
        ({"mode": "hinge", "kl_target": 1.0, "base_weight": 99.0}, r"base_weight=99.0"),
        ({"target": ""}, r"target=''"),
        ({"action": "panic"}, r"action='panic'"),
        ({"name": ""}, r"name=''"),
    ],
)
def test_bad_arguments_are_refused_by_name_value_and_remedy(arguments, says):
    with pytest.raises(ConfigurationError, match=f"KLCapCallback.*{says}"):
        KLCapCallback(**arguments)


@pytest.mark.slow
def test_a_warmup_longer_than_the_run_is_refused_before_training(tmp_path):
    message = r"after 20 epochs, but the run is 3 long.*Shorten warmup to at most '3ep'.*allow_unfinished_warmup"
    with pytest.raises(ConfigurationError, match=message):
        fit(tmp_path, KLCapCallback(warmup="20ep"))
    with pytest.raises(ConfigurationError, match=r"after 500 optimizer steps, but the run is 18 long"):
        fit(tmp_path, KLCapCallback(warmup=500))
    trainer, module = fit(tmp_path, KLCapCallback(warmup="6ep", allow_unfinished_warmup=True))
    assert float(module.kl_weight) == pytest.approx(17 / 36)


def test_a_share_of_a_run_without_a_length_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"no known length.*max_steps or max_epochs"):
        fit(tmp_path, KLCapCallback(warmup="0.5dur"), max_epochs=-1, max_time={"seconds": 5})


def test_modules_without_the_contract_are_refused_before_training(tmp_path):
    class NoWeight(TinyVAE):
        def __init__(self):
            super().__init__()
            del self.kl_weight

    class ReadOnly(module_classes("lightning.pytorch")["logging"]):
        kl_weight = property(lambda self: 1.0, lambda self, value: None)

    # the parent's constructor assigns the attribute, so the setter goes only now
    read_only = ReadOnly()
    ReadOnly.kl_weight = property(lambda self: 1.0)

    with pytest.raises(ContractError, match=r"NoWeight has nothing at 'kl_weight'.*other_weight, temperature"):
        fit(tmp_path, KLCapCallback(), module=NoWeight())
    with pytest.raises(ContractError, match=r"ReadOnly.kl_weight is a read-only property"):
        fit(tmp_path, KLCapCallback(), module=read_only)


@pytest.mark.slow
def test_a_kl_that_is_nowhere_is_refused_with_what_is_there(tmp_path):
    with pytest.raises(ContractError, match=r"returns .*kl, kl_per_dim, .*; it logs .*train_kl.*'train_kl'"):
        fit(tmp_path, KLCapCallback(kl="trainkl", kl_target=1.0))
    with pytest.raises(ContractError, match=r"In mode='weight' it is only logged: kl=None does without"):
        fit(tmp_path, KLCapCallback(kl="trainkl"))
    trainer, module = fit(tmp_path, KLCapCallback(kl=None, max_weight=0.3))
    assert float(module.kl_weight) == pytest.approx(0.3)
    assert "kl/raw" not in trainer.callback_metrics


def test_two_writers_of_one_weight_are_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"ScalarSchedule in the same Trainer writes TinyVAE.kl_weight too"):
        fit(tmp_path, KLCapCallback(), ScalarSchedule("kl_weight"))


@pytest.mark.slow
def test_a_run_resumed_for_longer_does_not_jump(tmp_path):
    module = make_module()
    trainer = make_trainer(tmp_path, [KLCapCallback(warmup="0.5dur")], max_epochs=4)
    trainer.fit(module, train_loader())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    again = KLCapCallback(warmup="0.5dur")
    longer = make_trainer(tmp_path, [again], max_epochs=40)
    longer.fit(make_module(), train_loader(), ckpt_path=str(tmp_path / "a.ckpt"))
    assert again.clock.duration.amount == 2 * BATCHES


@pytest.mark.slow
def test_a_changed_cap_is_taken_on_resume(tmp_path):
    module = make_module()
    trainer = make_trainer(tmp_path, [KLCapCallback(max_weight=0.2)])
    trainer.fit(module, train_loader())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    module = make_module()
    make_trainer(tmp_path, [KLCapCallback(max_weight=0.7)], max_epochs=4).fit(
        module, train_loader(), ckpt_path=str(tmp_path / "a.ckpt")
    )
    assert float(module.kl_weight) == pytest.approx(0.7)
