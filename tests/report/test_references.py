from __future__ import annotations

import pytest

from stablelit.report.references import is_level, levels_of, scores_of


@pytest.mark.parametrize(
    ("name", "names", "expected"),
    [
        ("val/nll", ["val/nll_baseline", "val/nll_truth"], {"baseline": "val/nll_baseline", "truth": "val/nll_truth"}),
        ("val/shd", ["val/shd_empty", "val/shd_double"], {"empty": "val/shd_empty"}),
        ("val/knn_top1", ["val/knn_chance"], {"chance": "val/knn_chance"}),
        ("train/loss", ["train/chance", "train/floor"], {"chance": "train/chance", "floor": "train/floor"}),
        ("val/loss", ["train/chance"], {}),
        ("test/gap_to_unigram", ["test/gap_to_truth"], {}),
        ("test/mass_w1_raw", ["test/mass_w1_floor"], {}),
        ("val/nll_truth", ["val/nll_truth_truth"], {}),
        ("val_loss", ["val_loss_baseline"], {"baseline": "val_loss_baseline"}),
    ],
    ids=["own", "empty-graph", "stem", "loss", "other-group", "not-a-stem", "not-raw", "level-of-level", "no-group"],
)
def test_levels_belong_to_their_score_alone(name, names, expected):
    assert levels_of(name, [name, *names]) == expected


def test_scores_take_their_errors_and_levels_and_nothing_is_lost():
    metrics = {
        "test/acc": 0.8, "test/acc_chance": 0.1, "test/acc_interval": 0.02,
        "test/nll": 2.0, "test/nll_se": 0.1, "test/nll_baseline": 3.0,
        "test/lonely_floor": 7.0,
        "test/loss": 1.0, "test/loss_step": 1.1, "test/loss_epoch": 1.0,
    }  # fmt: skip
    scores = {score.name: score for score in scores_of(metrics)}
    assert list(scores) == ["test/acc", "test/nll", "test/loss", "test/lonely_floor"]
    assert (scores["test/acc"].interval, scores["test/acc"].levels) == (0.02, {"chance": 0.1})
    assert (scores["test/nll"].error, scores["test/nll"].levels) == (0.1, {"baseline": 3.0})


def test_a_level_is_told_by_its_last_word():
    assert is_level("train/chance")
    assert is_level("a_floor")
    assert not is_level("val/flooring")
