from __future__ import annotations

import json
from pathlib import Path

import pytest

from stablelit.run.sweep import refuse_subprocess_ddp
from stablelit.run.sweep.claim import SWEEP_DIR_VARIABLE, claim_sweep_directory

FILES = ("multirun.yaml", "summary.csv", "summary.png", "sweep.json")


def runs_of(sweep_dir: Path) -> list[str]:
    return sorted(str(p.parent.relative_to(sweep_dir)) for p in sweep_dir.rglob("summary.json"))


@pytest.mark.slow
def test_the_runs_of_a_sweep_are_its_numbered_children(train):
    done = train("-m", "seed=0,1", "trainer.max_epochs=1")
    assert done.code == 0, done.err
    (sweep_dir,) = Path("runs/tiny").iterdir()
    assert runs_of(sweep_dir) == ["0", "1"]
    assert {p.name for p in sweep_dir.iterdir()} == {"0", "1", *FILES}
    assert {p.name for p in Path.cwd().iterdir()} == {"runs"}


@pytest.mark.parametrize("swept", [["-m", "model.latent_dim=2,3"], ["sweep=tiny_sizes"]])
@pytest.mark.slow
def test_a_run_of_a_sweep_goes_on_alone(train, swept):
    train(*swept, "trainer.max_epochs=1")
    (sweep_dir,) = Path("runs/tiny").iterdir()
    done = train(f"resume={sweep_dir / '1'}", "trainer.max_epochs=2")
    assert done.code == 0, done.err
    assert json.loads((sweep_dir / "1/summary.json").read_text())["epochs"] == 2
    assert "latent_dim: 3" in (sweep_dir / "1/config.yaml").read_text()


@pytest.mark.parametrize("how", ["infinity", "nan_error", "memory"])
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::stablelit.findings.FindingWarning")
def test_a_run_that_diverges_does_not_end_the_sweep(train, how):
    done = train("-m", f"model.fail_with={how},null", "trainer.max_epochs=2")
    assert done.code == 1
    assert "job 0" in done.err
    assert "counts as inf" in done.out
    (sweep_dir,) = Path("runs/tiny").iterdir()
    states = [json.loads((sweep_dir / n / "summary.json").read_text())["status"] for n in "01"]
    assert states == ["failed" if how == "memory" else "diverged", "finished"]


@pytest.mark.slow
def test_a_sweep_over_experiments_has_a_directory_too(train):
    done = train("experiment=tiny,tiny_too", "-m", "trainer.max_epochs=1")
    assert done.code == 0, done.err
    (sweep_dir,) = Path("runs/sweep").iterdir()
    names = [json.loads((sweep_dir / n / "summary.json").read_text())["name"] for n in "01"]
    assert names == ["tiny", "tiny_too"]


@pytest.mark.slow
def test_one_directory_for_all_runs_is_refused(train):
    done = train("-m", "seed=0,1", "run_dir=mine")
    assert done.code == 2
    assert "hydra.sweep.dir" in done.err


def test_two_sweeps_of_one_second_do_not_share_a_directory(tmp_path, monkeypatch):
    from omegaconf import OmegaConf

    monkeypatch.delenv(SWEEP_DIR_VARIABLE, raising=False)
    text = f'${{oc.env:STABLELIT_SWEEP_DIR,"{tmp_path}/now"}}'
    made = []
    for _ in range(3):
        config = OmegaConf.create({"hydra": {"sweep": {"dir": text}}})
        claim_sweep_directory(config)
        made.append(Path(config.hydra.sweep.dir).name)
    assert made == ["now", "now-2", "now-3"]


@pytest.mark.slow
def test_a_file_in_the_way_of_a_sweep_is_told(train):
    Path("runs").write_text("")
    done = train("-m", "seed=0,1")
    assert done.code == 2
    assert "cannot be kept" in done.err
    assert "Traceback" not in done.err


def test_processes_that_would_repeat_the_sweep_are_refused(train):
    done = train("-m", "seed=0,1", "trainer.devices=2", "trainer.strategy=ddp")
    assert done.code == 2
    assert "ddp_fork" in done.err


@pytest.mark.parametrize("strategy", ["ddp_fork", "ddp_spawn"])
def test_processes_that_would_not_repeat_it_are_not(strategy):
    from lightning.pytorch import Trainer

    refuse_subprocess_ddp(Trainer(accelerator="cpu", devices=2, strategy=strategy, logger=False))
