"""Names that people really log."""

from __future__ import annotations

import pytest

from stablelit.doctor.readers.tag_guess import Tag, candidates, guess_tags, words_of


def guess(*names: str, **more: int) -> dict[str, str]:
    return guess_tags([*(Tag(name, 10) for name in names), *(Tag(name, points) for name, points in more.items())])


LOSSES = [
    "loss", "train_loss", "train/loss", "loss/train", "Loss/train", "Loss/train_total", "trainLoss", "training_loss",
    "train-loss", "Train Loss", "train_loss_step", "train_loss_epoch", "train/loss_step", "train.loss", "total_loss",
    "Training/Loss", "epoch_loss", "loss_train", "train/total_loss", "train_nll", "nll", "objective", "train/neg_elbo",
    "train_mse", "batch_loss", "TrainLoss", "train/batch/loss", "mymodel/train_loss", "train_ce_loss", "loss/total",
]  # fmt: skip
VALIDATION_LOSSES = [
    "val_loss", "val/loss", "valid_loss", "valid/loss", "validation_loss", "loss/val", "Loss/val_total", "eval_loss",
    "eval/loss", "valLoss", "val_loss_epoch", "dev_loss", "loss/validation", "val_loss/dataloader_idx_0", "val/nll",
    "validation/total_loss", "epoch_val_loss", "val/neg_elbo", "Validation Loss",
]  # fmt: skip
RATES = [
    "lr", "lr-Adam", "lr-AdamW", "lr-SGD", "lr-AdamW/pg1", "lr-Adam-1", "learning_rate", "train/lr", "lr/0", "LR",
    "optimizer/lr", "learningRate", "train/learning_rate", "lr_step", "lr-RMSprop", "opt/learning_rate",
]  # fmt: skip
NOT_RATES = ["lr-Adam-momentum", "lr-AdamW-weight_decay", "train/loss", "lr_loss", "clr_loss", "warmup_lr_steps"]
NOT_LOSSES = [
    "loss_weight", "val_loss", "best_val_loss", "test_loss", "loss_scale", "grad_norm", "train/loss_norm", "acc",
    "min_loss", "train/chance_loss", "val/nll", "lr", "epoch", "loss_ratio", "kl_weight",
]  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_the_training_loss_is_known_by_many_names(name):
    assert guess(name, "val_accuracy", "val_loss", "lr-Adam", "epoch_time")["loss"] == name


@pytest.mark.parametrize("name", VALIDATION_LOSSES)
def test_the_validation_loss_is_known_by_many_names(name):
    chosen = guess(name, "train_loss", "val_acc", "lr")
    assert chosen["val_loss"] == name
    assert chosen["loss"] == "train_loss"


@pytest.mark.parametrize("name", RATES)
def test_the_learning_rate_is_known_by_many_names(name):
    assert guess(name, "train_loss")["lr"] == name


@pytest.mark.parametrize("name", NOT_RATES)
def test_what_is_no_learning_rate_is_not_taken_for_one(name):
    assert "lr" not in guess(name)


@pytest.mark.parametrize("name", NOT_LOSSES)
def test_what_is_no_training_loss_is_not_taken_for_one(name):
    assert "loss" not in guess(name)


@pytest.mark.parametrize(
    ("role", "names", "expected"),
    [
        ("loss", ("train_loss", "train_recon_loss", "train_kl_loss"), "train_loss"),
        ("loss", ("train/loss", "train/loss_recon", "loss_weight"), "train/loss"),
        ("kl", ("Loss/train_kl", "Loss/val_kl", "KL/weight"), "Loss/train_kl"),
        ("kl", ("kl/raw", "kl/weight", "kl/target"), "kl/raw"),
        ("kl", ("train_kl_loss", "val_kl_loss"), "train_kl_loss"),
        ("kl_weight", ("Loss/train_kl", "KL/weight"), "KL/weight"),
        ("kl_weight", ("kl", "kl_w"), "kl_w"),
        ("kl_weight", ("kl", "beta"), "beta"),
        ("grad_norm", ("grad_norm", "grad_norm_clipped"), "grad_norm"),
        ("grad_norm", ("grad_2.0_norm_total", "grad_2.0_norm/layer.weight"), "grad_2.0_norm_total"),
        ("grad_norm", ("train/gradient_norm",), "train/gradient_norm"),
        ("edges", ("edge_count", "true_edges", "edge_loss"), "edge_count"),
        ("edges", ("val/n_edges",), "val/n_edges"),
        ("true_edges", ("edge_count", "true_edges"), "true_edges"),
        ("true_edges", ("val/shd", "val/shd_empty"), "val/shd_empty"),
        ("shd", ("val/shd", "val/shd_empty"), "val/shd"),
        ("shd", ("val_shd",), "val_shd"),
        ("threshold", ("best_threshold",), "best_threshold"),
        ("threshold", ("threshold/best", "threshold/f1"), "threshold/best"),
        ("difficulty", ("curriculum/difficulty",), "curriculum/difficulty"),
        ("f1", ("val_f1", "threshold/f1_null"), "val_f1"),
        ("chance", ("train/chance", "val/knn_chance"), "train/chance"),
        ("val_accuracy", ("val_acc", "train_acc"), "val_acc"),
        ("accuracy", ("val_acc", "train_acc"), "train_acc"),
    ],
    ids=lambda held: held if isinstance(held, str) else "+".join(held),
)
def test_each_role_is_told_from_its_neighbours(role, names, expected):
    assert guess(*names)[role] == expected


def test_steps_are_taken_rather_than_epochs():
    assert guess(train_loss_epoch=10, train_loss_step=500)["loss"] == "train_loss_step"


def test_of_several_rates_the_largest_is_taken():
    tags = [Tag("lr-Adam/pg1", 10, 1e-4), Tag("lr-Adam/pg2", 10, 1e-2)]
    assert guess_tags(tags)["lr"] == "lr-Adam/pg2"


def test_two_losses_of_a_game_are_not_guessed_between():
    assert "loss" not in guess("g_loss", "d_loss")
    assert candidates("loss", ["g_loss", "lr", "d_loss"]) == ["d_loss", "g_loss"]


def test_what_was_given_is_not_guessed():
    assert guess_tags([Tag("train_loss", 5), Tag("mine", 5)], {"loss": "mine"})["loss"] == "mine"


def test_an_empty_tag_is_nothing():
    assert guess_tags([Tag("train_loss", 0)]) == {}


@pytest.mark.parametrize("name", ["TRAIN_LOSS", "trainLoss", "train loss", "train/loss", "Train.Loss"])
def test_ways_of_writing_give_the_same_words(name):
    assert words_of(name) == ("train", "loss")
