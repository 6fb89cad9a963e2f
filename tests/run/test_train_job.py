from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
import torch

from stablelit.errors import ConfigurationError
from stablelit.run.train_job import train as train_job
from stablelit.train import main


def test_a_run_leaves_what_the_design_says(train):
    done = train("trainer.max_epochs=2")
    assert done.code == 0
    left = {str(p.relative_to(done.run_dir)) for p in done.run_dir.rglob("*") if p.is_file()}
    expected = {"config.yaml", "overrides.yaml", "history.jsonl", "summary.json", "splits.json"}
    assert expected | {"checkpoints/best.ckpt", "checkpoints/last.ckpt"} <= left
    assert any(name.startswith("events.out.tfevents") for name in left)
    assert {p.name for p in Path.cwd().iterdir()} == {"runs"}, "Hydra's own folders and log files must not appear"


@pytest.mark.slow
def test_the_summary_says_what_the_run_came_to(train):
    summary = train("seed=3").summary
    assert summary["status"] == "finished"
    assert summary["seed"] == 3
    assert summary["data"] == {"kind": "toy plane", "n": 64, "seed": 3}
    assert summary["checkpoints"] == {"best": "checkpoints/best.ckpt", "last": "checkpoints/last.ckpt"}
    assert summary["best"]["val/loss"] == summary["objective"]["best"] <= summary["final"]["val/loss"]
    assert "test/loss" in summary["test"]
    assert {"commit", "dirty"} <= set(summary["code"]) or "version" in summary["code"]
    assert "torch" in summary["versions"]


@pytest.mark.slow
def test_the_best_epoch_has_the_training_metrics_of_that_epoch(train):
    done = train()
    history = [json.loads(line) for line in (done.run_dir / "history.jsonl").read_text().splitlines()]
    best = done.summary["best"]
    assert best["train/loss"] == history[best["epoch"]]["train/loss"]


@pytest.mark.slow
def test_the_splits_are_the_datamodules(train):
    splits = json.loads((train().run_dir / "splits.json").read_text())
    assert [len(splits[name]) for name in ("train", "val", "test")] == [32, 16, 16]


@pytest.mark.slow
def test_the_last_thing_printed_is_the_table_and_where_things_are(train):
    done = train()
    lines = done.out.rstrip().splitlines()
    assert any("test/loss" in line and "0.5" in line for line in lines), "the floor stands beside its metric"
    assert not any("test/loss_floor" in line for line in lines)
    assert lines[-1].startswith("best")
    assert lines[-1].endswith("checkpoints/best.ckpt")


@pytest.mark.slow
def test_the_saved_configuration_runs_again(train, door):
    first = train("trainer.max_epochs=2", "model.latent_dim=3")
    again = door(main, "--config-dir", str(first.run_dir), "--config-name", "config", "seed=0")
    assert again.code == 0, again.err
    assert again.run_dir != first.run_dir
    assert again.summary["final"] == first.summary["final"]
    assert {p.name for p in Path.cwd().iterdir()} == {"runs"}


@pytest.mark.slow
def test_a_rerun_can_be_resumed(train, door):
    first = train("trainer.max_epochs=1")
    again = door(main, "--config-dir", str(first.run_dir), "--config-name", "config")
    resumed = train(f"resume={again.run_dir}", "trainer.max_epochs=2")
    assert resumed.code == 0, resumed.err
    assert resumed.summary["epochs"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["-m", "seed=0,1"]])
def test_fast_dev_run_leaves_nothing_behind(train, more):
    done = train("trainer.fast_dev_run=true", *more)
    assert done.code == 0, done.err
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.slow
def test_the_objective_comes_back_as_the_best_value(composed):
    value = train_job(composed("trainer.max_epochs=2"))
    history = [json.loads(line) for line in next(Path("runs").rglob("history.jsonl")).read_text().splitlines()]
    assert value == min(line["val/loss"] for line in history)


@pytest.mark.slow
def test_an_objective_that_nobody_logs_is_an_error_with_what_there_is(composed):
    with pytest.raises(ConfigurationError, match=r"val/los' was not logged. Did you mean 'val/loss'.*train/kl"):
        train_job(composed("objective.metric=val/los", "~callbacks.checkpoint"))


@pytest.mark.slow
def test_a_missing_objective_ends_with_exit_code_2_after_one_epoch(train):
    done = train("objective.metric=val/los", "trainer.max_epochs=50")
    assert done.code == 2
    assert "val/los" in done.err
    assert "val/loss" in done.err
    assert "Traceback" not in done.err
    assert done.summary["status"] == "failed"


@pytest.mark.slow
@pytest.mark.parametrize("mistake", ["model.latent_dimm=3", "nmae=3", "+trainer.max_epoch=3", "model.latent_dim=two"])
def test_a_mistake_is_told_without_a_traceback_and_leaves_nothing(train, mistake):
    done = train(mistake)
    assert done.code == 2
    assert "Traceback" not in done.err
    assert mistake.split("=")[0].strip("+").split(".")[-1] in done.err
    assert list(Path.cwd().iterdir()) == []


def test_an_unknown_experiment_names_the_near_ones(door):
    done = door(main, "+experiment=jest")
    assert done.code == 2
    assert "Available options in 'experiment'" in done.err
    assert "Did you mean 'jets'" in done.err


@pytest.mark.slow
def test_a_value_that_a_constructor_refuses_is_told_with_its_place(train):
    done = train("callbacks=[default,kl_cap]", "callbacks.kl_cap.mode=target", "callbacks.kl_cap.kl_target=-1")
    assert done.code == 2
    assert "Traceback" not in done.err
    assert "KLCapCallback: kl_target=-1" in done.err
    assert "callbacks.kl_cap" in done.err


@pytest.mark.slow
def test_settings_of_a_callback_that_is_not_in_the_list_are_left_out_and_told(door):
    done = door(main, "+experiment=jets", "callbacks=[default,kl_cap]", "trainer.fast_dev_run=true", "trainer=cpu")
    assert done.code == 0
    assert "callbacks: not in the run, so their settings are left out: figures" in done.out


@pytest.mark.slow
def test_a_logger_that_is_not_installed_names_the_extra(train, monkeypatch):
    import sys

    if "wandb" in sys.modules:
        pytest.skip("wandb is installed")
    done = train("logger=wandb")
    assert done.code == 2
    assert "pip install 'stablelit[wandb]'" in done.err


@pytest.mark.slow
def test_a_compiled_module_trains(train):
    done = train("compile=true", "trainer.max_epochs=1")
    assert done.code == 0, done.err
    assert done.summary["checkpoints"]["best"]


@pytest.mark.slow
def test_an_error_in_the_data_takes_the_directory_away_again(train):
    done = train("+data.broken=true")
    assert done.code == 2
    assert done.err.startswith("DataError: points.csv: row 3")
    assert not Path("runs/tiny").exists()


@pytest.mark.slow
def test_a_directory_that_cannot_be_made_is_told_before_data_are_read(train):
    Path("runs").write_text("")
    done = train("+data.broken=true")
    assert done.code == 2
    assert "points.csv" not in done.err
    assert "is a file" in done.err


@pytest.mark.slow
def test_a_defect_keeps_its_traceback_and_is_in_the_summary(composed):
    with pytest.raises(ZeroDivisionError):
        train_job(composed("model.fail_with=defect"))
    (path,) = Path("runs").rglob("summary.json")
    summary = json.loads(path.read_text())
    assert summary["status"] == "failed"
    assert "a defect" in summary["error"]


@pytest.mark.slow
def test_memory_that_runs_out_ends_with_the_batch_size_to_try(train):
    done = train("model.fail_with=memory", "data.batch_size=16")
    assert done.code == 1
    assert "Traceback" not in done.err
    assert "Try data.batch_size=8" in done.err


# the doctor warns of it too
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::stablelit.findings.FindingWarning")
@pytest.mark.parametrize("how", ["infinity", "nan_error"])
def test_a_run_that_diverges_says_so(train, how):
    done = train(f"model.fail_with={how}")
    assert done.code == 1
    assert "diverged" in done.err
    assert "Traceback" not in done.err
    assert done.summary["status"] == "diverged"
    json.loads((done.run_dir / "summary.json").read_text(), parse_constant=lambda c: pytest.fail(f"{c} is not JSON"))


@pytest.mark.slow
def test_an_interrupt_before_the_first_checkpoint_says_that_nothing_was_kept(train):
    done = train("model.fail_with=interrupt", "model.fail_at_step=0")
    assert done.code == 130
    assert "no checkpoint had been written" in done.err
    assert done.summary["status"] == "interrupted"


@pytest.mark.slow
def test_an_interrupt_between_checkpoints_names_the_last_one(train):
    done = train("model.fail_with=interrupt", "model.fail_at_step=5", "trainer.max_epochs=9")
    assert done.code == 130
    assert "checkpoints/last.ckpt; what came after it is lost" in done.err
    assert f"resume=runs/tiny/{done.run_dir.name}" in done.err


@pytest.mark.slow
@pytest.mark.filterwarnings("default::stablelit.findings.FindingWarning")
def test_a_finding_that_stops_a_run_is_told_without_a_traceback(train):
    capped = "callbacks=[default,kl_cap]", "callbacks.kl_cap.mode=target", "callbacks.kl_cap.kl_target=1000"
    slow = "callbacks.kl_cap.warmup=0", "+callbacks.kl_cap.integral=1.0", "trainer.max_epochs=60"
    done = train(*capped, *slow, "+callbacks.kl_cap.action=raise")
    assert done.code == 1
    assert "kl-target-out-of-reach" in done.err
    assert "Traceback" not in done.err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::stablelit.findings.FindingWarning")
def test_a_verdict_is_given_on_a_run_that_diverged_too(train):
    done = train("debug=quick", "model.fail_with=infinity")
    assert done.code == 1
    assert "FAILED" in done.out
    assert "diverged" in done.err


@pytest.mark.slow
def test_a_second_run_does_not_take_the_directory_of_the_first(train):
    assert train("run_dir=mine").code == 0
    done = train("run_dir=mine")
    assert done.code == 2
    assert "holds a run already" in done.err


@pytest.mark.slow
def test_hyper_parameters_in_the_checkpoint_are_plain_data(train):
    checkpoint = torch.load(train().run_dir / "checkpoints/best.ckpt", weights_only=True)
    assert checkpoint["hyper_parameters"]["latent_dim"] == 2


@pytest.mark.slow
def test_a_module_with_its_own_optimizer_is_trained_and_that_is_said(train):
    done = train("model._target_=tests.run.tiny.SelfReliant")
    assert done.code == 0, done.err
    assert "SelfReliant has no argument 'optimizer'" in done.out


@pytest.mark.slow
def test_the_same_seed_gives_the_same_numbers(train):
    first, second, other = train("seed=5").summary, train("seed=5").summary, train("seed=6").summary
    assert first["final"] == second["final"] != other["final"]


@pytest.mark.slow
def test_a_finder_says_what_it_suggests(train):
    done = train("tune.batch_size=true", "data.n=32", "trainer.max_epochs=1")
    assert done.code == 0, done.err
    assert "data.batch_size=" in done.out
    assert not list(Path.cwd().rglob(".scale_batch_size*"))


@pytest.mark.slow
def test_a_finder_that_saw_too_little_changes_nothing(train):
    done = train("tune.learning_rate=true", "data.n=32", "trainer.max_epochs=1")
    assert done.code == 0, done.err
    assert "model.learning_rate=unchanged" in done.out
    assert "learning_rate: 0.01" in (done.run_dir / "config.yaml").read_text()


# where the time of so small a model goes is the machine's matter
@pytest.mark.filterwarnings("ignore::stablelit.findings.FindingWarning")
@pytest.mark.slow
def test_what_a_finder_sets_is_in_the_configuration_that_is_kept(train):
    done = train("tune.learning_rate=true", "data.n=320", "trainer.max_epochs=12", "model.learning_rate=0.5")
    assert done.code == 0, done.err
    found = float(re.search(r"model.learning_rate=(\S+), as", done.out)[1])
    kept = float(re.search(r"learning_rate: (\d\S*)", (done.run_dir / "config.yaml").read_text())[1])
    assert kept == pytest.approx(found, rel=1e-2)


# the doctor warns of it too
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::stablelit.findings.FindingWarning")
def test_a_checkpoint_that_is_not_finite_is_not_recommended(train):
    done = train("model.fail_with=infinity", "model.fail_at_step=0")
    assert "diverged" in done.err
    assert "best checkpoint" not in done.err


@pytest.mark.slow
@pytest.mark.parametrize("logger", ["none", "csv", "[tensorboard,csv]"])
def test_every_logger_writes_into_the_run_directory(train, logger):
    done = train(f"logger={logger}")
    assert done.code == 0, done.err
    assert (done.run_dir / "history.jsonl").is_file()
    assert (done.run_dir / "metrics.csv").is_file() == ("csv" in logger)


# the doctor warns of it too
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::stablelit.findings.FindingWarning")
@pytest.mark.parametrize(("mode", "worst"), [("min", math.inf), ("max", -math.inf)])
def test_a_sweeper_is_told_the_worst_value_of_a_run_that_diverged(composed, monkeypatch, tmp_path, mode, worst):
    monkeypatch.setattr("stablelit.run.conclude.sweep_job_directory", lambda: tmp_path / "0")
    assert train_job(composed("model.fail_with=infinity", f"objective.mode={mode}")) == worst
