from __future__ import annotations

import math

import lightning.pytorch as pl
import pytest
import torch

from stablelit import PlateauGate
from stablelit.callbacks import CurriculumCallback
from stablelit.errors import ContractError
from stablelit.findings import read_findings
from tests.callbacks.difficulty_watch import BATCHES, Watched, fit, loader
from tests.contract.modules import make_trainer, save_at_class

pytestmark = pytest.mark.filterwarnings("ignore")


def gated(duration="1ep", **settings):
    return CurriculumCallback(duration=duration, gate=PlateauGate("val/loss", **settings))


def epochs(module):
    """The first difficulty of each epoch, and the last of all."""
    return [*module.seen["train"][::BATCHES], module.seen["train"][-1]]


def test_the_ramp_runs_from_the_validation_that_opens_the_gate_until_the_one_that_shuts_it(tmp_path):
    module = Watched([3.0, 3.0, 2.0, 2.0, 2.0, 2.0])
    fit(tmp_path, [gated("3ep", patience=1)], module, max_epochs=6)
    # shut at first; open after the second validation, shut by the third, open from the fourth on
    assert epochs(module)[:6] == pytest.approx([0.1, 0.1, 0.1, 0.4, 0.4, 0.7])
    assert module.seen["train"][12:18] == pytest.approx([0.1 + 0.9 * step / 18 for step in range(6)])


@pytest.mark.slow
@pytest.mark.parametrize("duration", [18, "18ba", "3ep"])
def test_the_time_that_a_gate_is_shut_is_lost_in_every_unit(duration, tmp_path):
    module = Watched([5.0 - k for k in range(9)])
    fit(tmp_path, [gated(duration, patience=1, max_hold=1)], module, max_epochs=8)
    # it never stops to improve: every second validation opens the gate for an epoch
    assert epochs(module) == pytest.approx([0.1, 0.1, 0.1, 0.4, 0.4, 0.7, 0.7, 1.0, 1.0])


def test_a_validation_inside_an_epoch_opens_the_gate_there(tmp_path):
    module = Watched([1.0] * 99)
    fit(tmp_path, [gated(6, patience=1)], module, val_check_interval=2)
    assert module.seen["train"] == pytest.approx([0.1] * 4 + [0.1 + 0.9 * min(1.0, k / 6) for k in range(14)])


def test_the_sanity_check_does_not_count(tmp_path):
    class Logs(Watched):
        def on_validation_epoch_end(self):
            self.log("val/loss", 1.0)

    module = fit(tmp_path, [gated(patience=1)], Logs(), num_sanity_val_steps=1)
    assert module.seen["train"][:12] == [0.1] * 12


def test_a_metric_that_is_not_finite_holds_and_is_a_finding(tmp_path):
    module = Watched([1.0, 1.0, math.nan, 1.0])
    fit(tmp_path, [gated("4ep", patience=1)], module, max_epochs=5)
    assert epochs(module)[:5] == pytest.approx([0.1, 0.1, 0.1, 0.325, 0.325])
    finding = next(f for f in read_findings(tmp_path) if f.name == "gate-metric-non-finite")
    assert finding.evidence == {"monitor": "val/loss", "value": "nan"}


def test_a_metric_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    with pytest.raises(
        ContractError, match=r"gate looks at 'val/nll', which no validation.*There are curriculum/difficulty.*val/loss"
    ):
        fit(tmp_path, [CurriculumCallback(gate=PlateauGate("val/nll"))], Watched([1.0]))


def test_a_metric_of_training_is_refused_whatever_its_name(tmp_path):
    class Logs(Watched):
        def training_step(self, batch, batch_idx):
            self.log("nll", 1.0)
            return super().training_step(batch, batch_idx)

    with pytest.raises(ContractError, match="'nll', which training_step logs"):
        fit(tmp_path, [CurriculumCallback(gate=PlateauGate("nll"))], Logs())


def test_what_is_held_is_logged_and_a_ramp_that_was_held_too_long_is_a_finding(tmp_path):
    trainer = make_trainer(tmp_path, [gated(patience=2, max_hold=2)], max_epochs=3)
    module = Watched([3.0, 2.0, 1.0])
    trainer.fit(module, loader(), loader(1))
    held = [line["curriculum/gate_hold"] for _, line in trainer.logger.lines if "curriculum/gate_hold" in line]
    assert held == [0.0] * 6 + [1.0] * 6 + [2.0] * 6
    finding = next(f for f in read_findings(tmp_path) if f.name == "curriculum-unfinished")
    assert finding.evidence["difficulty"] == pytest.approx(0.1)


@pytest.mark.parametrize("step", [8, 2 * BATCHES, 20])
@pytest.mark.slow
def test_a_resumed_run_holds_as_the_uninterrupted_one(step, tmp_path):
    losses = [3.0, 3.0, 2.0, 2.0, 2.0, 2.0]
    saver = save_at_class("lightning.pytorch")(step, tmp_path / "s.ckpt")
    whole = fit(tmp_path, [gated("3ep", patience=1), saver], Watched(losses[:]), max_epochs=6)
    later = Watched(losses[step // BATCHES :])
    fit(tmp_path, [gated("3ep", patience=1)], later, ckpt_path=tmp_path / "s.ckpt", max_epochs=6)
    assert later.seen["train"] == whole.seen["train"][step:]


@pytest.mark.slow
def test_a_gate_that_comes_or_goes_with_a_resume_changes_what_follows_only(tmp_path):
    path = tmp_path / "s.ckpt"
    saver = save_at_class("lightning.pytorch")(2 * BATCHES, path)
    fit(tmp_path, [CurriculumCallback(duration="4ep"), saver], Watched([1.0] * 4), max_epochs=4)
    held = fit(tmp_path, [gated("4ep", patience=9, max_hold=9)], Watched([1.0] * 4), ckpt_path=path, max_epochs=4)
    assert held.seen["train"] == pytest.approx([0.55] * 12)
    fit(tmp_path, [gated("2ep", patience=9, max_hold=9), saver], Watched([1.0] * 4), max_epochs=4)
    free = fit(tmp_path, [CurriculumCallback(duration="2ep")], Watched([1.0] * 4), ckpt_path=path, max_epochs=4)
    assert free.seen["train"] == pytest.approx([0.1 + 0.9 * k / 12 for k in range(12)])
    # epochs that were lost are no number of steps: twelve steps have passed, and the gate is shut
    steps = fit(tmp_path, [gated(24, patience=9, max_hold=9)], Watched([1.0] * 4), ckpt_path=path, max_epochs=4)
    assert steps.seen["train"] == pytest.approx([0.55] * 12)


@pytest.mark.slow
def test_ranks_with_metrics_of_their_own_hold_together(tmp_path):
    class ByRank(Watched):
        def on_validation_epoch_end(self):
            # not reduced: rank one never sees an improvement, rank zero always does
            value = float(self.trainer.current_epoch) * (1 if self.global_rank else -1)
            self.log("val/loss", value, sync_dist=False)

    class Compare(pl.Callback):
        def on_train_end(self, trainer, pl_module):
            mine = torch.tensor(pl_module.seen["train"])
            both = [torch.zeros_like(mine) for _ in range(2)]
            torch.distributed.all_gather(both, mine)
            assert torch.equal(*both), "the ranks have come apart"
            if trainer.is_global_zero:
                seen.write_text(" ".join(map(str, mine.tolist())))

    seen = tmp_path / "seen"
    curriculum = gated("2ep", patience=1, max_hold=2)
    fit(tmp_path, [curriculum, Compare()], ByRank(), devices=2, strategy="ddp_fork", max_epochs=6)
    difficulties = [float(text) for text in seen.read_text().split()]
    # as rank zero sees it: the third validation opens the gate for an epoch, because two have held
    assert difficulties[::3] == pytest.approx([0.1, 0.1, 0.1, 0.1, 0.55, 0.55])
