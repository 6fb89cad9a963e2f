from __future__ import annotations

import math

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from stablelit.callbacks import CurriculumCallback
from stablelit.errors import ConfigurationError, ContractError
from stablelit.findings import read_findings
from stablelit.functional.pacing import Pacing
from stablelit.optim import warmup_schedule
from tests.callbacks.difficulty_watch import BATCHES, Silent, Watched, fit, loader
from tests.contract.modules import make_module, make_trainer, save_at_class, train_loader

pytestmark = pytest.mark.filterwarnings("ignore")
TOTAL = 3 * BATCHES


def findings(directory):
    return {finding.name: finding for finding in read_findings(directory)}


@pytest.mark.parametrize("duration", [9, "9st", "9ba", "1.5ep", "0.5dur"])
def test_every_unit_of_the_clock_gives_the_same_ramp(duration, tmp_path):
    module = fit(tmp_path, [CurriculumCallback(duration=duration)])
    assert module.seen["train"] == pytest.approx([0.1 + 0.9 * min(1.0, step / 9) for step in range(TOTAL)])


@pytest.mark.parametrize("pacing", ["root", "exponential", "saturating", "cosine", "power", "logistic", "step"])
def test_training_follows_the_pacing_and_ends_at_the_end(pacing, tmp_path):
    module = fit(tmp_path, [CurriculumCallback(pacing, 0.2, 0.9, duration=10, delay=3)])
    ramp = Pacing(pacing, 0.2, 0.9)
    assert module.seen["train"] == [ramp.value((step - 3) / 10) for step in range(TOTAL)]
    assert module.seen["train"][13:] == [0.9] * 5


def test_optimizer_steps_count_and_not_batches_unless_batches_are_asked_for(tmp_path):
    by_step = fit(tmp_path, [CurriculumCallback(duration=3)], accumulate_grad_batches=2)
    by_batch = fit(tmp_path, [CurriculumCallback(duration="6ba")], accumulate_grad_batches=2)
    assert by_step.seen["train"] == pytest.approx([0.1 + 0.9 * min(1.0, (b // 2) / 3) for b in range(TOTAL)])
    assert by_batch.seen["train"] == pytest.approx([0.1 + 0.9 * min(1.0, b / 6) for b in range(TOTAL)])


def test_the_published_ramp_counts_batches_and_its_end_is_not_full(tmp_path):
    curriculum = CurriculumCallback("postmortem", duration="12ba")
    module = fit(tmp_path, [curriculum], accumulate_grad_batches=2)
    assert module.seen["train"] == [Pacing("postmortem").value(batch / 12) for batch in range(TOTAL)]
    assert module.seen["train"][12] == pytest.approx(0.955, abs=1e-3)
    finding = findings(tmp_path)["curriculum-unfinished"]
    assert finding.evidence["difficulty"] == pytest.approx(0.1 + 0.9 * (1 - 2.718281828**-4.5))
    assert "0.955" in finding.message


@pytest.mark.parametrize("arguments", [{"duration": 12}, {"duration": "12ba", "delay": "1ba"}])
def test_the_published_ramp_is_not_another_one(arguments):
    with pytest.raises(ConfigurationError, match="postmortem.*counts batches.*duration='5000ba'"):
        CurriculumCallback("postmortem", **arguments)


def test_evaluation_is_at_full_difficulty_and_training_goes_on_where_it_was(tmp_path):
    # it stands still before the ramp and after it, so that nothing but the end of a validation puts it back
    curriculum = CurriculumCallback(end=0.8, delay=5, duration=7)
    module = fit(tmp_path, [curriculum], val_check_interval=2, num_sanity_val_steps=1)
    assert module.seen["val"] == [1.0] * (1 + TOTAL // 2)
    share = [min(1.0, max(0, step - 5) / 7) for step in range(TOTAL)]
    assert module.seen["train"] == pytest.approx([0.1 + 0.7 * s for s in share])


def test_a_run_that_only_evaluates_is_at_full_difficulty_and_stays_there(tmp_path):
    module = Watched()
    trainer = make_trainer(tmp_path, [CurriculumCallback()])
    trainer.validate(module, loader(2), verbose=False)
    assert module.difficulty == 1.0
    trainer.test(module, loader(2), verbose=False)
    trainer.predict(module, loader(2))
    assert module.seen == {"train": [], "val": [1.0] * 2, "test": [1.0] * 2, "predict": [1.0] * 2}
    assert module.difficulty == 1.0


def test_evaluation_after_a_fit_of_the_same_trainer_is_at_full_difficulty(tmp_path):
    module = Watched()
    curriculum = CurriculumCallback(duration=100, end=0.8, allow_unfinished=True)
    trainer = make_trainer(tmp_path, [curriculum])
    trainer.fit(module, loader(), loader(1))
    assert module.difficulty == 1.0
    trainer.test(module, loader(1), verbose=False)
    trainer.validate(module, loader(1), verbose=False)
    assert module.seen["test"] == [1.0]
    assert module.difficulty == 1.0
    assert curriculum.difficulty == pytest.approx(0.1 + 0.7 * (TOTAL - 1) / 100)


def test_evaluation_has_the_difficulty_that_was_asked_for(tmp_path):
    module = fit(tmp_path, [CurriculumCallback(eval_difficulty=0.6)])
    assert set(module.seen["val"]) == {0.6}


def test_a_validation_that_breaks_leaves_the_difficulty_of_training(tmp_path):
    class Breaks(Watched):
        def validation_step(self, batch, batch_idx):
            assert self.difficulty == 1.0
            if not self.trainer.sanity_checking:
                raise RuntimeError("broken on purpose")

    module = Breaks()
    with pytest.raises(RuntimeError, match="broken on purpose"):
        fit(tmp_path, [CurriculumCallback(duration=9)], module)
    assert module.difficulty == module.seen["train"][-1] < 1.0


def test_a_callback_that_is_used_again_begins_anew(tmp_path):
    curriculum = CurriculumCallback()
    first = fit(tmp_path, [curriculum])
    second = fit(tmp_path, [curriculum], max_epochs=2)
    assert first.seen["train"][0] == second.seen["train"][0] == 0.1
    assert second.seen["train"] == pytest.approx([0.1 + 0.9 * min(1.0, step / 6) for step in range(2 * BATCHES)])


def test_what_is_logged_is_what_the_step_had(tmp_path):
    class Informed(Watched):
        def difficulty_info(self):
            return {"t_max": 2 * self.difficulty}

    module = Informed()
    trainer = make_trainer(tmp_path, [CurriculumCallback(duration=9)], log_every_n_steps=2)
    trainer.fit(module, loader())
    logged = {step: line for step, line in trainer.logger.lines if "curriculum/difficulty" in line}
    assert sorted(logged) == [step for step in range(TOTAL) if step % 2]
    for step, line in logged.items():
        assert line["curriculum/difficulty"] == pytest.approx(module.seen["train"][step])
        assert line["curriculum/t_max"] == pytest.approx(2 * module.seen["train"][step])
        assert line["curriculum/progress"] == pytest.approx(min(1.0, step / 9))


def test_a_name_is_in_the_keys_of_a_second_one(tmp_path):
    pair = [CurriculumCallback(), CurriculumCallback(targets="temperature", name="heat")]
    trainer = make_trainer(tmp_path, pair)
    trainer.fit(Watched(), loader())
    assert {"curriculum/difficulty", "curriculum/heat/difficulty"} <= set(trainer.callback_metrics)


# --- what it says about a run ----------------------------------------------------------------------------------------


def test_a_ramp_that_the_run_does_not_finish_is_refused_with_what_would_come_of_it(tmp_path):
    with pytest.raises(ConfigurationError, match=r"run is 18 long.*reaches d=0.77 of 1.*'18st'.*allow_unfinished=True"):
        fit(tmp_path, [CurriculumCallback(duration=24, delay=0, start=0.08)])
    assert not findings(tmp_path)


def test_a_ramp_that_may_stay_unfinished_is_a_finding(tmp_path):
    module = fit(tmp_path, [CurriculumCallback(duration="36ba", allow_unfinished=True)])
    assert module.seen["train"][-1] == pytest.approx(0.1 + 0.9 * 17 / 36)
    finding = findings(tmp_path)["curriculum-unfinished"]
    assert finding.evidence == {"difficulty": pytest.approx(0.55), "end": 1.0, "run": 18.0, "ramp": 36.0}
    assert finding.source == "CurriculumCallback[module, datamodule]"


def test_a_difficulty_that_is_all_but_full_is_not_told_as_full(tmp_path):
    fit(tmp_path, [CurriculumCallback("postmortem", duration="6ba")])
    reached = 0.1 + 0.9 * (1 - math.exp(-9.0))
    finding = findings(tmp_path)["curriculum-unfinished"]
    assert finding.evidence["difficulty"] == pytest.approx(reached)
    assert f"{reached:.2f}" == "1.00"
    assert "reaches d=0.9999 of 1," in finding.message


def test_a_ramp_as_long_as_the_run_is_finished(tmp_path):
    fit(tmp_path, [CurriculumCallback(duration="1.0dur")])
    fit(tmp_path, [CurriculumCallback(duration="2.9ep", delay="0.1ep")])
    assert not findings(tmp_path)


def test_a_run_that_was_stopped_inside_the_ramp_is_a_finding(tmp_path):
    module = Watched([1.0, 1.0, 1.0])
    fit(tmp_path, [CurriculumCallback(), EarlyStopping("val/loss", patience=1)], module, max_epochs=6)
    assert len(module.seen["train"]) == 2 * BATCHES
    assert findings(tmp_path)["curriculum-unfinished"].evidence["difficulty"] == pytest.approx(0.1 + 0.9 * 12 / 18)


def test_findings_stop_or_raise_where_they_are_told_to(tmp_path):
    module = fit(tmp_path, [CurriculumCallback(duration=36, allow_unfinished=True, action="stop")])
    assert len(module.seen["train"]) < TOTAL


def warming(make, **config):
    class Warming(Watched):
        def configure_optimizers(self):
            optimizer = super().configure_optimizers()
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": make(optimizer), **config}}

    return Warming()


def warmup(steps):
    return lambda optimizer: warmup_schedule(optimizer, TOTAL, warmup=steps)


@pytest.mark.parametrize(
    ("module", "duration", "warm"),
    [
        (lambda: warming(warmup(10), interval="step"), 9, 10),
        (lambda: warming(warmup(10), interval="step"), 10, None),
        (lambda: warming(warmup(6), interval="step", frequency=2), "10ba", 12),
        (lambda: warming(lambda o: torch.optim.lr_scheduler.LinearLR(o, 0.1, total_iters=2), interval="epoch"), 9, 12),
        (lambda: warming(lambda o: torch.optim.lr_scheduler.LinearLR(o, 0.1, total_iters=2)), "2ep", None),
        # the post-mortem's own: the run ends inside the warm-up
        (lambda: warming(lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda s: s / 100), interval="step"), 9, 18),
        (lambda: warming(lambda o: torch.optim.lr_scheduler.StepLR(o, 3)), 9, None),
        (Watched, 9, None),
    ],
)
def test_a_ramp_that_is_over_before_the_rate_has_warmed_up_is_a_finding(module, duration, warm, tmp_path):
    fit(tmp_path, [CurriculumCallback(duration=duration)], module())
    found = findings(tmp_path).get("curriculum-inside-warmup")
    assert (found and found.evidence["warmup"]) == warm


@pytest.mark.parametrize(("monitor", "is_misled"), [("train/loss", True), ("val/loss", False)])
def test_who_decides_by_a_metric_of_training_is_named(monitor, is_misled, tmp_path):
    checkpoint = ModelCheckpoint(tmp_path, monitor=monitor)
    fit(tmp_path, [CurriculumCallback(), checkpoint], Watched([3.0, 2.0, 1.0]), enable_checkpointing=True)
    found = findings(tmp_path)
    assert list(found) == (["monitor-moves-with-difficulty"] if is_misled else [])
    if is_misled:
        assert "ModelCheckpoint looks at train/loss" in found["monitor-moves-with-difficulty"].message


def test_nobody_is_misled_when_nothing_moves(tmp_path):
    checkpoint = ModelCheckpoint(tmp_path, monitor="train/loss")
    fit(tmp_path, [CurriculumCallback("constant"), checkpoint], enable_checkpointing=True)
    assert not findings(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"pacing": "liner"}, "pacing='liner'.*'linear'"),
        ({"start": 2.0}, "start=2.0"),
        ({"duration": "5 epochs"}, "duration='5 epochs'.*'5ep'"),
        ({"duration": "1ep", "delay": 3}, "different units"),
        ({"eval_difficulty": 1.5}, "eval_difficulty=1.5"),
        ({"allow_unfinished": "no"}, "allow_unfinished='no'"),
        ({"loss_norm": "yes"}, "loss_norm='yes'"),
        ({"gate": "val/loss"}, "gate='val/loss'.*PlateauGate"),
        ({"action": "shout"}, "action='shout'"),
        ({"name": ""}, "name=''"),
    ],
)
def test_bad_arguments_are_refused(arguments, says):
    with pytest.raises(ConfigurationError, match=f"CurriculumCallback.*: .*{says}"):
        CurriculumCallback(**arguments)


# --- resume and rollback ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("step", [8, BATCHES])
def test_a_resumed_run_has_the_difficulties_of_the_uninterrupted_one(step, tmp_path):
    whole = fit(tmp_path, [CurriculumCallback("root"), save_at_class("lightning.pytorch")(step, tmp_path / "s.ckpt")])
    again = fit(tmp_path, [CurriculumCallback("root")], ckpt_path=tmp_path / "s.ckpt")
    assert again.seen["train"] == whole.seen["train"][step:]
    # a share of the run was resolved when the run began
    longer = fit(tmp_path, [CurriculumCallback("root")], ckpt_path=tmp_path / "s.ckpt", max_epochs=6)
    assert longer.seen["train"][: TOTAL - step] == whole.seen["train"][step:]


@pytest.mark.slow
def test_another_pacing_goes_on_from_the_same_clock_and_says_so(tmp_path):
    saver = save_at_class("lightning.pytorch")(8, tmp_path / "8.ckpt")
    fit(tmp_path, [CurriculumCallback(duration=16), saver])
    other = CurriculumCallback("power", power=3.0, duration=12)
    with pytest.warns(UserWarning, match="linear from 0.1 to 1, duration=16st.*power from 0.1 to 1, power=3"):
        again = fit(tmp_path, [other], ckpt_path=tmp_path / "8.ckpt")
    assert again.seen["train"] == pytest.approx([0.1 + 0.9 * min(1.0, s / 12) ** 3 for s in range(8, TOTAL)])


def test_a_rollback_leaves_the_ramp_on_the_clock_of_the_run(tmp_path):
    class RollBack(pl.Callback):
        """What NonFiniteGuard does: an earlier state, and counters that have gone on."""

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if trainer.global_step == 4:
                self.state = curriculum.state_dict()
            if trainer.global_step == 11:
                curriculum.load_state_dict(self.state)
                curriculum.on_rollback(trainer, pl_module)

    curriculum = CurriculumCallback(duration=9)
    module = fit(tmp_path, [curriculum, RollBack()])
    assert module.seen["train"] == pytest.approx([0.1 + 0.9 * min(1.0, step / 9) for step in range(TOTAL)])


# --- the loss over the trivial one -----------------------------------------------------------------------------------


class Normed(Watched):
    def __init__(self):
        super().__init__()
        self.losses = []

    def trivial_loss(self, difficulty):
        return 2.0 + difficulty

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.losses.append(loss.item())
        return loss


@pytest.mark.parametrize("accumulate", [1, 3])
def test_loss_norm_is_the_ratio_of_sums_since_it_was_logged(accumulate, tmp_path):
    module = Normed()
    trainer = make_trainer(
        tmp_path, [CurriculumCallback()], accumulate_grad_batches=accumulate, log_every_n_steps=2, max_epochs=3
    )
    trainer.fit(module, loader())
    logged = [(step, line["train/loss_norm"]) for step, line in trainer.logger.lines if "train/loss_norm" in line]
    assert len(logged) == TOTAL / accumulate / 2
    for number, (_, value) in enumerate(logged):
        batches = slice(number * 2 * accumulate, (number + 1) * 2 * accumulate)
        trivial = sum(2.0 + d for d in module.seen["train"][batches])
        assert value == pytest.approx(sum(module.losses[batches]) / trivial, rel=1e-5)


def test_an_untrained_predictor_has_a_flat_loss_norm_while_its_loss_rises(tmp_path):
    class Untrained(Normed):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            return 0.0 * loss + 2.0 + self.difficulty

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.0)

    trainer = make_trainer(tmp_path, [CurriculumCallback()])
    trainer.fit(Untrained(), loader())
    logged = [line["train/loss_norm"] for _, line in trainer.logger.lines if "train/loss_norm" in line]
    assert logged == pytest.approx([1.0] * TOTAL)


@pytest.mark.slow
def test_loss_norm_goes_on_inside_its_interval_after_a_resume(tmp_path):
    def norms(trainer):
        return {s: line["train/loss_norm"] for s, line in trainer.logger.lines if "train/loss_norm" in line}

    class SameNoise(pl.Callback):
        def on_train_batch_start(self, trainer, *args):
            torch.manual_seed(trainer.global_step)

    saver = save_at_class("lightning.pytorch")(8, tmp_path / "8.ckpt")
    whole = make_trainer(
        tmp_path, [CurriculumCallback(), SameNoise(), saver], log_every_n_steps=5, enable_checkpointing=True
    )
    whole.fit(make_module(), train_loader())
    again = make_trainer(tmp_path, [CurriculumCallback(), SameNoise()], log_every_n_steps=5)
    again.fit(make_module(seed=3), train_loader(), ckpt_path=tmp_path / "8.ckpt")
    assert norms(again) == {step: value for step, value in norms(whole).items() if step >= 8}


@pytest.mark.parametrize(
    ("module", "wanted", "is_logged"), [(Normed, False, False), (Watched, None, False), (Normed, True, True)]
)
def test_loss_norm_is_logged_where_it_can_be_and_is_not_refused(module, wanted, is_logged, tmp_path):
    trainer = make_trainer(tmp_path, [CurriculumCallback(loss_norm=wanted)])
    trainer.fit(module(), loader())
    assert ("train/loss_norm" in trainer.callback_metrics) == is_logged


def test_a_loss_norm_that_cannot_be_had_is_refused(tmp_path):
    with pytest.raises(ContractError, match=r"loss_norm=True, but Watched has no trivial_loss"):
        fit(tmp_path, [CurriculumCallback(loss_norm=True)])

    class Zero(Normed):
        def trivial_loss(self, difficulty):
            return 0.0

    with pytest.raises(ContractError, match=r"Zero.trivial_loss\(0.1\) returned 0.0.*above 0"):
        fit(tmp_path, [CurriculumCallback()], Zero())


def test_nothing_is_told_a_silent_module(tmp_path):
    with pytest.raises(
        ContractError, match=r"nobody listens.*the module Silent \(there is no datamodule\).*temperature"
    ):
        fit(tmp_path, [CurriculumCallback()], Silent())
