from __future__ import annotations

from collections import OrderedDict

import lightning.pytorch as pl
import pytest
import torch

from stablelit.callbacks._snapshots import SnapshotRing, restore
from tests.contract.modules import make_module, make_trainer, train_loader


class Around(pl.Callback):
    """Takes a snapshot at one step and restores it at another."""

    keeps_books = True

    def __init__(self, take, back):
        self.steps, self.ring, self.seen = (take, back), SnapshotRing(2), []

    def on_train_batch_end(self, trainer, pl_module, *args):
        if trainer.global_step == self.steps[0]:
            self.ring.take(trainer, 0)
            self.seen.append(self.look(trainer, pl_module))
        if trainer.global_step == self.steps[1]:
            self.seen.append(self.look(trainer, pl_module))
            restore(trainer, self.ring.snapshots[0])
            self.seen.append(self.look(trainer, pl_module))

    def look(self, trainer, pl_module):
        state = {k: v.clone() for k, v in pl_module.state_dict().items()}
        for key, values in trainer.optimizers[0].state_dict()["state"].items():
            state |= {f"{key}.{name}": value.clone() for name, value in values.items()}
        return state


def run(tmp_path, around, **kwargs):
    trainer = make_trainer(tmp_path, [around], max_epochs=2, **kwargs)
    module = make_module()
    trainer.fit(module, train_loader())
    return trainer, module


@pytest.mark.filterwarnings("ignore")
def test_state_comes_back_as_it_was_and_the_snapshot_stays_as_it_is(tmp_path):
    around = Around(3, 8)
    trainer, _ = run(tmp_path, around)
    taken, before, after = around.seen
    assert not torch.equal(taken["encoder.weight"], before["encoder.weight"])
    assert all(torch.equal(taken[key], after[key]) for key in taken)
    # four steps have gone on from it, on its own copy
    kept = around.ring.snapshots[0].checkpoint["state_dict"]
    assert torch.equal(kept["encoder.weight"], taken["encoder.weight"])
    moments = around.ring.snapshots[0].checkpoint["optimizer_states"][0]["state"][0]["exp_avg"]
    assert torch.equal(moments, taken["0.exp_avg"])
    assert trainer.global_step == 12


@pytest.mark.filterwarnings("ignore")
def test_size_is_that_of_weights_and_moments(tmp_path):
    around = Around(3, -1)
    _, module = run(tmp_path, around)
    weights = sum(p.numel() * 4 for p in module.parameters())
    steps = 4 * len(list(module.parameters()))
    assert around.ring.snapshots[0].nbytes == 3 * weights + steps


def fake(step, confirmed, structure=((1,),)):
    from stablelit.callbacks._snapshots import Snapshot

    return Snapshot(step, 0, {}, [list(s) for s in structure], confirmed)


def test_newest_that_is_confirmed_is_chosen_and_an_older_one_the_next_time():
    weight = torch.zeros(1, requires_grad=True)
    trainer = type("T", (), {"optimizers": [torch.optim.SGD([weight], 0.1)]})()
    ring = SnapshotRing(3)
    assert ring.choose(trainer) is None
    ring.snapshots = [fake(0, True), fake(10, True), fake(20, False)]
    assert ring.choose(trainer).step == 10
    ring.used(ring.choose(trainer))
    assert ring.choose(trainer).step == 0
    ring.used(ring.choose(trainer))
    assert ring.choose(trainer).step == 0, "the last one is kept"
    ring.snapshots = [fake(0, False), fake(10, False)]
    assert ring.choose(trainer).step == 0
    ring.snapshots = [fake(0, True, ((1, 1),))]
    assert ring.choose(trainer) is None


def test_copies_keep_kinds_and_shared_tensors():
    from stablelit.callbacks._snapshots import _copied, _on_host

    tied = torch.arange(3.0)
    tree = OrderedDict(a=tied, b=[tied, (1, "x")], c={"d": tied[:2]})
    tree._metadata = {"version": 1}
    for function in (_on_host, _copied):
        made = function(tree, {})
        assert type(made) is OrderedDict
        assert made._metadata == {"version": 1}
        assert made["a"] is made["b"][0]
        assert made["b"][1] == (1, "x")
        assert made["a"].data_ptr() != tied.data_ptr()
        assert made["c"]["d"].tolist() == [0.0, 1.0]
