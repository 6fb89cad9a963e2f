"""Runs that are killed with SIGKILL and go on: what they leave is bit for bit what the run leaves that nobody killed.

The children are forked from this process, which has paid for the imports; `python -m tests.soak` does the same with
random moments.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from stablelit.run.experiments import find_experiments
from tests.contract.modules import BATCHES, make_module, make_trainer, plain, save_at_class, train_loader, val_loader
from tests.contract.registry import SETTINGS
from tests.contract.test_resume import unmeasured, with_what_makes_resuming_exact
from tests.soak.forks import fork
from tests.soak.leavings import flat
from tests.soak.moments import Kill, die
from tests.soak.recipes import FAMILIES, recipe
from tests.soak.trial import killed, uninterrupted

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="children are forked and watched as Linux has it"),
    # of forking a process that has threads: the children take no lock of theirs
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning"),
]
EXPERIMENTS = [e.name for e in find_experiments()]
# of a family one, each at another kind of moment; two epochs are enough to be killed in the second
ONE_EACH = dict(
    zip(
        FAMILIES,
        [Kill("backward", 7), Kill("validation", 2), Kill("batch", 17), Kill("epoch", 4), Kill("torn", 7)],
        strict=True,
    )
)


@pytest.fixture(scope="session")
def generated(tmp_path_factory) -> Path:
    """Where generated events are kept."""
    return tmp_path_factory.mktemp("files")


def assert_survives(experiment, kills, folder, files, from_newest, *more):
    whole = uninterrupted([*recipe(experiment, files), *more], folder / "whole")
    trial = killed(whole, kills, folder / "killed", from_newest)
    assert trial.kills == list(kills), "it was killed where it was to be"
    assert trial.resumes + trial.began_anew == len(kills)
    assert not trial.lost
    assert not trial.differences


# at every commit one of a family's whose losses and callbacks are others than the family's own; the rest in the soak,
# for each costs ten seconds of a processor
OFTEN = ("causal_after", "jets_after", "proteins_uniref50", "sketches_fewshot")


@pytest.mark.parametrize(
    "experiment",
    [
        pytest.param(e, marks=pytest.mark.slow if e in OFTEN else pytest.mark.soak)
        for e in EXPERIMENTS
        if e not in FAMILIES
    ],
)
def test_every_other_experiment_survives_a_kill_inside_an_epoch(experiment, tmp_path, generated):
    assert_survives(experiment, [Kill("backward", 8)], tmp_path, generated, True, "trainer.max_epochs=2")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_run_of_every_family_survives_a_kill(family, tmp_path, generated):
    kill = ONE_EACH[family]
    assert_survives(family, [kill], tmp_path, generated, kill.moment == "backward", "trainer.max_epochs=2")


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_every_callback_survives_a_kill_in_the_process_that_has_it(setting, tmp_path):
    step = BATCHES + 2

    def fit(folder, left, dies_at=None, ckpt_path=None):
        def work():
            torch.manual_seed(0 if ckpt_path is None else 1234)
            callbacks = with_what_makes_resuming_exact(setting.make())
            saver = save_at_class("lightning.pytorch")(step, tmp_path / "a.ckpt")
            dying = [Dies(dies_at)] if dies_at else []
            trainer = make_trainer(folder, [*callbacks, *dying, saver], enable_checkpointing=True)
            module = make_module(seed=0 if ckpt_path is None else 99)
            trainer.fit(module, train_loader(), val_loader(), ckpt_path=ckpt_path)
            lines = unmeasured(line for line in trainer.logger.lines if line[0] >= step)
            # the names of a line in one order: after a resume Lightning has another
            told = repr([(at, sorted(values.items())) for at, values in lines])
            torch.save([module.state_dict(), plain(callbacks[0].state_dict()), told], left)
            return 0

        folder.mkdir()
        return fork(work, tmp_path / "printed.txt")

    assert fit(tmp_path / "whole", tmp_path / "whole.pt").code == 0
    (tmp_path / "a.ckpt").unlink()
    assert fit(tmp_path / "killed", tmp_path / "killed.pt", dies_at=step + 3).killed
    again = fit(tmp_path / "again", tmp_path / "again.pt", ckpt_path=str(tmp_path / "a.ckpt"))
    assert again.code == 0, again.printed
    one, other = (dict(flat(torch.load(tmp_path / f"{name}.pt"), "", str)) for name in ("whole", "again"))
    assert one == other


def Dies(at):
    import lightning.pytorch as pl

    class DiesAt(pl.Callback):
        def on_after_backward(self, trainer, pl_module):
            if trainer.global_step == at:
                die()

    return DiesAt()


@pytest.mark.slow
def test_the_last_checkpoint_is_of_the_last_epoch_also_where_nothing_improves(train):
    # the loss falls, and is asked to rise
    done = train("objective.mode=max", "trainer.max_epochs=3", "test=false", "report=false")
    best, last = (
        torch.load(done.run_dir / f"checkpoints/{name}.ckpt", weights_only=True)["epoch"] for name in ("best", "last")
    )
    assert best < last
    assert last == 2


@pytest.mark.slow
def test_a_run_that_was_killed_before_its_first_checkpoint_says_how_to_begin_again(tmp_path):
    from tests.run.conftest import tiny
    from tests.soak.forks import train

    run_dir = tmp_path / "run"
    assert train([*tiny(), f"run_dir={run_dir}"], tmp_path, run_dir, Kill("backward", 1)).killed
    refused = train([f"resume={run_dir}"], tmp_path, run_dir)
    assert refused.code == 2
    assert "before its first checkpoint" in refused.printed
    again = train(
        ["--config-dir", str(run_dir), "--config-name", "config", f"run_dir={tmp_path / 'again'}"], tmp_path, run_dir
    )
    assert again.code == 0, again.printed
