from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from stablelit.callbacks import RandomStateCheckpoint
from stablelit.callbacks.random_state import random_state, restore_random_state
from tests.contract.modules import make_module, make_trainer, train_loader


def draws():
    return (torch.randn(3).tolist(), random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn())  # noqa: NPY002


def test_what_is_drawn_after_a_restore_is_what_was_drawn_after_the_save(tmp_path):
    random.gauss(0, 1)  # leaves a second value waiting inside Python's state
    state = random_state()
    torch.save(state, tmp_path / "state")
    expected = draws()
    draws()
    restore_random_state(torch.load(tmp_path / "state", weights_only=True))
    assert draws() == expected


@pytest.mark.slow
def test_without_it_a_resumed_run_draws_other_noise(tmp_path):
    """The contract suite shows equality with the callback; this shows that the test there can fail."""
    results = []
    for callbacks in ([RandomStateCheckpoint()], []):
        torch.manual_seed(0)
        trainer = make_trainer(tmp_path, callbacks, max_epochs=1)
        trainer.fit(make_module(), train_loader())
        trainer.save_checkpoint(tmp_path / "a.ckpt")
        torch.manual_seed(77)
        module = make_module()
        fresh = [type(c)() for c in callbacks]
        torch.manual_seed(77)
        make_trainer(tmp_path, fresh, max_epochs=2).fit(module, train_loader(), ckpt_path=str(tmp_path / "a.ckpt"))
        results.append(module.encoder.weight.detach().clone())
    assert not torch.equal(*results)


def test_another_number_of_ranks_is_said(tmp_path):
    trainer = make_trainer(tmp_path, [RandomStateCheckpoint()], max_epochs=1)
    trainer.fit(make_module(), train_loader())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    checkpoint = torch.load(tmp_path / "a.ckpt", weights_only=True)
    checkpoint["stablelit_random_state"] *= 2
    torch.save(checkpoint, tmp_path / "b.ckpt")
    with pytest.warns(UserWarning, match="random states of 2 ranks and this run has 1"):
        make_trainer(tmp_path, [RandomStateCheckpoint()], max_epochs=2).fit(
            make_module(), train_loader(), ckpt_path=str(tmp_path / "b.ckpt")
        )
