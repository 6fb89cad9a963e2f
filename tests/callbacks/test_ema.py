from __future__ import annotations

import copy
import math

import pytest
import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint, StochasticWeightAveraging
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchmetrics import MeanMetric

from stablelit import EMACallback, NonFiniteGuard
from stablelit.errors import ConfigurationError
from stablelit.findings import Finding, FindingReporter, FindingWarning, read_findings
from stablelit.functional.averaging import ema_decay
from tests.contract.modules import (
    BATCHES,
    framework,
    make_module,
    make_trainer,
    module_classes,
    save_at_class,
    train_loader,
    val_loader,
)

pytestmark = pytest.mark.filterwarnings("ignore")
NAME = "lightning.pytorch"
pl = framework(NAME)


class Drift(pl.LightningModule):
    """Its weight is the number of optimizer steps; its validation logs it, and its buffers count."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, dtype=dtype))
        self.late = nn.Parameter(torch.full((1,), 7.0), requires_grad=False)
        self.register_buffer("count", torch.tensor(0))
        self.register_buffer("difficulty", torch.tensor(0.0))
        self.seen = MeanMetric()
        self.outputs: list[float] = []
        self.unfreeze_at = -1

    def training_step(self, batch, batch_idx):
        if self.global_step == self.unfreeze_at:
            self.late.requires_grad_(True)
        self.count += 1
        self.difficulty.fill_(float(self.count) / 10)
        return -(self.weight.sum() + self.late.sum())

    def validation_step(self, batch, batch_idx):
        self.outputs.append(float(self.weight))
        self.seen.update(self.weight.float())
        self.log("val/weight", self.weight.float().mean())
        self.log("val/metric", self.seen)
        self.log("val/count", self.count.float())

    def on_validation_epoch_end(self):
        self.log("val/last", self.outputs[-1])
        self.outputs.clear()

    def configure_optimizers(self):
        return torch.optim.SGD([self.weight, self.late], 1.0)


class Second(EMACallback):
    pass


def fit(folder, module, callbacks, ckpt_path=None, **kwargs):
    kwargs.setdefault("enable_checkpointing", any(hasattr(c, "step") or hasattr(c, "monitor") for c in callbacks))
    trainer = make_trainer(folder, callbacks, **{"num_sanity_val_steps": 0, "max_epochs": 2, **kwargs})
    trainer.fit(module, train_loader(), val_loader(), ckpt_path=ckpt_path)
    return trainer, module


def validations(trainer, key):
    return [line[key] for _, line in trainer.logger.lines if key in line]


def averaged(values, decay, warm_up=True):
    """The definition: a weighted mean, worked out with the product of the decays that follow each value."""
    decays = [ema_decay(n, decay, warm_up) for n in range(len(values))]
    weights = [(1 - d) * math.prod(decays[i + 1 :]) for i, d in enumerate(decays)]
    assert sum(weights) == pytest.approx(1.0)
    return sum(w * v for w, v in zip(weights, values, strict=True))


def test_what_is_validated_is_the_weighted_mean_of_the_weights_after_every_step(tmp_path):
    trainer, module = fit(tmp_path, Drift(), [EMACallback(0.9)])
    steps = range(1, 2 * BATCHES + 1)
    expected = [averaged(steps[: n * BATCHES], 0.9) for n in (1, 2)]
    assert validations(trainer, "val/weight") == pytest.approx(expected, rel=1e-6)
    assert float(module.weight) == pytest.approx(expected[1], rel=1e-6)


def test_it_equals_torchs_averaged_model(tmp_path):
    module = make_module()
    theirs = AveragedModel(copy.deepcopy(module), multi_avg_fn=get_ema_multi_avg_fn(0.8))

    class Follow(Callback):
        def on_train_batch_end(self, trainer, pl_module, *args):
            theirs.update_parameters(pl_module)

    fit(tmp_path, module, [Follow(), EMACallback(0.8, warm_up=False)])
    for a, b in zip(theirs.module.parameters(), module.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-6, atol=1e-8)


@pytest.mark.slow
def test_training_goes_on_as_if_nobody_averaged(tmp_path):
    plain = fit(tmp_path, make_module(), [])[1]
    for validate in ("ema", "raw", "both"):
        module = fit(tmp_path, make_module(), [EMACallback(0.9, validate=validate, after_fit="raw")])[1]
        for a, b in zip(plain.parameters(), module.parameters(), strict=True):
            assert torch.equal(a, b), validate


def test_buffers_are_the_live_ones_everywhere(tmp_path):
    checkpoint = ModelCheckpoint(tmp_path, save_last=True)
    trainer, module = fit(tmp_path, Drift(), [EMACallback(0.9), checkpoint])
    assert validations(trainer, "val/count") == [BATCHES, 2 * BATCHES]
    assert (int(module.count), float(module.difficulty)) == (12, pytest.approx(1.2))
    saved = torch.load(checkpoint.last_model_path, weights_only=True)
    for state in ("state_dict", "current_model_state"):
        assert int(saved[state]["count"]) == 12
        assert float(saved[state]["difficulty"]) == pytest.approx(1.2)


def test_before_its_delay_the_trained_weights_are_validated_and_then_the_average_begins_with_them(tmp_path):
    trainer, module = fit(tmp_path, Drift(), [EMACallback(0.9, delay="8st")])
    assert validations(trainer, "val/weight") == pytest.approx([6.0, averaged([8, 9, 10, 11, 12], 0.9)])
    half = fit(tmp_path, Drift(), [EMACallback(0.9, delay="1ep")])[0]
    assert validations(half, "val/weight") == pytest.approx([averaged([6], 0.9), averaged(range(6, 13), 0.9)])


def test_with_an_interval_only_those_steps_enter(tmp_path):
    trainer, _ = fit(tmp_path, Drift(), [EMACallback(0.5, every=4, warm_up=False)])
    assert validations(trainer, "val/weight") == pytest.approx([4.0, 0.25 * 4 + 0.25 * 8 + 0.5 * 12])


def test_micro_batches_are_no_steps(tmp_path):
    trainer, _ = fit(tmp_path, Drift(), [EMACallback(0.9)], accumulate_grad_batches=4, max_epochs=1)
    assert trainer.global_step == 2
    # six batches: four make the first step, the two that are left the second
    first, second = validations(trainer, "val/weight")[0], averaged([1.0, 1.5], 0.9)
    assert first == pytest.approx(second)


@pytest.mark.parametrize("half_life", [3, "3st", "3ba", "0.5ep", "0.25dur"])
def test_a_half_life_in_any_unit_is_the_same(half_life, tmp_path):
    trainer, _ = fit(tmp_path, Drift(), [EMACallback(half_life=half_life, warm_up=False)])
    expected = averaged(range(1, 13), 2 ** (-1 / 3), warm_up=False)
    assert validations(trainer, "val/weight")[-1] == pytest.approx(expected)


def test_both_sets_of_weights_are_validated_side_by_side(tmp_path):
    both, module = fit(tmp_path, Drift(), [EMACallback(0.9, validate="both")])
    ema = fit(tmp_path, Drift(), [EMACallback(0.9)])[0]
    raw = fit(tmp_path, Drift(), [EMACallback(0.9, validate="raw")])[0]
    for key in ("val/weight", "val/metric", "val/last"):
        assert validations(both, key) == validations(ema, key), key
        assert validations(both, f"{key}_raw") == validations(raw, key), key
    assert validations(raw, "val/weight") == [6.0, 12.0]
    assert not module.outputs, "the twin's lists are its own"


def test_both_are_validated_on_every_loader(tmp_path):
    class Two(Drift):
        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            super().validation_step(batch, batch_idx)

    trainer = make_trainer(tmp_path, [EMACallback(0.9, validate="both")], max_epochs=1, num_sanity_val_steps=0)
    trainer.fit(Two(), train_loader(), [val_loader(), val_loader()])
    for place in ("/dataloader_idx_0", "/dataloader_idx_1"):
        assert validations(trainer, f"val/weight_raw{place}") == [6.0]
        assert validations(trainer, f"val/metric_raw{place}") == [6.0]


def test_both_differ_in_nothing_but_the_weights(tmp_path):
    class Noisy(module_classes(NAME)["automatic"]):
        def validation_step(self, batch, batch_idx):
            self.log("val/loss", sum(t.mean() for t in self.terms(batch[0])))

    trained = {}
    for validate in ("ema", "both"):
        torch.manual_seed(0)
        module = fit(tmp_path, Noisy(), [EMACallback(0.9, validate=validate)])[1]
        trained[validate] = [p.detach().clone() for p in module.parameters()]
    for a, b in zip(*trained.values(), strict=True):
        assert torch.equal(a, b), "the random state of training is left as it was"


def test_what_is_found_out_about_the_model_is_said_once_and_of_the_average(tmp_path):
    class Telling(Drift):
        def __init__(self):
            super().__init__()
            self.reporter = FindingReporter("Telling")

        def on_validation_epoch_end(self):
            if not self.trainer.sanity_checking:
                self.reporter.report(self.trainer, Finding("heavy", "warning", "too heavy", {"kg": float(self.weight)}))

    trainer, _ = fit(tmp_path, Telling(), [EMACallback(0.9, validate="both")])
    assert [finding.evidence["kg"] for finding in read_findings(tmp_path)] == [validations(trainer, "val/weight")[0]]


def test_a_module_that_cannot_be_copied_is_refused_by_name(tmp_path):
    class Stubborn(Drift):
        def __deepcopy__(self, memo):
            raise TypeError("no copies")

    with pytest.raises(ConfigurationError, match="Stubborn, which does not let itself be copied"):
        fit(tmp_path, Stubborn(), [EMACallback(validate="both")])


def test_the_sanity_check_sees_the_weights_as_they_are(tmp_path):
    seen = []

    class Watch(Callback):
        def on_validation_batch_start(self, trainer, pl_module, *args):
            seen.append(float(pl_module.weight))

    module = Drift()
    nn.init.constant_(module.weight, 5.0)
    fit(tmp_path, module, [EMACallback(0.9), Watch()], num_sanity_val_steps=1, max_epochs=1)
    assert seen[0] == 5.0


@pytest.mark.parametrize("validate", ["ema", "both"])
def test_an_exception_in_validation_leaves_the_trained_weights(validate, tmp_path):
    class Break(Callback):
        def on_validation_batch_end(self, trainer, pl_module, *args):
            assert float(pl_module.weight) != 6.0
            raise RuntimeError("broken on purpose")

    module, callback = Drift(), EMACallback(0.9, validate=validate)
    with pytest.raises(RuntimeError, match="broken on purpose"):
        fit(tmp_path, module, [callback, Break()])
    assert float(module.weight) == 6.0
    assert callback._twin is None


def test_the_average_is_in_place_until_the_end_of_the_validation_epoch_whatever_the_order(tmp_path):
    seen = {}

    class Watch(Callback):
        def __init__(self, key):
            self.key = key

        def on_validation_epoch_end(self, trainer, pl_module):
            seen[self.key] = float(pl_module.weight)

    fit(tmp_path, Drift(), [Watch("before"), EMACallback(0.9), Watch("after")], max_epochs=1)
    assert seen["before"] == seen["after"] == pytest.approx(averaged(range(1, 7), 0.9))


@pytest.mark.parametrize("after_fit", ["ema", "raw"])
def test_the_module_is_left_with_the_weights_asked_for_and_what_is_saved_then_is_whole(after_fit, tmp_path):
    module, path = Drift(), tmp_path / "end.ckpt"
    trainer, _ = fit(tmp_path, module, [EMACallback(0.9, after_fit=after_fit)])
    average = averaged(range(1, 13), 0.9)
    assert float(module.weight) == pytest.approx(average if after_fit == "ema" else 12.0)
    trainer.save_checkpoint(path)
    saved = torch.load(path, weights_only=True)
    assert float(saved["state_dict"]["weight"]) == pytest.approx(average)
    assert float(saved["current_model_state"]["weight"]) == 12.0
    trainer.validate(module, val_loader(), verbose=False)
    assert float(trainer.callback_metrics["val/weight"]) == pytest.approx(float(module.weight))


def test_testing_a_checkpoint_uses_the_average(tmp_path):
    trainer, module = fit(tmp_path, Drift(), [EMACallback(0.9), save_at_class(NAME)(BATCHES, tmp_path / "a.ckpt")])
    trainer.validate(module, val_loader(), ckpt_path=str(tmp_path / "a.ckpt"), verbose=False)
    assert float(trainer.callback_metrics["val/weight"]) == pytest.approx(averaged(range(1, 7), 0.9))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_average_is_kept_in_float32_and_the_weights_come_back_bit_by_bit(dtype, tmp_path):
    module, checkpoint = Drift(dtype), ModelCheckpoint(tmp_path, save_last=True)
    nn.init.constant_(module.weight, 100.0)
    trainer, _ = fit(tmp_path, module, [EMACallback(0.99, after_fit="raw"), checkpoint])
    assert float(module.weight) == 112.0
    saved = torch.load(checkpoint.last_model_path, weights_only=True)
    assert saved["state_dict"]["weight"].dtype == torch.float32
    assert saved["current_model_state"]["weight"].dtype == dtype
    expected = averaged(range(101, 113), 0.99)
    assert float(saved["state_dict"]["weight"]) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("precision", ["bf16-true", "bf16-mixed"])
def test_it_works_in_the_trainers_low_precision(precision, tmp_path):
    class Own(module_classes(NAME)["automatic"]):
        def training_step(self, batch, batch_idx):
            return super().training_step([batch[0].to(self.decoder.weight.dtype)], batch_idx)

        def validation_step(self, batch, batch_idx):
            return super().validation_step([batch[0].to(self.decoder.weight.dtype)], batch_idx)

    trainer, module = fit(tmp_path, Own(), [EMACallback(0.9, validate="both")], precision=precision)
    assert {part.average.dtype for part in trainer.callbacks[0]._average._parts.values()} == {torch.float32}
    assert all(torch.isfinite(p).all() for p in module.parameters())


@pytest.mark.parametrize("hook", ["on_train_epoch_start", "on_train_batch_start"])
def test_a_frozen_parameter_is_its_own_average_until_it_is_unfrozen(hook, tmp_path):
    class Unfreeze(Callback):
        def look(self, trainer, pl_module, *args):
            pl_module.late.requires_grad_(trainer.global_step >= 6)

    setattr(Unfreeze, hook, Unfreeze.look)
    _, module = fit(tmp_path, Drift(), [Unfreeze(), EMACallback(0.9)])
    values = [7.0] * 6 + [7.0 + n for n in range(1, 7)]
    assert float(module.late) == pytest.approx(averaged(values, 0.9))


def test_a_parameter_that_is_unfrozen_inside_a_step_begins_with_its_value_behind_it(tmp_path):
    module = Drift()
    module.unfreeze_at = 8
    fit(tmp_path, module, [EMACallback(0.9)], max_epochs=3)
    values = [8.0] * 9 + [7.0 + n for n in range(2, 11)]
    assert float(module.late) == pytest.approx(averaged(values, 0.9))


def test_a_parameter_that_is_frozen_again_keeps_its_average_across_a_resume(tmp_path):
    class Freeze(Callback):
        def on_train_batch_start(self, trainer, pl_module, *args):
            pl_module.weight.requires_grad_(trainer.global_step < 4)
            pl_module.late.requires_grad_(True)

    path = tmp_path / "8.ckpt"
    whole = fit(tmp_path, Drift(), [Freeze(), EMACallback(0.9), save_at_class(NAME)(8, path)])[1]
    frozen = Drift()
    frozen.weight.requires_grad_(False)
    again = fit(tmp_path, frozen, [Freeze(), EMACallback(0.9)], ckpt_path=str(path))[1]
    assert float(whole.weight) == float(again.weight) == pytest.approx(averaged([1, 2, 3, *[4] * 9], 0.9))


def test_tied_parameters_are_averaged_once_and_saved_under_both_names(tmp_path):
    class Tied(Drift):
        def __init__(self):
            super().__init__()
            self.other = nn.Linear(1, 1, bias=False)
            self.other.weight = nn.Parameter(torch.zeros(1, 1))
            self.third = self.other

        def training_step(self, batch, batch_idx):
            return super().training_step(batch, batch_idx) - self.other.weight.sum()

        def configure_optimizers(self):
            return torch.optim.SGD([self.weight, self.other.weight], 1.0)

    checkpoint = ModelCheckpoint(tmp_path, save_last=True)
    trainer, module = fit(tmp_path, Tied(), [EMACallback(0.9), checkpoint])
    assert sorted(trainer.callbacks[0]._average._parts) == ["other.weight", "weight"]
    saved = torch.load(checkpoint.last_model_path, weights_only=True)
    for name in ("other.weight", "third.weight"):
        assert float(saved["state_dict"][name]) == pytest.approx(averaged(range(1, 13), 0.9))
        assert float(saved["current_model_state"][name]) == 12.0


def test_a_parameter_that_is_replaced_is_refused(tmp_path):
    class Replace(Callback):
        def on_train_batch_end(self, trainer, pl_module, *args):
            if trainer.global_step == 3:
                pl_module.weight = nn.Parameter(torch.zeros(1))

    with pytest.raises(ConfigurationError, match=r"Drift\.weight was averaged and is now another parameter"):
        fit(tmp_path, Drift(), [EMACallback(), Replace()])


def test_a_module_that_saves_only_a_part_of_itself_resumes_too(tmp_path):
    class Secretive(Drift):
        def state_dict(self, *args, **kwargs):
            return {k: v for k, v in super().state_dict(*args, **kwargs).items() if k != "weight"}

    path = tmp_path / "8.ckpt"
    fit(tmp_path, Secretive(), [EMACallback(0.9), save_at_class(NAME)(8, path)])
    saved = torch.load(path, weights_only=True)
    assert "weight" not in saved["state_dict"]
    assert float(saved["averaging_state"]["weight"]) == pytest.approx(averaged(range(1, 9), 0.9))
    module = Secretive()
    module.strict_loading = False
    nn.init.constant_(module.weight, 8.0)
    fit(tmp_path, module, [EMACallback(0.9)], ckpt_path=str(path))
    assert float(module.weight) == pytest.approx(averaged(range(1, 13), 0.9))


def test_lightnings_callback_goes_on_with_our_checkpoint(tmp_path):
    path, theirs = tmp_path / "8.ckpt", EMAWeightAveraging(decay=0.9, use_buffers=False)
    fit(tmp_path, Drift(), [EMACallback(0.9, warm_up=False), save_at_class(NAME)(8, path)])
    module = fit(tmp_path, Drift(), [theirs], ckpt_path=str(path))[1]
    assert float(module.weight) == pytest.approx(averaged(range(1, 13), 0.9, warm_up=False))
    assert int(theirs._average_model.n_averaged) == 12


def test_we_go_on_with_lightnings_checkpoint(tmp_path):
    path, ours = tmp_path / "8.ckpt", EMACallback(0.9, warm_up=False)
    fit(tmp_path, Drift(), [EMAWeightAveraging(decay=0.9, use_buffers=False), save_at_class(NAME)(8, path)])
    module = fit(tmp_path, Drift(), [ours], ckpt_path=str(path))[1]
    assert float(module.weight) == pytest.approx(averaged(range(1, 13), 0.9, warm_up=False))
    assert ours._average.n_averaged == 12


def test_a_checkpoint_without_an_average_begins_one(tmp_path):
    path = tmp_path / "8.ckpt"
    fit(tmp_path, Drift(), [save_at_class(NAME)(8, path)])
    with pytest.warns(UserWarning, match="no average"):
        module = fit(tmp_path, Drift(), [EMACallback(0.9)], ckpt_path=str(path))[1]
    assert float(module.weight) == pytest.approx(averaged([9, 10, 11, 12], 0.9))


@pytest.mark.parametrize("step", [5, 6, 7, 9])
def test_a_run_resumed_between_micro_batches_equals_the_uninterrupted_one(step, tmp_path):
    class SaveAtBatch(pl.callbacks.Checkpoint):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if pl_module.count == step:
                trainer.save_checkpoint(tmp_path / "at.ckpt")

    whole, ours = Drift(), EMACallback(0.9, every=2)
    micro = {"accumulate_grad_batches": 2, "max_epochs": 3, "enable_checkpointing": True}
    fit(tmp_path, whole, [ours, SaveAtBatch()], **micro)
    again, resumed = Drift(), EMACallback(0.9, every=2)
    fit(tmp_path, again, [resumed], str(tmp_path / "at.ckpt"), **micro)
    if step % 2 == 0:  # inside a window Lightning itself loses the gradients
        assert torch.equal(whole.weight, again.weight)
    assert ours._average.n_averaged == resumed._average.n_averaged
    assert ours._last_step == resumed._last_step


def test_a_share_of_the_run_is_that_of_the_first_run_when_it_is_resumed_for_longer(tmp_path):
    path, ours = tmp_path / "8.ckpt", EMACallback(half_life="0.25dur", delay="0.5dur")
    fit(tmp_path, Drift(), [EMACallback(half_life="0.25dur", delay="0.5dur"), save_at_class(NAME)(8, path)])
    fit(tmp_path, Drift(), [ours], ckpt_path=str(path), max_epochs=6)
    assert ours._decay.decay == pytest.approx(2 ** (-1 / 3))
    assert ours._average.n_averaged == 36 - 5


@pytest.mark.slow
def test_a_rollback_takes_the_average_back_with_the_weights(tmp_path):
    state = {}

    class Look(Callback):
        keeps_books = True

        def on_train_batch_start(self, trainer, pl_module, *args):
            average = ours._average
            state[trainer.global_step] = [
                average.n_averaged,
                *(part.average.clone() for part in average._parts.values()),
                *(p.detach().clone() for p in pl_module.parameters()),
            ]

        def on_train_batch_end(self, trainer, pl_module, *args):
            if trainer.global_step == 20:
                with torch.no_grad():
                    pl_module.decoder.bias += 300.0

    ours = EMACallback(0.9)
    guard = NonFiniteGuard("rollback", max_consecutive=2, spike_window=8, patience=2, every="6st", lr_factor=1.0)
    fit(tmp_path, make_module(), [guard, ours, Look()], max_epochs=6)
    finding = next(f for f in read_findings(tmp_path) if f.name == "rolled-back")
    expected, found = state[finding.evidence["to_step"]], state[finding.step]
    assert expected[0] == found[0] == finding.evidence["to_step"]
    for a, b in zip(expected[1:], found[1:], strict=True):
        assert torch.equal(a, b)


def test_the_callback_begins_anew_in_another_fit(tmp_path):
    ours = EMACallback(half_life="0.25dur")
    first = fit(tmp_path, Drift(), [ours])[1]
    second = fit(tmp_path, Drift(), [ours], max_epochs=4)[1]
    assert float(first.weight) == pytest.approx(averaged(range(1, 13), 2 ** (-1 / 3)))
    assert float(second.weight) == pytest.approx(averaged(range(1, 25), 2 ** (-1 / 6)))


@pytest.mark.slow
def test_a_compiled_network_is_averaged(tmp_path):
    class Compiled(Drift):
        def __init__(self):
            super().__init__()
            self.net = torch.compile(nn.Linear(1, 1), backend="eager")

        def training_step(self, batch, batch_idx):
            return super().training_step(batch, batch_idx) + 0.0 * self.net(torch.ones(1, 1)).sum()

        def validation_step(self, batch, batch_idx):
            super().validation_step(batch, batch_idx)
            self.log("val/net", self.net(torch.ones(1, 1)).mean())

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 1.0)

    trainer, _ = fit(tmp_path, Compiled(), [EMACallback(0.9, validate="both")])
    assert validations(trainer, "val/weight")[-1] == pytest.approx(averaged(range(1, 13), 0.9))
    assert validations(trainer, "val/weight_raw")[-1] == 12.0


def test_an_average_that_never_forgets_its_beginning_is_reported(tmp_path):
    with pytest.warns(FindingWarning, match="100 % of the average with decay=0.9999"):
        fit(tmp_path, Drift(), [EMACallback(warm_up=False)])
    assert [f.name for f in read_findings(tmp_path)] == ["average-remembers-the-start"]
    fit(tmp_path / "b", Drift(), [EMACallback()])
    fit(tmp_path / "c", Drift(), [EMACallback(0.5, warm_up=False)])
    assert not read_findings(tmp_path / "b")
    assert not read_findings(tmp_path / "c")


@pytest.mark.parametrize(
    ("make", "kwargs", "said"),
    [
        (lambda p: [EMACallback(), Second()], {}, "averages the weights too"),
        (lambda p: [EMACallback(), EMAWeightAveraging()], {}, "EMAWeightAveraging averages the weights too"),
        (lambda p: [EMACallback(), StochasticWeightAveraging(1e-3)], {}, "StochasticWeightAveraging averages"),
        (lambda p: [EMACallback(), ModelCheckpoint(p, save_weights_only=True)], {}, "save_weights_only"),
        (lambda p: [EMACallback(delay=12)], {}, "delay=12st lasts as long as the run"),
        (lambda p: [EMACallback(delay="3ep")], {}, "delay=3ep lasts as long as the run of 2 epochs"),
        (lambda p: [EMACallback(half_life="0.1dur")], {"max_epochs": -1}, "half_life=0.1dur counts"),
    ],
)
def test_what_cannot_work_is_refused_before_training(make, kwargs, said, tmp_path):
    with pytest.raises(ConfigurationError, match=said):
        fit(tmp_path, Drift(), make(tmp_path), enable_checkpointing=True, **kwargs)


def test_a_sharded_strategy_is_refused_by_name(tmp_path):
    class FSDPStrategy:
        pass

    class Fake:
        strategy, callbacks = FSDPStrategy(), []

    with pytest.raises(ConfigurationError, match="FSDPStrategy"):
        EMACallback().setup(Fake(), Drift(), "fit")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"decay": 1.0}, "never moves"),
        ({"decay": -0.1}, "decay=-0.1"),
        ({"decay": "0.9"}, "decay='0.9'"),
        ({"decay": 0.9, "half_life": 10}, "Give one"),
        ({"half_life": 0}, "half_life=0"),
        ({"half_life": "10 steps"}, "half_life"),
        ({"warm_up": "yes"}, "warm_up='yes'"),
        ({"every": 0}, "every=0"),
        ({"delay": -1}, "delay"),
        ({"validate": "boht"}, "Did you mean 'both'"),
        ({"after_fit": "both"}, "after_fit='both'"),
        ({"action": "shout"}, "action='shout'"),
    ],
)
def test_an_argument_out_of_range_is_refused_by_name(settings, said):
    with pytest.raises(ConfigurationError, match=said):
        EMACallback(**settings)


def test_it_says_what_it_is():
    assert repr(EMACallback()) == "EMACallback(decay=0.9999, every=1, validate='ema')"
    assert repr(EMACallback(half_life="2ep", every=4)) == "EMACallback(half_life=2ep, every=4, validate='ema')"
