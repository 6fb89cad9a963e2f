from __future__ import annotations

import hashlib
import json
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
import yaml
from torch import nn

from stablelit.check import main as check
from stablelit.errors import DataError

from .conftest import tiny
from .tiny import TinyVAE

BEST, LAST = "checkpoints/best.ckpt", "checkpoints/last.ckpt"
# a rate of next to nothing: the weights at the end are those at the beginning
STILL = ("model.learning_rate=1e-12", "optimizer.weight_decay=0", "lr_schedule=none", "trainer.max_epochs=1")


def weights_of(path):
    return torch.load(path, weights_only=True)["state_dict"]


def assert_near(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.allclose(a[name], b[name], atol=1e-9), name


class Watch(pl.Callback):
    """Writes down what a training begins with."""

    seen: dict[str, object]

    def on_train_start(self, trainer, pl_module):
        state = {name: value.clone() for name, value in pl_module.state_dict().items()}
        rates = [group["lr"] for group in trainer.optimizers[0].param_groups]
        moments = [dict(state) for state in trainer.optimizers[0].state.values()]
        Watch.seen = {"step": trainer.global_step, "weights": state, "rates": rates, "moments": moments}


WATCH = ("+callbacks.watch._target_=tests.run.test_weights.Watch", "allow_targets=[tests.run.test_weights.Watch]")


class BuildsInSetup(TinyVAE):
    """Makes its decoder anew when it sees the data, and takes a buffer from them."""

    def setup(self, stage):
        self.decoder = nn.Linear(self.hparams["latent_dim"], 6)
        self.kl_weight.fill_(0.25)


class MakesItsDecoderLater(TinyVAE):
    """Has no decoder before `configure_model`."""

    def __init__(
        self,
        latent_dim: int = 2,
        learning_rate: float = 1e-2,
        fail_with: str | None = None,
        fail_at_step: int = 3,
        width: int = 6,
    ) -> None:
        super().__init__(latent_dim, learning_rate)
        self.save_hyperparameters()
        del self.decoder
        self.decoder = None

    def configure_model(self):
        if self.decoder is None:
            self.decoder = nn.Linear(self.hparams["latent_dim"], self.hparams["width"])


class RefusesStrangers(TinyVAE):
    """Weights mean something else where the checkpoint says another alphabet."""

    def __init__(
        self,
        latent_dim: int = 2,
        learning_rate: float = 1e-2,
        fail_with: str | None = None,
        fail_at_step: int = 3,
        alphabet: str = "abc",
    ) -> None:
        super().__init__(latent_dim, learning_rate)
        self.save_hyperparameters()

    def on_save_checkpoint(self, checkpoint):
        checkpoint["alphabet"] = self.hparams["alphabet"]

    def on_load_checkpoint(self, checkpoint):
        if checkpoint["alphabet"] != self.hparams["alphabet"]:
            raise DataError(f"the checkpoint is of the alphabet {checkpoint['alphabet']}")


def target(kind):
    return f"model._target_=tests.run.test_weights.{kind.__name__}"


@pytest.mark.parametrize("given", [".", BEST, LAST])
@pytest.mark.slow
def test_a_new_training_begins_with_the_weights_and_nothing_else(train, trained, given):
    first = trained("trainer.max_epochs=2", "model.learning_rate=0.02").run_dir
    done = train(f"weights={first / given}", "model.learning_rate=1e-3", "lr_schedule=none", "seed=9", *WATCH)
    assert done.code == 0, done.err
    begun = Watch.seen
    wanted = weights_of(first / (BEST if given == "." else given))
    assert all(torch.equal(begun["weights"][name], wanted[name]) for name in wanted)
    assert begun["step"] == 0
    assert begun["rates"] == [1e-3]
    assert not any(begun["moments"])
    assert done.run_dir != first
    history = [json.loads(line) for line in (done.run_dir / "history.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in history] == [0, 1, 2]


@pytest.mark.slow
def test_the_run_says_which_weights_they_were(train, trained):
    first = trained("trainer.max_epochs=2").run_dir
    relative = first.relative_to(Path.cwd())
    done = train(f"weights={relative}", "trainer.max_epochs=1")
    best = first / BEST
    said = done.summary["weights"]
    assert said["checkpoint"] == str(best)
    assert said["sha256"] == hashlib.sha256(best.read_bytes()).hexdigest()
    assert said["step"] == torch.load(best, weights_only=True)["global_step"] > 0
    assert json.loads((done.run_dir / "weights.json").read_text()) == said
    assert yaml.safe_load((done.run_dir / "config.yaml").read_text())["weights"] == str(best)
    assert f"Began with the weights of {relative / BEST}" in done.out
    assert trained("trainer.max_epochs=1").summary["weights"] is None


@pytest.mark.slow
def test_a_run_without_a_best_checkpoint_gives_its_last(train, trained):
    first = trained("trainer.max_epochs=1").run_dir
    (first / BEST).unlink()
    done = train(f"weights={first}", *STILL)
    assert done.summary["weights"]["checkpoint"] == str(first / LAST)
    assert_near(weights_of(done.run_dir / LAST), weights_of(first / LAST))


@pytest.mark.slow
def test_what_is_not_there_is_told_before_anything_is_made(train, door):
    for argv in ([], ["trainer.fast_dev_run=true"]):
        done = train("weights=nowhere", *argv)
        assert done.code == 2
        assert "weights=nowhere: there is no such run directory" in done.err
        assert "Traceback" not in done.err
    assert not Path("runs").exists()
    assert door(check, *tiny("weights=nowhere")).code == 2


def test_a_damaged_checkpoint_is_named_and_leaves_no_directory(train, trained):
    first = trained("trainer.max_epochs=1").run_dir
    (first / BEST).write_bytes((first / BEST).read_bytes()[:-500])
    done = train(f"weights={first}")
    assert done.code == 2
    assert "best.ckpt is damaged" in done.err
    assert "Whole beside it" in done.err
    assert done.runs == [first]


@pytest.mark.slow
def test_another_latent_size_is_told_with_both_shapes_and_the_way_out(train, trained):
    first = trained("trainer.max_epochs=1").run_dir
    done = train(f"weights={first}", "model.latent_dim=5")
    assert done.code == 2
    assert "encoder.weight is (4, 6) in the checkpoint and (10, 6) in the model" in done.err
    assert "latent_dim is 2 in the checkpoint and 5 in the model" in done.err
    assert "begin without weights=" in done.err
    assert done.runs == [first]


@pytest.mark.slow
def test_a_module_may_refuse_the_checkpoint(train):
    of = (target(RefusesStrangers),)
    first = train(*of, "trainer.max_epochs=1", "+model.alphabet=abc")
    assert first.code == 0, first.err
    assert train(*of, "+model.alphabet=abc", f"weights={first.run_dir}", *STILL).code == 0
    done = train(*of, "+model.alphabet=xyz", f"weights={first.run_dir}", *STILL)
    assert done.code == 2
    assert "the checkpoint is of the alphabet abc" in done.err


def test_weights_and_resume_are_refused_together(train, trained):
    first = trained("trainer.max_epochs=1").run_dir
    done = train(f"resume={first}", f"weights={first}", "trainer.max_epochs=2")
    assert done.code == 2
    assert "Leave one of the two out" in done.err


@pytest.mark.slow
def test_a_fine_tuned_run_is_resumed_without_the_weights_it_began_with(train, trained):
    first = trained("trainer.max_epochs=1").run_dir
    tuned = train(f"weights={first.relative_to(Path.cwd())}", "trainer.max_epochs=1")
    before = tuned.summary["weights"]
    last = weights_of(tuned.run_dir / LAST)
    for path in (first / "checkpoints").iterdir():
        path.unlink()
    done = train(f"resume={tuned.run_dir}", "trainer.max_epochs=2", "model.learning_rate=1e-12")
    assert done.code == 0, done.err
    assert done.summary["weights"] == before, "the checkpoint is gone, and what it was is still known"
    config = yaml.safe_load((tuned.run_dir / "config.yaml").read_text())
    assert config["weights"] == before["checkpoint"]
    assert last.keys() == weights_of(tuned.run_dir / LAST).keys()


@pytest.mark.slow
def test_a_sweep_may_choose_among_weights(train, trained):
    one, two = trained("trainer.max_epochs=1").run_dir, trained("trainer.max_epochs=2").run_dir
    done = train("-m", f"weights={one},{two}", *STILL)
    assert done.code == 0, done.err
    began = {
        json.loads(path.read_text())["checkpoint"]: path.parent
        for path in Path("runs").glob("tiny/*/[01]/weights.json")
    }
    assert set(began) == {str(one / BEST), str(two / BEST)}
    for checkpoint, run in began.items():
        assert_near(weights_of(run / LAST), weights_of(checkpoint))


@pytest.mark.slow
def test_the_average_is_what_a_training_with_averaging_hands_on(train):
    with_average = ("callbacks=[default,ema]", "callbacks.ema.decay=0.9")
    first = train(*with_average, "trainer.max_epochs=2").run_dir
    checkpoint = torch.load(first / LAST, weights_only=True)
    done = train(*with_average, f"weights={first / LAST}", *STILL, *WATCH)
    assert done.code == 0, done.err
    weight = "encoder.weight"
    assert not torch.equal(checkpoint["state_dict"][weight], checkpoint["current_model_state"][weight])
    assert torch.equal(Watch.seen["weights"][weight], checkpoint["state_dict"][weight])


@pytest.mark.slow
def test_parameters_that_setup_makes_anew_are_still_the_checkpoints(train, trained):
    first = trained("trainer.max_epochs=1").run_dir
    done = train(target(BuildsInSetup), f"weights={first}", *WATCH)
    assert done.code == 0, done.err
    wanted = weights_of(first / BEST)
    for name in ("encoder.weight", "decoder.weight", "decoder.bias"):
        assert torch.equal(Watch.seen["weights"][name], wanted[name]), name
    assert Watch.seen["weights"]["kl_weight"] == 0.25, "a buffer that setup takes from the data is left"


@pytest.mark.slow
def test_a_module_that_makes_parameters_late_gets_them_and_is_held_to_the_names(train, trained):
    first = trained("trainer.max_epochs=1").run_dir
    late = (target(MakesItsDecoderLater),)
    done = train(*late, f"weights={first}", *WATCH)
    assert done.code == 0, done.err
    assert torch.equal(Watch.seen["weights"]["decoder.weight"], weights_of(first / BEST)["decoder.weight"])
    done = train(*late, "+model.width=7", f"weights={first}")
    assert done.code == 2, done.out + done.err
    assert "decoder.weight is (6, 2) in the checkpoint and (7, 2) in the model" in done.err


@pytest.mark.slow
def test_a_name_that_only_the_checkpoint_has_is_told_before_the_first_step(train, trained):
    first = trained("trainer.max_epochs=1").run_dir
    checkpoint = torch.load(first / BEST, weights_only=True)
    checkpoint["state_dict"]["gone.weight"] = torch.zeros(2)
    torch.save(checkpoint, "other.ckpt")
    for argv in ([], [target(BuildsInSetup)]):
        done = train("weights=other.ckpt", *argv)
        assert done.code == 2, done.err
        assert "gone.weight is only in the checkpoint" in done.err
