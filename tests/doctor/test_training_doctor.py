"""The doctor carries probes and rules through a training: when each is called, what is told, and how it ends."""

from __future__ import annotations

import copy
import itertools
import pickle
import warnings

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import DataLoader

from stablelit.doctor import Rank, TrainingDoctor, training_doctor
from stablelit.errors import ConfigurationError
from stablelit.findings import Finding, FindingError, FindingReporter, FindingWarning, read_findings
from tests.doctor.carrying import Little, Recorder, Rows, alone, curve, fit, make_trainer, probe_of, says

A_LOOK = ["batch_start", "forward", "before_backward", "after_backward", "before_step", "batch_end", "tell"]


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    alone(monkeypatch, Recorder)


def told(run):
    """What is warned of in this call."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        run()
    return [str(one.message).split()[1][:-1] for one in said if one.category is FindingWarning]


def train(doctor, module=None, batches=6, **kwargs):
    trainer = make_trainer([doctor] if isinstance(doctor, TrainingDoctor) else doctor, **kwargs)
    return lambda: trainer.fit(module or Little(), DataLoader(Rows(2 * batches), 2))


def names(findings):
    return [finding.name for finding in findings]


def test_a_look_goes_from_the_start_of_a_batch_to_its_end():
    doctor = TrainingDoctor(every_n_steps=100)
    fit(doctor, batches=3)
    calls = probe_of(doctor).calls
    assert calls[0] == ("begin", 0)
    for step in range(3):
        assert [call[0] for call in calls[1 + 7 * step : 8 + 7 * step]] == A_LOOK
    # it tells when the step is done
    assert probe_of(doctor).steps("tell") == [1, 2, 3]
    assert probe_of(doctor).steps("batch_start") == [0, 1, 2]


def test_between_looks_nothing_is_called_and_no_hook_stays():
    doctor = TrainingDoctor(every_n_steps=4)
    fit(doctor, batches=20)
    for name in A_LOOK[:-1]:
        assert probe_of(doctor).steps(name) == [0, 1, 2, 3, 4, 8, 12, 16]


def test_a_look_lasts_for_all_batches_of_an_accumulated_step():
    doctor = TrainingDoctor(every_n_steps=100)
    fit(doctor, batches=10, accumulate_grad_batches=4)
    probe = probe_of(doctor)
    assert probe.steps("batch_start") == probe.steps("batch_end") == [0] * 4 + [1] * 4 + [2] * 2
    assert probe.steps("before_step") == [0, 1, 2]
    assert probe.steps("tell") == [1, 2, 3]


def test_two_batches_of_each_validation_are_looked_at_also_of_the_sanity_check():
    doctor = TrainingDoctor(every_n_steps=100)
    validation = DataLoader(Rows(10), 2)
    fit(doctor, batches=3, validation=validation, num_sanity_val_steps=4, max_epochs=2)
    probe = probe_of(doctor)
    assert probe.steps("validation_batch_start") == probe.steps("validation_batch_end") == [0, 0, 3, 3, 6, 6]
    assert probe.calls[0][0] == "validation_batch_start"
    assert probe.calls.count(("tell", 3)) == 2
    assert not probe.handles


def test_two_validation_loaders_are_one_validation():
    class Two(Little):
        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            self.log("val_loss", 1.0 + dataloader_idx + self.current_epoch)

    doctor = TrainingDoctor()
    loader = DataLoader(Rows(4), 2)
    fit(doctor, Two(), batches=2, validation=[loader, loader], max_epochs=2)
    assert probe_of(doctor).steps("validation_batch_start") == [2, 2, 4, 4]
    assert curve(doctor, "val_loss") == [(2, 1.0), (4, 2.0)]


def test_structural_rules_speak_in_the_step_and_curves_after_two_judgements():
    exact, slow = says("exact", since=3), says("slow", "curve", since=3)
    doctor = TrainingDoctor(every_n_steps=10, rules=[exact, slow])
    fit(doctor, batches=40)
    found = {finding.name: finding.step for finding in doctor.findings}
    assert found == {"exact": 3, "slow": 21}
    assert slow.check.asked == [1, 11, 21]
    assert exact.check.asked == [0, 1, 2, 3]


def test_a_structural_rule_is_asked_before_the_first_batch():
    rule = says("settings", needs=("settings.optimizers",))
    doctor = TrainingDoctor(rules=[rule])
    assert told(train(doctor)) == ["settings"]
    assert rule.check.asked == [0]


def test_the_last_judgement_is_at_the_end():
    rule = says("late", "curve", since=11)
    doctor = TrainingDoctor(every_n_steps=10, rules=[rule])
    fit(doctor, batches=36)
    assert rule.check.asked == [1, 11, 21]
    late = TrainingDoctor(every_n_steps=10, rules=[says("later", "curve", since=21)])
    fit(late, batches=32)
    assert {finding.name: finding.step for finding in late.findings} == {"later": 31}
    assert late.evidence.ended


def test_what_is_told_is_the_primary_cause_and_no_consequence():
    rules = [
        says("effect", rank=Rank.PROPAGATION),
        says("cause", rank=Rank.SETTINGS, explains=("effect",)),
        says("note", severity="info"),
        *(says(f"other-{i}", rank=Rank.FIT) for i in range(4)),
    ]
    doctor = TrainingDoctor(rules=rules)
    assert told(train(doctor)) == ["cause", "other-0", "other-1"]
    assert names(doctor.findings) == ["cause", "other-0", "other-1"]
    assert names(doctor.notes) == ["note"]
    assert names(doctor.diagnosis.consequences) == ["effect", "other-2", "other-3"]


def test_a_cause_that_is_seen_later_comes_first_and_what_it_explains_goes():
    rules = [
        says("early", rank=Rank.FIT, since=1),
        says("cause", since=4, explains=("early", "more")),
        says("more", since=5),
    ]
    doctor = TrainingDoctor(every_n_steps=1, rules=rules)
    assert told(train(doctor)) == ["early", "cause"]
    assert names(doctor.findings) == ["cause"]


def test_each_is_told_once_and_has_the_numbers_of_its_step(tmp_path):
    doctor = TrainingDoctor(every_n_steps=1, rules=[says("exact", since=2)])
    assert told(train(doctor, default_root_dir=tmp_path, max_epochs=2)) == ["exact"]
    (written,) = read_findings(tmp_path)
    assert (written.step, written.source, written.evidence) == (2, "TrainingDoctor[]", {"step": 2})
    assert doctor.findings[0].step == 2


def test_observing_is_silent_until_the_end(tmp_path, caplog):
    doctor = TrainingDoctor(mode="observe", rules=[says("exact"), says("note", severity="info")])
    with caplog.at_level("INFO"):
        assert told(train(doctor, default_root_dir=tmp_path)) == []
    assert names(doctor.findings) == ["exact"]
    assert [finding.name for finding in read_findings(tmp_path)] == ["exact", "note"]


@pytest.mark.parametrize("mode", ["advise", "observe"])
def test_stop_ends_the_run_after_the_step(mode):
    doctor = TrainingDoctor(mode, action="stop", rules=[says("exact", since=2)])
    trainer = fit(doctor, batches=6)
    assert trainer.global_step == 2


def test_raise_raises_the_primary_cause_and_leaves_no_hook():
    rules = [says("second", rank=Rank.FIT, since=2), says("first", rank=Rank.DATA, since=2)]
    doctor = TrainingDoctor(action="raise", rules=rules)
    with pytest.raises(FindingError) as caught:
        fit(doctor)
    assert caught.value.finding.name == "first"
    assert not probe_of(doctor).handles


@pytest.mark.parametrize("action", ["stop", "raise"])
def test_a_note_ends_nothing(action):
    assert fit(TrainingDoctor(action=action, rules=[says("note", severity="info")])).global_step == 6


def test_what_another_callback_has_told_is_ranked_and_not_told_again():
    class Monitor(pl.Callback):
        def on_train_batch_end(self, trainer, *args):
            if trainer.global_step == 2:
                FindingReporter("Monitor").report(trainer, Finding("theirs", "warning", "it is so."))

    doctor = TrainingDoctor(every_n_steps=1, action="stop", rules=[says("theirs", rank=Rank.DATA, since=4)])
    run = train([doctor, Monitor()])
    assert told(run) == ["theirs"]
    assert [finding.source for finding in doctor.findings] == ["Monitor"]


def test_a_probe_that_raises_is_left_out_and_the_others_look_on(monkeypatch, caplog):
    def raising(name):
        def method(self, *args):
            if name == "batch_start":
                Recorder.batch_start(self, *args)
            raise RuntimeError("cannot see")

        return type(f"Broken_{name}", (Recorder,), {name: method})

    methods = [*A_LOOK, "begin", "validation_batch_start", "validation_batch_end", "state_dict"]
    kinds = [raising(name) for name in methods if name != "forward"]
    alone(monkeypatch, *kinds, Recorder)
    doctor = TrainingDoctor()
    module = Little()
    monkeypatch.setattr(training_doctor, "rank_zero_info", lambda text: None)
    trainer = fit(doctor, module, validation=DataLoader(Rows(4), 2), num_sanity_val_steps=2)
    trainer.save_checkpoint("a.ckpt")
    assert trainer.global_step == 6
    assert [type(probe) for probe in doctor._examination._probes._probes] == [Recorder]
    assert not module.layer._forward_hooks
    assert probe_of(doctor).steps("batch_end") == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("where", ["training_step", "backward", "validation_step", "on_train_epoch_end"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_in_a_look_leaves_the_module_as_it_was(where, error):
    module = Little()

    def broken(*args, **kwargs):
        raise error("broken on purpose")

    setattr(module, where, broken) if where != "training_step" else None
    if where == "training_step":
        module.layer.register_forward_hook(broken)
    before = {**vars(module.layer)}
    hooks = len(module.layer._forward_hooks)
    doctor = TrainingDoctor(rules=[says("exact")])
    with pytest.raises((error, SystemExit), match="broken on purpose" if error is ValueError else None):
        fit(doctor, module, batches=2, validation=DataLoader(Rows(4), 2))
    assert len(module.layer._forward_hooks) == hooks
    assert set(vars(module.layer)) == set(before)
    assert not probe_of(doctor).handles


def test_what_ended_the_run_is_judged_and_nothing_hides_it(monkeypatch):
    class Broken(Little):
        def training_step(self, batch, batch_idx):
            raise ValueError("broken on purpose")

    rule = says("why", rank=Rank.DATA)
    rule = type(rule)(rule.name, rule.rank, ("settings.optimizers",), rule.check)
    doctor = TrainingDoctor(action="raise", rules=[rule])
    # not found before training, so that it is found because of the exception
    rule.check.since = 1
    doctor.evidence.step = 1
    book = doctor._verdicts.book
    monkeypatch.setattr(book, "judge", _after(book.judge, 1))
    with pytest.raises(ValueError, match="broken on purpose"):
        fit(doctor, Broken())
    assert names(doctor.findings) == ["why"]


def _after(judge, times):
    count = itertools.count()
    return lambda *args: judge(*args) if next(count) >= times else []


def test_a_rule_that_raises_ends_no_training():
    def check(evidence):
        raise ZeroDivisionError("no points")

    rule = says("broken")
    doctor = TrainingDoctor(rules=[type(rule)("broken", Rank.DATA, (), check)])
    assert fit(doctor).global_step == 6
    assert doctor.diagnosis.unchecked["broken"] == ("an answer: ZeroDivisionError: no points",)


def test_a_batch_that_a_hook_skips_leaves_no_look_open():
    class Skips(Little):
        def on_train_batch_start(self, batch, batch_idx):
            return -1 if batch_idx == 2 else None

    module = Skips()
    doctor = TrainingDoctor()
    fit(doctor, module, batches=6, validation=DataLoader(Rows(4), 2), max_epochs=2)
    assert not module.layer._forward_hooks
    probe = probe_of(doctor)
    # of each look one forward: a hook that stayed of the skipped batch would write a second
    assert probe.steps("batch_end") == [0, 1, 2, 3]
    assert probe.steps("forward") == [0, 1, 2, 3]


def test_a_fit_after_a_fit_begins_anew():
    doctor = TrainingDoctor(every_n_steps=1, rules=[says("exact", since=2)])
    assert told(train(doctor)) == ["exact"]
    first = curve(doctor, "loss")
    assert told(train(doctor)) == ["exact"]
    assert curve(doctor, "loss") == first
    assert doctor.evidence.step == 6


def test_a_fit_that_goes_on_counts_on():
    doctor = TrainingDoctor()
    trainer = fit(doctor, batches=4)
    trainer.fit_loop.max_epochs = 2
    trainer.fit(Little(), DataLoader(Rows(8), 2))
    assert [step for step, _ in curve(doctor, "loss")] == [4, 5, 6, 7]


def test_validation_alone_and_after_a_fit_changes_nothing(tmp_path):
    doctor = TrainingDoctor(rules=[says("exact", since=100)])
    loader = DataLoader(Rows(4), 2)
    trainer = make_trainer([doctor])
    trainer.validate(Little(), loader, verbose=False)
    assert probe_of(doctor).calls == []
    assert doctor.evidence.curves == {}
    trainer.fit(Little(), loader, loader)
    before = copy.deepcopy(doctor.state_dict())
    for run in (trainer.validate, trainer.test):
        if run == trainer.validate:
            run(Little(), loader, verbose=False)
    assert str(before) == str(doctor.state_dict())


def test_two_by_name_tell_each_thing_once_and_keep_apart():
    pair = [TrainingDoctor(rules=[says("exact")], name="a"), TrainingDoctor(rules=[says("exact")], name="b")]
    assert told(train(pair)) == ["exact"]
    assert [doctor.state_key for doctor in pair] == ["TrainingDoctor[a]", "TrainingDoctor[b]"]
    assert [names(doctor.findings) for doctor in pair] == [["exact"], ["exact"]]


def test_fast_dev_run_leaves_nothing(tmp_path):
    train(TrainingDoctor(rules=[says("note", severity="info")]), fast_dev_run=True, default_root_dir=tmp_path / "run")()
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize(
    ("kwargs", "planned"),
    [
        ({"max_epochs": 2}, 12),
        ({"max_epochs": -1, "max_steps": 9}, 9),
        ({"max_epochs": -1, "max_time": {"seconds": 0}}, None),
        ({"max_epochs": 1, "limit_train_batches": 0.5}, 3),
    ],
    ids=["epochs", "steps", "time", "limited"],
)
def test_however_the_end_is_set(kwargs, planned):
    doctor = TrainingDoctor()
    fit(doctor, **kwargs)
    assert doctor.evidence.planned_steps == planned
    if planned is not None:
        assert doctor.evidence.step == planned


@pytest.mark.slow
@pytest.mark.parametrize("cut", [1, 4, 6, 10, 17, 24])
def test_it_resumes_exactly(cut, tmp_path):
    class Save(pl.callbacks.Checkpoint):
        def on_train_batch_end(self, trainer, *args):
            if trainer.global_step == cut and not trainer.is_last_batch:
                trainer.save_checkpoint(tmp_path / "a.ckpt")

        def on_train_epoch_end(self, trainer, *args):
            if trainer.global_step == cut:
                trainer.save_checkpoint(tmp_path / "a.ckpt")

    def run(*others, ckpt_path=None):
        rules = [says("slow", "curve", since=15), says("exact", since=9), says("note", severity="info")]
        doctor = TrainingDoctor(every_n_steps=3, rules=rules)
        loader = DataLoader(Rows(12), 2)
        fit(
            [doctor, *others], Little(), validation=loader, max_epochs=6, ckpt_path=ckpt_path, enable_checkpointing=True
        )
        return doctor

    whole = run(Save())
    torch.load(tmp_path / "a.ckpt", weights_only=True)
    resumed = run(ckpt_path=tmp_path / "a.ckpt")
    assert resumed.diagnosis == whole.diagnosis
    assert names(resumed.findings) == ["slow", "exact"]
    mine, theirs = resumed.state_dict(), whole.state_dict()
    # of a validation's loss only the weights before it know, which begin at random here
    for state in (mine["examination"], theirs["examination"]):
        kept = {name: state["curves"][name] for name in ("loss", "lr", "val_loss")}
        state["curves"] = {name: {k: v.tolist() for k, v in curve.items()} for name, curve in kept.items()}
    assert mine == theirs


def test_training_is_the_same_with_it_and_without():
    def weights(callbacks):
        torch.manual_seed(0)
        module = Little()
        fit(callbacks, module, batches=12, validation=DataLoader(Rows(8), 2), max_epochs=2)
        return module.layer.weight.detach().clone(), torch.get_rng_state()

    for with_it, without in zip(weights([TrainingDoctor(every_n_steps=1)]), weights([]), strict=True):
        assert torch.equal(with_it, without)


def test_it_pickles_and_copies_after_a_fit():
    doctor = TrainingDoctor(every_n_steps=1)
    fit(doctor, validation=DataLoader(Rows(4), 2))
    for again in (pickle.loads(pickle.dumps(doctor)), copy.deepcopy(doctor)):
        assert curve(again, "loss") == curve(doctor, "loss")


def test_arguments_are_checked():
    for wrong in (
        {"mode": "intervene"},
        {"mute": "overfitting"},
        {"mute": None},
        {"name": ""},
        {"action": "panic"},
        {"every_n_steps": 0},
        {"budget": 0.0},
        {"rules": [says("a"), says("a")]},
    ):
        with pytest.raises(ConfigurationError):
            TrainingDoctor(**wrong)
    with pytest.raises(ConfigurationError, match="Did you mean 'overfitting'"):
        TrainingDoctor(mute=["overfiting"], rules=[says("overfitting")])


def test_the_summary_says_what_was_not_checked():
    doctor = TrainingDoctor(rules=[says("fine", since=99), says("blind", needs=("curves.val_loss",))])
    fit(doctor)
    assert doctor.summary() == "[doctor] healthy after 6 steps: 1 rules found nothing, 1 could not be checked."
    ill = TrainingDoctor(rules=[says("exact"), says("other", rank=Rank.FIT)])
    fit(ill)
    first, second, last = ill.summary().splitlines()
    assert first.startswith("[doctor] [warning] exact: it is so. Try: learning_rate=1e-3")
    assert second.startswith("  also seen: [warning] other")
