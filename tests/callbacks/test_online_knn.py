from __future__ import annotations

import math

import pytest
import torch

from stablelit.callbacks import OnlineKNN
from stablelit.callbacks._feature_bank import FeatureBank
from stablelit.errors import ConfigurationError, ContractError
from stablelit.functional.nearest_neighbours import chance_of_vote, leave_one_out_top1, weighted_vote
from tests.callbacks.labelled_clusters import Features, clusters, loader
from tests.contract.modules import make_trainer

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def fit(directory, callback, train, val, module=None, **kwargs):
    trainer = make_trainer(directory, [callback], **{"max_epochs": 1, **kwargs})
    trainer.fit(Features() if module is None else module, loader(train), loader(val))
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def test_training_features_vote_for_those_of_the_validation(tmp_path):
    train, val = clusters([0, 1, 2, 3], spread=2.0), clusters([3, 0, 1, 2], each=7, seed=1, spread=2.0)
    frozen = Features()
    frozen.weight.requires_grad_(False)
    frozen.training_step = lambda batch, batch_idx: {
        "loss": torch.zeros((), requires_grad=True),
        **frozen.outputs(batch, 1),
    }
    frozen.configure_optimizers = lambda: None
    found = fit(tmp_path, OnlineKNN(k=3), train, val, frozen)
    voted = weighted_vote(val[0], *train, k=3)
    assert found["val/knn_top1"] == pytest.approx(float((voted == val[1]).double().mean()))
    assert found["val/knn_chance"] == pytest.approx(0.25)
    assert 0.3 < found["val/knn_top1"] < 1


def test_two_views_have_the_labels_of_their_samples(tmp_path):
    callback, order = OnlineKNN(bank_rows=96), torch.randperm(48, generator=torch.Generator().manual_seed(0))
    train = tuple(rows[order] for rows in clusters([0, 1, 2, 3], spread=0.1))
    fit(tmp_path, callback, train, clusters([0, 1], seed=1), Features(views=2))
    rows, labels = callback._bank.content()
    assert labels.shape == (96,)
    # every view lies by its class's centre, as the others of its class do
    assert leave_one_out_top1(rows, labels, k=5) == 1.0


def test_the_bank_keeps_the_last_rows_in_order():
    bank, everything = FeatureBank(10), torch.arange(41.0)[:, None].expand(41, 3)
    at = 0
    for n in (4, 3, 6, 1, 10, 12, 5):
        bank.add(everything[at : at + n], torch.arange(at, at + n))
        at += n
        rows, labels = bank.content()
        assert labels.tolist() == list(range(max(0, at - 10), at))
        assert rows[:, 1].tolist() == labels.tolist()
        again = FeatureBank(10)
        again.load(bank.plain())
        assert again.content()[1].tolist() == labels.tolist()
    smaller = FeatureBank(4)
    smaller.load(bank.plain())
    assert smaller.content()[1].tolist() == [37, 38, 39, 40]


def test_classes_that_nobody_trained_on_vote_for_each_other(tmp_path, monkeypatch):
    val = clusters([10, 11, 12], each=5, seed=1, spread=2.5)
    callback = OnlineKNN(k=4)
    told: list[str] = []
    monkeypatch.setattr("stablelit.callbacks.online_knn.rank_zero_info", told.append)
    found = fit(tmp_path, callback, clusters([0, 1]), val, max_epochs=3)
    assert told == ["OnlineKNN[]: the validation samples vote for each other: no class of it is trained on."]
    # the module's weight grows alike in all features, which no cosine sees
    expected = leave_one_out_top1(*val, k=4)
    assert found["val/knn_top1"] == pytest.approx(float(expected))
    assert found["val/knn_chance"] == pytest.approx(float(chance_of_vote(val[1], val[1], leave_one_out=True)))
    assert found["val/knn_chance"] == pytest.approx(4 / 14)
    assert len(callback._bank) == 0


def test_unknown_labels_of_training_leave_the_validation_to_itself(tmp_path):
    callback = OnlineKNN()
    found = fit(tmp_path, callback, clusters([-1]), clusters([0, 1], seed=1))
    assert callback._mode == "leave-one-out"
    assert found["val/knn_top1"] > found["val/knn_chance"]


def test_without_a_known_label_nothing_is_logged(tmp_path):
    assert not [n for n in fit(tmp_path, OnlineKNN(), clusters([0]), clusters([-1])) if "knn" in n]


def test_rows_that_are_not_finite_have_no_vote(tmp_path):
    train, val = clusters([0, 1]), clusters([0, 1], seed=1)
    train[0][::4] = torch.nan
    callback = OnlineKNN(k=3)
    assert fit(tmp_path, callback, train, val)["val/knn_top1"] == 1.0
    rows, labels = callback._bank.content()
    assert labels.tolist() == [-1 if i % 4 == 0 else int(c) for i, c in enumerate(train[1])]
    assert torch.isfinite(rows).all()


def test_it_logs_before_checkpoints_are_chosen(tmp_path):
    from lightning.pytorch.callbacks import ModelCheckpoint

    best = ModelCheckpoint(tmp_path, monitor="val/knn_top1", mode="max")
    trainer = make_trainer(tmp_path, [OnlineKNN(name="x"), OnlineKNN(), best], max_epochs=1, enable_checkpointing=True)
    trainer.fit(Features(), loader(clusters([0, 1])), loader(clusters([0, 1], seed=1)))
    assert float(best.best_model_score) == float(trainer.callback_metrics["val/x/knn_top1"]) == 1.0


@pytest.mark.slow
def test_two_ranks_have_one_bank(tmp_path):
    train, val = clusters([0, 1, 2, 3], spread=2.0), clusters([0, 1, 2, 3], each=6, seed=1, spread=2.0)
    one = fit(tmp_path / "one", OnlineKNN(k=3), train, val)
    two = fit(tmp_path / "two", OnlineKNN(k=3), train, val, devices=2, strategy="ddp_fork")
    # the weight's few steps are another number on two ranks, and turn features by next to nothing
    assert two["val/knn_chance"] == one["val/knn_chance"] == pytest.approx(0.25)
    assert two["val/knn_top1"] == pytest.approx(one["val/knn_top1"], abs=1.01 / 24)


def test_what_a_step_does_not_return_is_said(tmp_path):
    with pytest.raises(
        ContractError, match="validation_step of Features returns no tensor 'h' for features; it returns "
    ):
        fit(tmp_path, OnlineKNN(), clusters([0]), clusters([0]), Features(keys=("hh", "label")))
    with pytest.raises(
        ContractError, match="no tensor 'label' for labels; it returns h, labels. Did you mean 'labels'"
    ):
        fit(tmp_path, OnlineKNN(), clusters([0]), clusters([0]), Features(keys=("h", "labels")))


def test_labels_that_do_not_fit_are_said(tmp_path):
    module = Features()
    module.validation_step = lambda batch, batch_idx: {"h": batch[0], "label": batch[1][:3]}
    with pytest.raises(ContractError, match="returns 8 rows of 'h' and 3 of 'label'"):
        fit(tmp_path, OnlineKNN(), clusters([0]), clusters([0]), module)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"k": 0}, "k=0 is not allowed"),
        ({"temperature": math.nan}, "temperature=nan is not allowed"),
        ({"bank_rows": 0}, "bank_rows=0 is not allowed"),
        ({"features": ""}, "features='' is not allowed. Allowed: a non-empty string"),
        ({"name": 3}, "name=3 is not allowed"),
    ],
)
def test_what_cannot_be_is_refused(kwargs, message):
    with pytest.raises(ConfigurationError, match=message):
        OnlineKNN(**kwargs)
