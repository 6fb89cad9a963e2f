"""What every callback owes its user, tried on every callback.

By default each is made, printed and pickled here, and in `test_resume.py` trained once under `lightning` and resumed
once in the middle of an epoch from a checkpoint that loads under weights_only: what has found most, at two fits a
callback. Slow is what goes through code that those two go through as well: the second name of Lightning, resumes at an
epoch's ends, `fast_dev_run`, the sanity check, validation alone, exceptions, two of a kind, ranks; and what a
callback's own tests try where it matters to it. Precisions, manual optimisation and other ways of training are the
matrix of `test_matrix.py`.
"""

from __future__ import annotations

import ast
import copy
import inspect
import pickle
from pathlib import Path

import pytest
import torch

import stablelit.callbacks as suite
from stablelit.callbacks import EpochMeanCheckpoint, RandomStateCheckpoint
from stablelit.errors import ConfigurationError
from tests.contract.modules import (
    BATCHES,
    NAMES,
    fit,
    framework,
    make_module,
    make_trainer,
    plain,
    save_at_class,
    val_loader,
)
from tests.contract.registry import SETTINGS

pytestmark = pytest.mark.filterwarnings("ignore")
every_callback = pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)


def test_every_callback_of_the_suite_is_registered():
    built = {type(setting.make()).__name__ for setting in SETTINGS.values()}
    offered = {n for n in suite.__all__ if isinstance(getattr(suite, n), type)}
    # the doctor stands above the suite, and owes its user the same
    assert offered | {"TrainingDoctor"} == built


@every_callback
def test_it_has_a_short_stable_repr(setting):
    assert repr(setting.make()) == repr(setting.make())
    assert repr(setting.make()).startswith(type(setting.make()).__name__ + "(")
    assert "0x" not in repr(setting.make())


@every_callback
def test_it_pickles_and_copies(setting):
    callback = setting.make()
    assert repr(pickle.loads(pickle.dumps(callback))) == repr(callback)
    assert repr(copy.deepcopy(callback)) == repr(callback)


@every_callback
def test_its_module_says_when_it_runs_and_what_it_touches(setting):
    source = Path(inspect.getfile(type(setting.make())))
    docstring = ast.get_docstring(ast.parse(source.read_text()))
    for word in ("Runs", "Reads", "Writes", "Logs", "Resumes", "Limits"):
        assert f"\n{word}" in docstring


@pytest.mark.slow
@every_callback
def test_fast_dev_run_leaves_nothing_behind(setting, tmp_path):
    fit(tmp_path / "run", [setting.make()], fast_dev_run=True)
    assert not list(tmp_path.rglob("*"))


@pytest.mark.slow
@every_callback
def test_the_sanity_check_changes_no_state(setting, tmp_path):
    callback = setting.make()
    seen = []

    class Watch(framework(NAMES[0]).Callback):
        def on_sanity_check_start(self, trainer, pl_module):
            seen.append(plain(callback.state_dict()))

        def on_sanity_check_end(self, trainer, pl_module):
            seen.append(plain(callback.state_dict()))
            seen.append(trainer.logger.lines[:])

    fit(tmp_path, [callback, Watch()], num_sanity_val_steps=2, max_epochs=1)
    assert seen[0] == seen[1]
    assert seen[2] == []


@pytest.mark.slow
@every_callback
@pytest.mark.parametrize(
    "kwargs",
    [{"accumulate_grad_batches": 4}, {"gradient_clip_val": 0.5}, {"max_steps": 7}],
    ids=["accumulation", "clipping", "max_steps"],
)
def test_it_works_with_the_trainers_switches(setting, kwargs, tmp_path):
    if setting.refuses in kwargs:
        with pytest.raises(ConfigurationError, match=setting.refuses):
            fit(tmp_path, [setting.make()], max_epochs=2, **kwargs)
        return
    trainer, module = fit(tmp_path, [setting.make()], max_epochs=2, **kwargs)
    # the last short window of an epoch steps as well
    a_step = kwargs.get("accumulate_grad_batches", 1)
    assert trainer.global_step == kwargs.get("max_steps", 2 * -(-BATCHES // a_step))
    assert all(torch.isfinite(p).all() for p in module.parameters())


@pytest.mark.slow
@every_callback
def test_validate_and_test_alone_work(setting, tmp_path):
    module = make_module()
    trainer = make_trainer(tmp_path, [setting.make()])
    trainer.validate(module, val_loader(), verbose=False)
    trainer.test(module, val_loader(), verbose=False)
    assert "test/weight" in trainer.callback_metrics


@pytest.mark.slow
@every_callback
def test_an_exception_comes_through_and_leaves_the_module_as_it_was(setting, tmp_path):
    class Break(framework(NAMES[0]).Callback):
        def on_train_batch_end(self, trainer, *args):
            if trainer.global_step == 4:
                raise RuntimeError("broken on purpose")

    module = make_module()
    with pytest.raises(RuntimeError, match="broken on purpose"):
        fit(tmp_path, [setting.make(), Break()], module=module)
    assert "log" not in vars(module)


@every_callback
def test_its_state_survives_a_change_of_settings_that_is_not_its_identity(setting, tmp_path):
    callback = setting.make()
    assert callback.state_key == setting.make().state_key


@pytest.mark.slow
@pytest.mark.parametrize("key", [k for k, s in SETTINGS.items() if s.second])
def test_two_of_a_kind_live_in_one_trainer_and_both_come_back(key, tmp_path):
    setting = SETTINGS[key]
    checkpoint = tmp_path / "two.ckpt"
    pair = [setting.make(), setting.second()]
    assert pair[0].state_key != pair[1].state_key
    exact = (RandomStateCheckpoint, EpochMeanCheckpoint)
    others = [[kind() for kind in exact if not isinstance(pair[0], kind)] for _ in range(2)]
    trainer, _ = fit(tmp_path / "a", [*pair, *others[0], save_at_class(NAMES[0])(8, checkpoint)])
    names = [name for _, line in trainer.logger.lines for name in line]
    assert names
    again = [setting.make(), setting.second()]
    fit(tmp_path / "b", [*again, *others[1]], ckpt_path=str(checkpoint))
    assert [plain(c.state_dict()) for c in pair] == [plain(c.state_dict()) for c in again]


@pytest.mark.slow
@every_callback
def test_two_ranks_agree(setting, tmp_path):
    class Check(framework(NAMES[0]).Callback):
        """Runs inside the ranks; what it finds wrong fails the fit."""

        def on_train_end(self, trainer, pl_module):
            mine = torch.cat([p.detach().flatten() for p in pl_module.parameters()] + [pl_module.kl_weight[None]])
            both = [torch.zeros_like(mine) for _ in range(2)]
            torch.distributed.all_gather(both, mine)
            assert torch.equal(*both), "the ranks have come apart"
            if trainer.is_global_zero:
                steps.write_text(str(trainer.global_step))

    steps = tmp_path / "steps"
    fit(tmp_path, [setting.make(), Check()], devices=2, strategy="ddp_fork", max_epochs=2)
    assert steps.read_text() == str(2 * BATCHES // 2)


@every_callback
def test_lightning_cli_builds_it_by_name(setting):
    # jsonargparse needs annotated, named arguments: no **kwargs, nothing bare
    kind = type(setting.make())
    signature = inspect.signature(kind.__init__ if "__init__" in vars(kind) else lambda self: None)
    for parameter in list(signature.parameters.values())[1:]:
        assert parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        assert parameter.annotation is not parameter.empty
