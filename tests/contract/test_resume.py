"""Every callback in a run that is interrupted and goes on: what it learns, logs and keeps is what nobody interrupted.

By default in the middle of an epoch; slow are an epoch's ends and the second name of Lightning.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from stablelit.callbacks import EpochMeanCheckpoint, RandomStateCheckpoint
from tests.contract.modules import BATCHES, NAMES, fit, make_module, plain, save_at_class
from tests.contract.registry import SETTINGS

pytestmark = pytest.mark.filterwarnings("ignore")
# all tests of a callback follow each other, so that one process has their whole run
callback_by_callback = pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS, scope="module")
# the second name goes the same way through the same code
both_names = pytest.mark.parametrize("name", [NAMES[0], pytest.param(NAMES[1], marks=pytest.mark.slow)])
STEPS = {"mid-epoch": 8, "epoch-end": BATCHES, "before-epoch-end": 2 * BATCHES - 1}


def unmeasured(lines):
    """What was logged, without the timings: those begin anew in a resumed run."""
    # as text: an undefined value is NaN, which equals nothing
    kept = [(step, {k: repr(v) for k, v in line.items() if not k.startswith("perf/")}) for step, line in lines]
    return [line for line in kept if line[1]]


def with_what_makes_resuming_exact(tried):
    exact = (RandomStateCheckpoint, EpochMeanCheckpoint)
    return [tried, *(kind() for kind in exact if not isinstance(tried, kind))]


@dataclass(frozen=True)
class Whole:
    """What the run that nobody interrupted left behind."""

    checkpoints: Path
    parameters: dict
    kl_weight: torch.Tensor
    state: object
    lines: list
    steps: int
    borrowed: set


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Runs a setting to its end once, with a checkpoint at every step that the resumed runs begin at."""
    runs = {}

    def run(setting, name):
        if (setting, name) not in runs:
            folder = tmp_path_factory.mktemp("whole")
            savers = [save_at_class(name)(step, folder / f"{step}.ckpt") for step in STEPS.values()]
            callbacks = with_what_makes_resuming_exact(setting.make())
            trainer, module = fit(folder, [*callbacks, *savers], name)
            state = plain(callbacks[0].state_dict())
            runs[setting, name] = Whole(
                folder,
                module.state_dict(),
                module.kl_weight,
                state,
                trainer.logger.lines,
                trainer.global_step,
                {"log", "training_step"} & set(vars(module)),
            )
        return runs[setting, name]

    return run


@both_names
@callback_by_callback
def test_it_trains_under_both_names_of_lightning(setting, name, uninterrupted):
    whole = uninterrupted(setting, name)
    assert whole.steps == 3 * BATCHES
    assert all(torch.isfinite(tensor).all() for tensor in whole.parameters.values())
    assert not whole.borrowed, "the module's own methods are back in their places"


# where a run stopped is a matter of Lightning's loops, the same for all callbacks under both names: the middle
# of an epoch is tried always under the first
@pytest.mark.parametrize(
    ("name", "step"),
    [
        pytest.param(
            name,
            step,
            id=f"{name}-{where}",
            marks=[pytest.mark.slow] if name != NAMES[0] or where != "mid-epoch" else [],
        )
        for name in NAMES
        for where, step in STEPS.items()
    ],
)
@callback_by_callback
def test_a_resumed_run_equals_the_uninterrupted_one(setting, name, step, uninterrupted, tmp_path):
    whole = uninterrupted(setting, name)
    checkpoint = whole.checkpoints / f"{step}.ckpt"
    torch.load(checkpoint, weights_only=True)
    torch.manual_seed(1234)  # whatever the new process happens to have drawn
    callbacks = with_what_makes_resuming_exact(setting.make())
    resumed, again = fit(tmp_path, callbacks, name, ckpt_path=str(checkpoint), module=make_module(name, seed=99))
    for (key, a), (_, b) in zip(whole.parameters.items(), again.state_dict().items(), strict=True):
        assert torch.equal(a, b), key
    assert torch.equal(whole.kl_weight, again.kl_weight)
    assert whole.state == plain(callbacks[0].state_dict())
    after = unmeasured(line for line in whole.lines if line[0] >= step)
    assert after
    assert after == unmeasured(resumed.logger.lines)
