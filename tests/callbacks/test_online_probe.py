from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from stablelit.callbacks import OnlineLinearProbe
from stablelit.callbacks._probe_head import ProbeHead
from stablelit.errors import ConfigurationError, ContractError
from tests.callbacks.labelled_clusters import D, Features, clusters, loader
from tests.contract.modules import make_trainer

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def fit(directory, callback, train, val, module=None, **kwargs):
    trainer = make_trainer(directory, [callback], **{"max_epochs": 3, **kwargs})
    trainer.fit(Features() if module is None else module, loader(train), loader(val))
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def test_it_learns_to_tell_classes_apart(tmp_path):
    found = fit(tmp_path, OnlineLinearProbe(n_classes=4), clusters([0, 1, 2, 3]), clusters([0, 1, 2, 3], seed=1))
    assert found["train/linear_top1"] > 0.9
    assert found["val/linear_top1"] > 0.9
    assert found["train/linear_chance"] == found["val/linear_chance"] == 0.25


def test_labels_that_say_nothing_leave_it_at_chance(tmp_path):
    train, val = clusters([0, 1], each=100), clusters([0, 1], each=100, seed=1)
    shuffled = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    found = fit(tmp_path, OnlineLinearProbe(n_classes=2), (train[0], train[1][shuffled]), val, max_epochs=1)
    # the standard error of a share of a half in 200
    assert found["train/linear_top1"] == pytest.approx(0.5, abs=3 * 0.5 / 200**0.5)


def test_a_step_is_one_of_adam_on_standardised_rows():
    h, label = clusters([0, 1, 2])
    head = ProbeHead(D, 3, 0.05, torch.device("cpu"))
    weight, bias = torch.zeros(3, D, requires_grad=True), torch.zeros(3, requires_grad=True)
    adam = torch.optim.Adam([weight, bias], lr=0.05)
    hits = 0
    for part, target in zip(h.split(9), label.split(9), strict=True):
        z = (part - part.mean(0)) / (part.var(0, correction=0) + 1e-5).sqrt()
        logits = z @ weight.T + bias
        hits += int((logits.argmax(1) == target).sum())
        adam.zero_grad()
        cross_entropy(logits, target).backward()
        adam.step()
        head.train_on(part, target)
    torch.testing.assert_close(head.weight, weight, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(head.bias, bias, rtol=1e-4, atol=1e-6)
    assert (int(head.hits), int(head.known), head.seen.tolist()) == (hits, 36, [12, 12, 12])


def test_unknown_rows_teach_nothing():
    h, label = clusters([0, 1, 2], each=6)
    with_some, without = (ProbeHead(D, 3, 0.05, torch.device("cpu")) for _ in range(2))
    for step in range(4):
        known = label > step % 2  # of 18 rows 12, and then 6
        with_some.train_on(h, torch.where(known, label, -1))
        # standardised by all rows, as above
        logits = without._logits(h, training=True)[known]
        without.optimizer.zero_grad()
        cross_entropy(logits, label[known]).backward()
        without.optimizer.step()
    torch.testing.assert_close(with_some.weight, without.weight, rtol=1e-4, atol=1e-6)
    assert with_some.seen.tolist() == [0, 12, 24]
    nobody = ProbeHead(D, 3, 0.05, torch.device("cpu"))
    nobody.train_on(h, torch.full_like(label, -1))
    assert nobody.weight.abs().max() == 0


def test_the_module_does_not_feel_it(tmp_path):
    train, val = clusters([0, 1]), clusters([0, 1], seed=1)
    weights = []
    for callbacks in ([], [OnlineLinearProbe(n_classes=2)]):
        torch.manual_seed(0)
        module = Features()
        trainer = make_trainer(tmp_path, callbacks, max_epochs=2)
        trainer.fit(module, loader(train, shuffle=True), loader(val))
        weights.append((module.weight.detach().clone(), torch.rand(1)))
        assert list(module.state_dict()) == ["weight"]
    assert torch.equal(weights[0][0], weights[1][0])
    assert torch.equal(weights[0][1], weights[1][1]), "it draws no number"


def test_classes_that_nobody_trained_on_switch_it_off(tmp_path, monkeypatch):
    callback = OnlineLinearProbe(n_classes=20)
    told: list[str] = []
    monkeypatch.setattr("stablelit.callbacks.online_probe.rank_zero_info", told.append)
    found = fit(tmp_path, callback, clusters([0, 1]), clusters([10, 11], seed=1))
    assert told == [
        "OnlineLinearProbe[]: no class of the validation is trained on, so that there is nothing to predict: it is off."
    ]
    assert not [name for name in found if "linear" in name]
    assert callback.state_dict() == {"head": None, "is_off": True}


@pytest.mark.parametrize("where", ["module", "datamodule", "classes"])
def test_the_number_of_classes_is_found(where, tmp_path):
    import lightning.pytorch as pl

    class Data(pl.LightningDataModule):
        def train_dataloader(self):
            return loader(clusters([0, 1, 2]))

        def val_dataloader(self):
            return loader(clusters([0, 1, 2], seed=1))

    module, data, callback = Features(), Data(), OnlineLinearProbe()
    if where == "module":
        module.n_classes = 3
    elif where == "datamodule":
        data.n_classes = 3
    else:
        data.classes = ["a", "b", "c"]
    make_trainer(tmp_path, [callback], max_epochs=1).fit(module, data)
    assert callback._head.shape == (3, D)


def test_nobody_who_knows_the_number_is_an_error(tmp_path):
    with pytest.raises(ContractError, match="neither Features nor its datamodule says how many classes"):
        fit(tmp_path, OnlineLinearProbe(), clusters([0, 1]), clusters([0, 1]))


def test_a_label_beyond_the_classes_is_an_error(tmp_path):
    with pytest.raises(ContractError, match="12 labels of training are 2 or more, beyond n_classes=2"):
        fit(tmp_path, OnlineLinearProbe(n_classes=2), clusters([0, 1, 5]), clusters([0, 1]))


@pytest.mark.slow
def test_ranks_judge_by_the_mean_of_their_heads(tmp_path):
    class Compare(OnlineLinearProbe):
        def on_validation_epoch_start(self, trainer, pl_module):
            super().on_validation_epoch_start(trainer, pl_module)
            if self._head is not None:
                both = [torch.zeros_like(self._head.weight.data) for _ in range(2)]
                torch.distributed.all_gather(both, self._head.weight.data)
                assert torch.equal(*both)
                assert both[0].abs().max() > 0

    train, val = clusters([0, 1, 2, 3]), clusters([0, 1, 2, 3], seed=1)
    found = fit(tmp_path, Compare(n_classes=4), train, val, devices=2, strategy="ddp_fork")
    assert found["val/linear_top1"] > 0.9
    assert found["train/linear_chance"] == 0.25


def test_a_head_of_another_shape_begins_anew():
    head = ProbeHead(D, 3, 0.1, torch.device("cpu"))
    callback, other = OnlineLinearProbe(n_classes=4), ProbeHead(D, 4, 0.1, torch.device("cpu"))
    callback._restore(other, head.plain())
    assert other.shape == (4, D)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"n_classes": 1}, "n_classes=1 is not allowed"),
        ({"lr": 0}, "lr=0 is not allowed"),
        ({"labels": None}, "labels=None is not allowed"),
    ],
)
def test_what_cannot_be_is_refused(kwargs, message):
    with pytest.raises(ConfigurationError, match=message):
        OnlineLinearProbe(**kwargs)
