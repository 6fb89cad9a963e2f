from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import stablelit.__main__ as front
from stablelit.check import main as check
from stablelit.train import main as train_door

from .conftest import CONF

REPO = Path(__file__).resolve().parents[2]


def program(*argv: str, **more: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1", **more}  # type: ignore[dict-item]
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, *argv], env=environment, stdout=pipe, stderr=pipe, text=True)


def test_without_an_experiment_they_are_listed_with_a_command_each(door):
    done = door(train_door, "--config-dir", str(CONF))
    assert done.code == 2
    assert "python -m stablelit.train +experiment=jets\n" in done.out
    assert "A linear VAE on a plane of points." in done.out


def test_checking_says_ok_or_lists_every_problem(door):
    argv = ["--config-dir", str(CONF), "+experiment=tiny"]
    done = door(check, *argv)
    assert (done.code, done.out) == (0, "OK: tiny can be trained as configured.\n")
    done = door(check, *argv, "model.latent_dim=two", "+data.number=3", "name=???")
    assert done.code == 2
    assert all(key in done.err for key in ("model.latent_dim", "data.number", "name"))
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.slow
def test_a_configuration_cannot_allow_its_own_targets(door):
    argv = ["--config-dir", str(CONF), "+experiment=tiny", "+model.decoder._target_=torch.utils.collect_env.run"]
    done = door(check, *argv)
    assert done.code == 2
    assert "collect_env" in done.err


@pytest.mark.slow
def test_the_command_line_can_allow_a_target(door):
    argv = ["--config-dir", str(CONF), "+experiment=tiny", "data._target_=tests.run.tiny.a_plane_of_any_size"]
    refused = door(check, *argv)
    assert refused.code == 2
    assert "a_plane_of_any_size" in refused.err
    allowed = door(check, *argv, "allow_targets=[tests.run.tiny.a_plane_of_any_size]")
    assert allowed.code == 0, allowed.err


def test_the_front_door_says_what_one_can_do(door):
    done = door(lambda argv: front.main())
    assert done.code == 0
    assert "stablelit.train" in done.out
    assert 8 <= len(done.out.splitlines()) <= 16


@pytest.mark.slow
def test_hydras_own_options_still_work(door):
    done = door(train_door, "--config-dir", str(CONF), "experiment=tiny", "--cfg", "job", "--package", "trainer")
    assert done.code == 0
    assert "max_epochs: 3" in done.out


def test_ctrl_c_keeps_what_was_trained_and_the_run_goes_on(train):
    done = train("model.fail_with=ctrl_c", "model.fail_at_step=5", "trainer.max_epochs=9")
    assert done.code == 130
    assert f"resume={done.run_dir.relative_to(Path.cwd())}" in done.err
    assert done.summary["status"] == "interrupted"
    resumed = train(f"resume={done.run_dir}", "model.fail_with=null", "trainer.max_epochs=4")
    assert resumed.code == 0, resumed.err
    assert resumed.run_dir == done.run_dir
    assert resumed.summary["status"] == "finished"


@pytest.mark.slow
def test_ctrl_c_ends_a_process_of_its_own_with_its_exit_code():
    argv = ["-m", "stablelit.train", "--config-dir", str(CONF), "+experiment=tiny", "trainer.max_epochs=100000"]
    process = program(*argv)
    try:
        deadline = time.monotonic() + 60
        while not any(Path("runs").rglob("last.ckpt")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert "Traceback" not in err
    (run_dir,) = Path("runs/tiny").iterdir()
    assert f"resume={run_dir}" in err
    assert '"status": "interrupted"' in (run_dir / "summary.json").read_text()
    epochs = len((run_dir / "history.jsonl").read_text().splitlines())
    assert train_door([f"resume={run_dir}", f"trainer.max_epochs={epochs + 3}"]) == 0
    assert '"status": "finished"' in (run_dir / "summary.json").read_text()


@pytest.mark.slow
def test_a_data_parallel_run_has_one_directory():
    argv = ["--config-dir", str(CONF), "+experiment=tiny", "trainer.devices=2", "trainer.strategy=ddp"]
    process = program("-m", "stablelit.train", *argv, "trainer.max_epochs=2")
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    (run_dir,) = Path("runs/tiny").iterdir()
    assert out.count("metrics  ") == 1
    assert (run_dir / "checkpoints/last.ckpt").is_file()


@pytest.mark.slow
def test_forked_processes_leave_a_complete_run(train):
    done = train("trainer=ddp_cpu", "trainer.max_epochs=2")
    assert done.code == 0, done.err
    (run_dir,) = done.runs
    assert done.summary["status"] == "finished"
    assert "val/loss" in (run_dir / "history.jsonl").read_text()


@pytest.mark.slow
def test_an_application_of_somebody_elses_uses_our_groups(tmp_path):
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/main.yaml").write_text(
        "hydra: {searchpath: ['pkg://stablelit.conf']}\n"
        "defaults: [optimizer: adamw, callbacks: [checkpoint, kl_cap], _self_]\n"
        "run_dir: mine\nobjective: {metric: val/loss, mode: min}\n"
    )
    (tmp_path / "app.py").write_text(
        "import hydra\n@hydra.main(version_base='1.3', config_path='conf', config_name='main')\n"
        "def main(config): print(config.optimizer._target_, *config.callbacks)\nmain()\n"
    )
    out, err = program(str(tmp_path / "app.py"), "optimizer=sgd").communicate(timeout=60)
    assert out.strip() == "torch.optim.SGD checkpoint last_checkpoint kl_cap", err
