from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from stablelit.check import main as check
from stablelit.run.experiments import shipped_conf

from .conftest import tiny

SWEEPS = sorted(path.stem for path in (shipped_conf() / "sweep").glob("*.yaml"))


def nothing_was_made() -> bool:
    return list(Path.cwd().iterdir()) == []


def test_every_problem_of_all_jobs_is_told_before_anything_is_made(train):
    done = train("-m", "model.latent_dim=2,x", "+data.broken=false,true", "seed=0,1")
    assert done.code == 2
    assert "2 problems in this sweep of 8 jobs; none was started:" in done.err
    assert "in 4 jobs (4, 5, 6, 7), with model.latent_dim=x" in done.err
    assert re.search(r"points.csv: row 3: nothing there\n +in 2 jobs \(2, 3\)", done.err)
    assert nothing_was_made()


@pytest.mark.slow
def test_a_sweep_can_be_checked_alone(door):
    done = door(check, *tiny("-m", "model.latent_dim=2,3", "seed=0,1"))
    assert done.code == 0, done.err
    assert "OK: 4 jobs can be trained as configured" in done.out
    assert nothing_was_made()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("swept", "told"),
    [
        (["model.latent_dimm=2,3"], ["TinyVAE has no argument 'latent_dimm'", "in all 2 jobs"]),
        (["+nobody=1,2"], ["unknown key", "in all 2 jobs"]),
        (["data.broken=false,true"], ["To add it: +data.broken"]),
        (["optimizer=adamw,sgdd"], ["optimizer/sgdd", "with optimizer=sgdd"]),
        (["experiment=tiny,nobody"], ["experiment/nobody", "in job 1"]),
        (["trainer.devices=2", "trainer.strategy=ddp_fork,ddp"], ["trainer.strategy='ddp'", "in job 1", "ddp_spawn"]),
        (["trainer.accelerator=cpu,gpu"], ["Lightning: ", "in job 1, with trainer.accelerator=gpu"]),
        (["callbacks.shuffle=null,null"], ["jobs 0 and 1 would be the same run", "Name each value once"]),
        (["pacing=root,linear"], ["pacing=root and linear", "same run"]),
        (["run_dir=a,b"], ["cannot be shared by the runs", "hydra.sweep.dir"]),
        (["weights=null,nowhere"], ["weights=nowhere", "in job 1"]),
        (["callbacks.kl_cap.kl_target=3,5"], ["there is no callbacks.kl_cap", "There are: "]),
        (["model.learning_rate=interval(0,1)"], ["hydra/sweeper=optuna"]),
        (["objective.mode=min,most"], ["most", "in job 1"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and "=" in value[0] else "",
)
def test_what_would_end_a_job_after_hours_of_others_is_told_first(train, swept, told):
    done = train("-m", *swept)
    assert done.code == 2
    assert all(part in done.err for part in told), done.err
    assert "Traceback" not in done.err
    assert nothing_was_made()


@pytest.mark.slow
def test_a_file_that_is_not_there_in_one_job_is_told_by_that_job(door):
    Path("here.h5").write_text("")
    done = door(check, "-m", "+experiment=jets", "data.path=null,nowhere.h5,here.h5")
    assert done.code == 2
    assert "data.path='nowhere.h5'" in done.err
    assert "in job 1, with data.path=nowhere.h5" in done.err
    assert "here.h5'" not in done.err.replace("nowhere.h5'", "")


@pytest.mark.slow
def test_a_hundred_jobs_are_checked_in_ten_seconds_of_a_core(door):
    began = time.process_time()
    done = door(check, "-m", "+experiment=jets", "callbacks.kl_cap.kl_target=3,5,7,9", "seed=range(0,25)")
    assert done.code == 0, done.err
    assert "OK: 100 jobs" in done.out
    assert time.process_time() - began < 10


@pytest.mark.slow
def test_a_plug_in_that_is_not_there_is_told_with_what_brings_it(door, monkeypatch):
    from hydra.core.config_store import ConfigStore

    launchers = ConfigStore.instance().repo["hydra"]["launcher"]
    monkeypatch.delitem(launchers, "joblib.yaml", raising=False)
    done = door(check, *tiny("-m", "hydra/launcher=joblib", "seed=0,1"))
    assert done.code == 2
    assert "pip install 'stablelit[sweep]'" in done.err


@pytest.mark.slow
@pytest.mark.parametrize("sweep", SWEEPS)
def test_every_shipped_sweep_passes_as_its_own_comment_says(door, sweep):
    about = (shipped_conf() / "sweep" / f"{sweep}.yaml").read_text(encoding="utf-8")
    command = re.search(rf"python -m stablelit.train (.*\+sweep={sweep}.*)", about)
    assert command, "a sweep's file says how it is run"
    # a test may have no GPU
    words = [word for word in command[1].split() if word != "trainer=gpu"]
    done = door(check, *words)
    assert done.code == 0, done.err
    assert re.search(r"OK: (?!1 jobs)\d+ (jobs|of the jobs)", done.out)
