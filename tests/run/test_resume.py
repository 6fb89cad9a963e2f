from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

LAST = "checkpoints/last.ckpt"


@pytest.mark.slow
def test_a_finished_run_goes_on_for_longer_in_its_own_directory(train, trained):
    first = trained("trainer.max_epochs=2", "optimizer.weight_decay=0")
    done = train(f"resume={first.run_dir}", "trainer.max_epochs=4")
    assert done.code == 0, done.err
    assert done.run_dir == first.run_dir
    history = [json.loads(line) for line in (done.run_dir / "history.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in history] == [0, 1, 2, 3]
    assert yaml.safe_load((done.run_dir / "overrides.yaml").read_text())["overrides"] == [
        "+experiment=tiny",
        "optimizer.weight_decay=0",
        "trainer.max_epochs=4",
    ]


def test_a_resumed_run_is_the_run_that_was_not_interrupted(train):
    whole = train("lr_schedule=none", "trainer.max_epochs=4").summary
    part = train("lr_schedule=none", "trainer.max_epochs=2")
    resumed = train(f"resume={part.run_dir}", "trainer.max_epochs=4").summary
    assert resumed["final"] == whole["final"]
    assert resumed["objective"] == whole["objective"]


@pytest.mark.slow
def test_the_best_value_before_the_resume_still_counts(train, trained):
    first = trained("trainer.max_epochs=2")
    best = first.summary["objective"]["best"]
    again = train(f"resume={first.run_dir}", "trainer.max_epochs=3", "model.learning_rate=10.0").summary
    assert again["objective"]["best"] <= best


@pytest.mark.slow
def test_a_checkpoint_can_be_named_itself(train, trained):
    first = trained("trainer.max_epochs=2")
    done = train(f"resume={first.run_dir / LAST}", "trainer.max_epochs=3")
    assert done.code == 0, done.err
    assert done.run_dir == first.run_dir


@pytest.mark.slow
def test_a_run_with_nothing_left_to_do_says_so(train, trained):
    first = trained("trainer.max_epochs=2")
    done = train(f"resume={first.run_dir}")
    assert done.code == 2
    assert "trainer.max_epochs=4" in done.err


@pytest.mark.slow
def test_another_latent_size_is_told_with_parameter_shapes_and_hyper_parameter(train, trained):
    first = trained("trainer.max_epochs=1")
    before = (first.run_dir / "config.yaml").read_text()
    done = train(f"resume={first.run_dir}", "model.latent_dim=5", "trainer.max_epochs=2")
    assert done.code == 2
    assert "encoder.weight is (4, 6) in the checkpoint and (10, 6) in the model" in done.err
    assert "latent_dim is 2 in the checkpoint and 5 in the model" in done.err
    assert "Traceback" not in done.err
    assert (first.run_dir / "config.yaml").read_text() == before, "a resume that was refused changes nothing"


def test_a_directory_that_is_no_run_is_told_with_what_is_missing(train):
    Path("empty").mkdir()
    done = train("resume=empty")
    assert done.code == 2
    assert "checkpoints/last.ckpt" in done.err
    done = train("resume=nowhere")
    assert done.code == 2
    assert "no such run directory" in done.err


@pytest.mark.slow
def test_a_run_without_its_overrides_is_told(train, trained):
    first = trained("trainer.max_epochs=1")
    (first.run_dir / "overrides.yaml").unlink()
    done = train(f"resume={first.run_dir}", "trainer.max_epochs=2")
    assert done.code == 2
    assert "overrides.yaml" in done.err


@pytest.mark.slow
def test_a_moved_run_goes_on_where_it_lies(train, trained):
    first = trained("trainer.max_epochs=1")
    shutil.move(first.run_dir, "moved")
    best = Path("moved/checkpoints/best.ckpt").read_bytes()
    done = train("resume=moved", "trainer.max_epochs=2", "model.learning_rate=10.0", "test=false")
    summary = json.loads(Path("moved/summary.json").read_text())
    assert summary["epochs"] == 2, done.err
    assert summary["checkpoints"]["best"] == "checkpoints/best.ckpt"
    assert Path("moved/checkpoints/best.ckpt").read_bytes() == best, "a worse epoch does not replace the best one"


def test_a_sweep_cannot_be_resumed(train, trained):
    first = trained("trainer.max_epochs=1")
    done = train(f"resume={first.run_dir}", "-m", "seed=1,2")
    assert done.code == 2
    assert "cannot be swept" in done.err


@pytest.mark.slow
def test_a_value_that_cannot_be_is_told_before_the_run_is_touched(train, trained):
    first = trained("trainer.max_epochs=1")
    done = train(f"resume={first.run_dir}", "model.learning_rat=1")
    assert done.code == 2
    assert "learning_rat" in done.err


def test_other_data_are_refused_with_both_values_and_nothing_is_changed(train, trained):
    first = trained("trainer.max_epochs=1")
    before = {name: (first.run_dir / name).read_bytes() for name in ("config.yaml", "overrides.yaml", "splits.json")}
    done = train(f"resume={first.run_dir}", "data.n=128", "trainer.max_epochs=2")
    assert done.code == 2
    assert "n was 64 and is 128" in done.err
    assert "the split 'train' had 32 samples and has 64" in done.err
    assert f"weights={first.run_dir}" in done.err
    assert before == {name: (first.run_dir / name).read_bytes() for name in before}


@pytest.mark.slow
def test_of_a_killed_run_the_splits_tell(train, trained):
    first = trained("trainer.max_epochs=1")
    (first.run_dir / "summary.json").unlink()
    done = train(f"resume={first.run_dir}", "data.n=128", "trainer.max_epochs=2")
    assert done.code == 2
    assert "the split 'val' had 16 samples and has 32" in done.err


@pytest.mark.slow
def test_of_a_killed_run_the_checkpoint_tells_of_other_data_of_the_same_size(train, trained):
    first = trained("trainer.max_epochs=1")
    (first.run_dir / "summary.json").unlink()
    done = train(f"resume={first.run_dir}", "data.seed=7", "trainer.max_epochs=2")
    assert done.code == 2
    assert "seed was 0 and is 7" in done.err


@pytest.mark.slow
def test_another_batch_size_is_the_same_data(train, trained):
    first = trained("trainer.max_epochs=1")
    done = train(f"resume={first.run_dir}", "data.batch_size=8", "trainer.max_epochs=2")
    assert done.code == 0, done.err


def test_another_rate_is_taken_and_told(train, trained):
    first = trained("trainer.max_epochs=1")
    done = train(f"resume={first.run_dir}", "model.learning_rate=0.001", "lr_schedule=none", "trainer.max_epochs=2")
    assert done.code == 0, done.err
    assert "learning rate 0.01 -> 0.001" in done.out
    history = [json.loads(line) for line in (done.run_dir / "history.jsonl").read_text().splitlines()]
    assert history[-1]["lr"] == 0.001
