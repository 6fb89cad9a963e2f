from __future__ import annotations

import os
import random
import signal
from types import SimpleNamespace

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch import nn

from stablelit.callbacks import EMACallback, InterruptCheckpoint, NonFiniteGuard, SampleWriter
from stablelit.callbacks.history_writer import HistoryWriter, read_history
from stablelit.callbacks.random_state import random_state, restore_random_state
from stablelit.errors import ConfigurationError, ContractError
from stablelit.findings import FindingWarning, read_findings
from tests.contract.modules import (
    BATCHES,
    NAMES,
    make_module,
    make_trainer,
    module_classes,
    save_at_class,
    train_loader,
    val_loader,
)


class Generator(module_classes(NAMES[0])["automatic"]):
    """Writes down how it was asked, and draws from every global random state there is."""

    def __init__(self, refuses_from=None):
        super().__init__()
        self.dropout, self.frozen = nn.Dropout(0.5), nn.BatchNorm1d(3)
        self.asked, self.refuses_from = [], refuses_from

    def training_step(self, batch, batch_idx):
        return super().training_step([self.dropout(batch[0])], batch_idx)

    def generate_to_file(self, path, n, seed=0, temperature=1.0, length=None):
        step = self.trainer.global_step
        if self.refuses_from is not None and step >= self.refuses_from:
            raise ConfigurationError("the noise leaves more than 1 % unmasked")
        modes = {part.training for part in self.modules()}
        self.asked.append((step, n, seed, temperature, modes, torch.is_grad_enabled()))
        torch.manual_seed(seed)
        random.random()
        np.random.rand()  # noqa: NPY002 - the global state is the subject
        drawn = self.decoder(self.frozen(temperature * torch.randn(n, 3)))
        torch.save(drawn, path)
        if length is not None:
            assert len(length) == n
        return {"n": n, "spread": float(drawn.std()), "ok": True, "format": "pt"}


def generator(seed=0, **kwargs):
    torch.manual_seed(seed)
    return Generator(**kwargs)


def fit(directory, callbacks, module=None, ckpt_path=None, **kwargs):
    module = generator() if module is None else module
    trainer = make_trainer(directory, callbacks, **kwargs)
    trainer.fit(module, train_loader(), val_loader(), ckpt_path=ckpt_path)
    return trainer, module


def next_draws():
    return float(torch.rand(1)), random.random(), np.random.rand()  # noqa: NPY002 - the global state is the subject


def written(directory):
    return {path.name for path in (directory / "samples").rglob("*") if path.is_file()}


def writer(*args, **kwargs):
    return SampleWriter(*args, **{"n": 5, "suffix": ".pt", **kwargs})


def test_samples_are_written_at_the_named_steps_and_at_no_other(tmp_path):
    _, module = fit(tmp_path, [writer([2, "7st", "0.5dur", "3ep"])])
    assert written(tmp_path) == {"step_2.pt", "step_7.pt", "step_9.pt", "step_18.pt"}
    assert [step for step, n, *_ in module.asked if n == 5] == [2, 7, 9, 18]
    assert [step for step, n, *_ in module.asked if n != 5] == [0], "the trial comes before the first step"


@pytest.mark.slow
def test_an_interval_stands_beside_named_steps_or_alone(tmp_path):
    fit(tmp_path / "a", [writer(every="5st")])
    assert written(tmp_path / "a") == {f"step_{n}.pt" for n in (5, 10, 15)}
    fit(tmp_path / "b", [writer([4, 12], every="1ep")])
    assert written(tmp_path / "b") == {f"step_{n}.pt" for n in (4, 6, 12, 18)}


@pytest.mark.slow
def test_a_step_inside_an_accumulated_one_waits_for_its_end(tmp_path):
    fit(tmp_path, [writer(["4ba", "1ep"])], accumulate_grad_batches=3, max_epochs=2)
    assert written(tmp_path) == {"step_2.pt"}, "batch 4 and the epoch's end fall into step 2"
    fit(tmp_path / "b", [writer(["1ba"])], accumulate_grad_batches=3, max_epochs=2)
    assert written(tmp_path / "b") == {"step_1.pt"}


def test_steps_are_counted_once_with_two_optimizers(tmp_path):
    trainer = make_trainer(tmp_path, [writer([3, "0.5dur"])], max_epochs=1)
    trainer.fit(make_module(kind="manual"), train_loader())
    assert trainer.global_step == 2 * BATCHES
    assert written(tmp_path) == {"step_3.pt"}


@pytest.mark.slow
def test_a_training_is_bit_for_bit_the_one_without_it(tmp_path):
    before = random_state()
    plain_trainer, plain = fit(tmp_path / "a", [])
    after = next_draws()
    restore_random_state(before)
    trainer, module = fit(tmp_path / "b", [writer(every=1)])
    assert next_draws() == after
    assert len(written(tmp_path / "b")) == 3 * BATCHES
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), module.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(plain.buffers(), module.buffers(), strict=True))
    others = [(s, {k: v for k, v in line.items() if "samples/" not in k}) for s, line in trainer.logger.lines]
    assert [line for line in others if line[1]] == plain_trainer.logger.lines


def test_it_is_asked_in_evaluation_mode_without_gradients_and_every_mode_comes_back(tmp_path):
    class Freeze(pl.Callback):
        def __init__(self):
            self.modes = []

        def on_train_batch_start(self, trainer, pl_module, *args):
            self.modes.append((pl_module.training, pl_module.dropout.training, pl_module.frozen.training))
            pl_module.frozen.eval()

    watch = Freeze()
    _, module = fit(tmp_path, [watch, writer(every=1)], max_epochs=1)
    assert {(*map(bool, modes), gradient) for *_, modes, gradient in module.asked} == {(False, False)}
    assert watch.modes[1:] == [(True, True, False)] * (BATCHES - 1), "what was frozen is not woken up"


def test_the_file_has_the_weights_of_its_step_and_the_seed_that_was_asked_for(tmp_path):
    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, *args):
            torch.save(pl_module.decoder.state_dict(), tmp_path / f"{trainer.global_step}.weights")

    callback = writer([4], seed=11, arguments={"temperature": 0.5})
    module = generator()
    module.frozen = nn.Identity()
    fit(tmp_path, [Watch(), callback], module, max_epochs=1)
    decoder = nn.Linear(3, 6)
    decoder.load_state_dict(torch.load(tmp_path / "4.weights"))
    z = 0.5 * torch.randn(5, 3, generator=torch.Generator().manual_seed(11))
    assert torch.allclose(torch.load(tmp_path / "samples" / "step_4.pt"), decoder(z), atol=1e-6)


@pytest.mark.slow
def test_it_draws_with_the_trained_weights_and_not_with_an_average(tmp_path):
    for name, more in (("a", []), ("b", [EMACallback(0.5)])):
        fit(tmp_path / name, [*more, writer([10])])
    a, b = (torch.load(tmp_path / name / "samples" / "step_10.pt") for name in "ab")
    assert torch.equal(a, b)


def test_numbers_that_are_floats_are_logged_at_their_step_and_in_the_history(tmp_path):
    trainer, _ = fit(tmp_path, [writer([2, 8]), HistoryWriter()], log_every_n_steps=50)
    lines = {step: line for step, line in trainer.logger.lines if "samples/spread" in line}
    assert {step + 1: set(line) for step, line in lines.items()} == {2: {"samples/spread"}, 8: {"samples/spread"}}
    for step, line in lines.items():
        drawn = torch.load(tmp_path / "samples" / f"step_{step + 1}.pt")
        assert line["samples/spread"] == pytest.approx(float(drawn.std()))
    assert read_history(tmp_path)[0]["samples/spread"] == pytest.approx(lines[1]["samples/spread"])


def test_nothing_is_logged_where_nothing_shall_be(tmp_path):
    trainer, _ = fit(tmp_path, [writer([2], log=False)])
    assert not any("samples/" in name for _, line in trainer.logger.lines for name in line)


def test_a_second_one_has_its_own_folder_and_its_own_names(tmp_path):
    trainer, _ = fit(tmp_path, [writer([2]), writer([2], name="cold", arguments={"temperature": 0.1})])
    assert (tmp_path / "samples" / "step_2.pt").is_file()
    assert (tmp_path / "samples" / "cold" / "step_2.pt").is_file()
    names = {name for _, line in trainer.logger.lines for name in line}
    assert {"samples/spread", "samples/cold/spread"} <= names


def test_a_directory_of_ones_own_is_made(tmp_path):
    fit(tmp_path / "run", [writer([2], directory=str(tmp_path / "else" / "where"))])
    assert written(tmp_path / "else" / "where") == {"step_2.pt"}


@pytest.mark.slow
@pytest.mark.parametrize("saved_at", [4, 8])
def test_a_resumed_run_writes_what_is_left_and_nothing_twice(tmp_path, saved_at):
    steps = [2, 4, "0.5dur", 10]
    checkpoint = tmp_path / "here.ckpt"
    whole, _ = fit(
        tmp_path / "a", [writer(steps), save_at_class(NAMES[0])(saved_at, checkpoint)], enable_checkpointing=True
    )
    resumed, module = fit(tmp_path / "b", [writer(steps)], generator(seed=4), str(checkpoint), max_epochs=5)
    assert written(tmp_path / "b") == {"step_9.pt", "step_10.pt"}, "a share of the first run stays where it was"
    assert whole.callback_metrics.keys() == resumed.callback_metrics.keys()


@pytest.mark.slow
def test_a_step_that_ctrl_c_fell_on_is_written_before_the_run_is_left_and_not_again(tmp_path):
    class Press(pl.Callback):
        def on_before_backward(self, trainer, *args):
            if trainer.global_step == 3:
                os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    stop = InterruptCheckpoint(str(tmp_path))
    try:
        with pytest.raises(SystemExit):
            fit(tmp_path, [stop, writer([4]), Press()])
    finally:
        signal.signal(signal.SIGINT, before)
    assert written(tmp_path) == {"step_4.pt"}
    (tmp_path / "samples" / "step_4.pt").unlink()
    fit(tmp_path, [writer([4])], generator(seed=4), stop.saved_to)
    assert not written(tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_a_rollback_writes_nothing_again(tmp_path):
    class Spoil(pl.Callback):
        def on_before_backward(self, trainer, pl_module, loss):
            if 8 <= trainer.fit_loop.epoch_loop.batch_progress.total.ready - 1 < 10:
                loss.data.fill_(float("nan"))

    guard = NonFiniteGuard("rollback", max_consecutive=1, every="3st", spike_threshold=None)
    trainer, module = fit(tmp_path, [guard, writer([4, 7, 12]), Spoil()])
    assert guard.state_dict()["rollbacks"] == 1
    assert [step for step, n, *_ in module.asked if n == 5] == [4, 7, 12]


def test_the_state_is_used_up_by_a_new_fit_with_the_same_callback(tmp_path):
    callback = writer(["0.5dur"])
    fit(tmp_path / "a", [callback])
    fit(tmp_path / "b", [callback], max_epochs=1)
    assert written(tmp_path / "b") == {"step_3.pt"}


def test_a_refusal_is_told_before_the_first_step(tmp_path):
    module = generator(refuses_from=0)
    with pytest.raises(ConfigurationError, match="1 % unmasked"):
        fit(tmp_path, [writer([2])], module)
    assert module.trainer.global_step == 0


def test_under_fast_dev_run_a_refusal_is_told_too(tmp_path):
    with pytest.raises(ConfigurationError, match="1 % unmasked"):
        fit(tmp_path, [writer([2])], generator(refuses_from=0), fast_dev_run=True)


def test_a_refusal_may_be_one_finding_and_the_training_goes_on(tmp_path):
    with pytest.warns(FindingWarning, match="Generator does not generate.*1 % unmasked"):
        trainer, module = fit(tmp_path, [writer([2, 5, 7], action="warn")], generator(refuses_from=0))
    assert trainer.global_step == 3 * BATCHES
    assert [finding.name for finding in read_findings(tmp_path)] == ["samples-refused"]
    assert not module.asked
    assert not (tmp_path / "samples").exists()


def test_a_refusal_in_the_middle_ends_the_run_or_is_one_finding(tmp_path):
    with pytest.raises(ConfigurationError, match="1 % unmasked"):
        fit(tmp_path / "a", [writer([2, 5, 7])], generator(refuses_from=5))
    with pytest.warns(FindingWarning, match="does not generate"):
        trainer, _ = fit(tmp_path / "b", [writer([2, 5, 7], action="warn")], generator(refuses_from=5))
    assert trainer.global_step == 3 * BATCHES
    assert written(tmp_path / "b") == {"step_2.pt"}
    assert len(read_findings(tmp_path / "b")) == 1


def test_the_trial_takes_as_many_as_an_argument_has_values(tmp_path):
    _, module = fit(tmp_path, [writer([2], arguments={"length": [4, 5, 6, 7, 8]})], max_epochs=1)
    assert [n for _, n, *_ in module.asked] == [5, 5]


def test_a_module_that_cannot_generate_is_refused_in_setup(tmp_path):
    with pytest.raises(ContractError, match=r"LoggingVAE has no generate_to_file\(path, n, seed\)"):
        make_trainer(tmp_path, [writer([2])]).fit(make_module(kind="logging"), train_loader())
    module = make_module()
    module.generate_to_file = None
    with pytest.raises(ContractError, match="TinyVAE has no generate_to_file"):
        make_trainer(tmp_path, [writer([2])]).fit(module, train_loader())


def test_an_argument_that_generation_does_not_take_is_told_with_the_nearest(tmp_path):
    with pytest.raises(ConfigurationError, match=r"arguments\['temperatur'\]=2.*Did you mean 'temperature'"):
        fit(tmp_path, [writer([2], arguments={"temperatur": 2})])


def test_a_result_that_is_no_mapping_is_told(tmp_path):
    module = make_module()
    module.generate_to_file = lambda path, n, seed=0: None
    with pytest.raises(ContractError, match="returned a NoneType"):
        make_trainer(tmp_path, [writer([2])]).fit(module, train_loader())


def test_a_strategy_that_shares_out_the_weights_is_refused():
    strategy = type("FSDPStrategy", (), {})()
    with pytest.raises(ConfigurationError, match="FSDPStrategy.*no rank has the whole model"):
        writer([2]).setup(SimpleNamespace(strategy=strategy), make_module(), "fit")


@pytest.mark.slow
def test_steps_that_the_run_does_not_come_to_are_one_finding(tmp_path):
    with pytest.warns(
        FindingWarning, match=r"no samples will be written at 40st \(the run is 18 optimizer steps long\)"
    ):
        fit(tmp_path, [writer([2, 40])])
    assert [finding.name for finding in read_findings(tmp_path)] == ["named-steps-beyond"]


@pytest.mark.slow
def test_steps_that_lie_behind_a_resumed_run_are_one_finding_and_not_made_up(tmp_path):
    checkpoint = tmp_path / "here.ckpt"
    fit(tmp_path / "a", [save_at_class(NAMES[0])(8, checkpoint)], enable_checkpointing=True)
    with pytest.warns(FindingWarning, match="no samples will be written at 5st: they lie behind"):
        fit(tmp_path / "b", [writer([5, 8, 11], every="6st")], generator(), str(checkpoint))
    assert written(tmp_path / "b") == {f"step_{n}.pt" for n in (8, 11, 12, 18)}


def test_a_share_of_a_run_without_an_end_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"steps='0.5dur' is not allowed.*no known length"):
        fit(tmp_path, [writer(["0.5dur"])], max_epochs=-1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "steps=None"),
        ({"steps": []}, r"steps=\[\]"),
        ({"steps": "10"}, "steps='10'"),
        ({"steps": 10}, "steps=10"),
        ({"steps": [0]}, r"steps\[0\]=0 .*above 0"),
        ({"steps": [5, "2 epochs"]}, r"steps\[1\]='2 epochs'.*Did you mean '2ep'"),
        ({"every": "0ep"}, "every='0ep'"),
        ({"steps": [5], "n": 0}, "n=0"),
        ({"steps": [5], "seed": -1}, "seed=-1"),
        ({"steps": [5], "suffix": "fasta"}, "suffix='fasta'"),
        ({"steps": [5], "suffix": "./a"}, "suffix='./a'"),
        ({"steps": [5], "log": 1}, "log=1"),
        ({"steps": [5], "arguments": ["length"]}, "arguments="),
        ({"steps": [5], "arguments": {"seed": 3}}, "names other than seed"),
        ({"steps": [5], "directory": ""}, "directory=''"),
        ({"steps": [5], "name": 3}, "name=3"),
        ({"steps": [5], "action": "stop"}, "action='stop'"),
    ],
)
def test_an_argument_out_of_range_is_refused_by_name(arguments, message):
    with pytest.raises(ConfigurationError, match=f"SampleWriter.*{message}"):
        SampleWriter(**arguments)
