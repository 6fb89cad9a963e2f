"""Two ranks: rank zero finds, all act together, nobody waits for the other."""

from __future__ import annotations

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import DataLoader

from stablelit.doctor import TrainingDoctor
from stablelit.findings import Finding, FindingReporter, read_findings
from tests.doctor.carrying import Little, Recorder, Rows, alone, make_trainer, says

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


class Together(pl.Callback):
    """Each rank writes how far it came."""

    def __init__(self, folder):
        self.folder = folder

    def on_train_end(self, trainer, pl_module):
        (self.folder / f"rank-{trainer.global_rank}").write_text(f"ended {trainer.global_step}")


def fit(folder, *callbacks, **kwargs):
    torch.manual_seed(0)
    options = {"devices": 2, "strategy": "ddp_fork", "default_root_dir": folder, "max_epochs": 2, **kwargs}
    trainer = make_trainer([*callbacks, Together(folder)], **options)
    trainer.fit(Little(), DataLoader(Rows(160), 2), DataLoader(Rows(4), 2))
    return trainer


def ends(folder):
    return [path.read_text() for path in sorted(folder.glob("rank-*"))]


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    alone(monkeypatch, Recorder)


def test_where_nothing_is_to_be_done_ranks_need_not_wait(tmp_path):
    fit(tmp_path, TrainingDoctor(rules=[says("exact", since=3)]))
    assert ends(tmp_path) == ["ended 80"] * 2
    assert [finding.name for finding in read_findings(tmp_path)] == ["exact"]


@pytest.mark.parametrize("every", [None, 7], ids=["by-the-clock", "every-7"])
def test_all_stop_at_the_same_step(every, tmp_path):
    fit(tmp_path, TrainingDoctor(action="stop", every_n_steps=every, rules=[says("exact", since=10)]))
    # at the next judgement that they make together
    assert ends(tmp_path) == [f"ended {26 if every is None else 15}"] * 2


def test_all_raise(tmp_path):
    with pytest.raises(Exception, match="exact|found-on-rank-zero"):
        fit(tmp_path, TrainingDoctor(action="raise", every_n_steps=5, rules=[says("exact", since=8)]))
    # an exception ends the process of a rank before any other hook
    assert ends(tmp_path) == []
    assert [(finding.name, finding.step) for finding in read_findings(tmp_path)] == [("exact", 10)]


def test_what_only_another_callback_tells_ends_nothing(tmp_path):
    class Monitor(pl.Callback):
        def on_train_batch_end(self, trainer, *args):
            if trainer.global_step == 2:
                FindingReporter("Monitor").report(trainer, Finding("theirs", "critical", "it is so."))

    fit(tmp_path, TrainingDoctor(action="stop", every_n_steps=5), Monitor())
    assert ends(tmp_path) == ["ended 80"] * 2


def test_a_rule_that_raises_on_rank_zero_leaves_nobody_waiting(tmp_path):
    def check(evidence):
        raise ZeroDivisionError

    rule = says("broken")
    doctor = TrainingDoctor(action="stop", every_n_steps=5, rules=[type(rule)("broken", rule.rank, (), check)])
    fit(tmp_path, doctor, max_epochs=1)
    assert ends(tmp_path) == ["ended 40"] * 2


def test_an_error_on_one_rank_ends_both(tmp_path):
    class Breaks(pl.Callback):
        def on_train_batch_end(self, trainer, *args):
            if trainer.global_step == 3:
                raise ValueError("broken on purpose")

    with pytest.raises(Exception, match="broken on purpose"):
        fit(tmp_path, TrainingDoctor(action="raise", rules=[says("exact", since=3)]), Breaks())
    assert ends(tmp_path) == []
