from __future__ import annotations

from omegaconf import OmegaConf

from stablelit.run.table import Row, kl_target_rows, metric_rows, print_results


def test_a_floor_stands_beside_its_metric():
    metrics = {"test/w1": 0.02, "test/w1_floor": 0.003, "test/f1": 0.9, "test/f1_baseline": 0.5, "floor": 1.0}
    assert metric_rows(metrics) == [
        Row("test/w1", "0.02", "0.003"),
        Row("test/f1", "0.9", "0.5"),
        Row("floor", "1"),
    ]


def test_a_standard_error_stands_behind_its_metric():
    metrics = {"test/w1": 0.02, "test/w1_std": 0.00123, "test/w1_floor": 0.003, "weight_std": 2.0}
    assert metric_rows(metrics) == [Row("test/w1", "0.02 +- 0.001", "0.003"), Row("weight_std", "2")]


def test_an_interval_and_chance_stand_with_their_metric():
    metrics = {"acc": 0.75, "acc_interval": 0.009, "acc_chance": 0.2, "acc_baseline": 0.5, "f1": 0.5, "f1_chance": 0.1}
    assert metric_rows(metrics) == [
        Row("acc", "0.75 +- 0.009 (95 %)", "0.5 (chance 0.2)"),
        Row("f1", "0.5", "chance 0.1"),
    ]


def test_every_level_of_the_report_stands_beside_its_metric_here_too():
    metrics = {"test/nll": 2.31, "test/nll_se": 0.012, "test/nll_truth": 2.265, "test/nll_baseline": 2.833}
    assert metric_rows(metrics) == [Row("test/nll", "2.31 +- 0.01", "2.833 (truth 2.27)")]
    assert metric_rows({"val/shd": 3.0, "val/shd_empty": 20.0}) == [Row("val/shd", "3", "empty graph 20")]


def test_a_floor_without_its_metric_has_its_own_row():
    assert metric_rows({"test/noise_floor": 0.1}) == [Row("test/noise_floor", "0.1")]


def test_a_metric_logged_by_step_and_epoch_has_one_row():
    assert metric_rows({"loss": 1.0, "loss_step": 2.0, "loss_epoch": 1.0}) == [Row("loss", "1")]


def test_what_was_asked_of_the_kl_stands_beside_what_it_is():
    config = OmegaConf.create({"callbacks": {"kl_cap": {"kl": "kl", "kl_target": 8}, "other": {}, "off": None}})
    assert kl_target_rows(config, {"val/kl": 8.1}) == [Row("kl_cap: KL", "got 8.1 nats on validation", "asked 8")]
    assert "not logged" in kl_target_rows(config, {})[0].value


def test_long_names_of_metrics_are_shown_whole(capsys):
    name = "test/a_quantity_of_something_baseline"
    print_results([Row(name, "0.1 +- 0.2", "0.5"), Row("kl", "got 4.321 nats on the test set " * 2)], {})
    assert name in capsys.readouterr().out


def test_a_schedule_without_a_target_has_no_row():
    assert kl_target_rows(OmegaConf.create({"callbacks": {"kl_cap": {"kl_target": None}}}), {"val/kl": 1.0}) == []
