"""The wheel, in a fresh environment, from a directory that has nothing to do with the checkout."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow

OUTSIDE_APP = """
import hydra

@hydra.main(version_base="1.3", config_path="conf", config_name="main")
def main(config):
    print("KL TARGET", config.callbacks.kl_cap.mode, config.optimizer._target_)

main()
"""
OUTSIDE_CONF = """
defaults:
  - callbacks: [kl_cap]
  - optimizer: adamw
  - _self_
hydra:
  searchpath: [pkg://stablelit.conf]
  run: {dir: .}
  output_subdir: null
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory, worker_id):
    """The Python of an environment that has the wheel and what it depends on, and nothing else."""
    if worker_id == "master":
        return install(tmp_path_factory.mktemp("wheel"))
    # one for all processes of the tests: it takes a minute and a half
    folder = tmp_path_factory.getbasetemp().parent / "wheel"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        python = folder / "venv" / "bin" / "python"
        if not (folder / "installed").exists():
            install(folder)
            (folder / "installed").touch()
    return python


def install(folder):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, env=environment)
    (wheel,) = folder.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "stablelit/conf/train.yaml" in names
    assert "stablelit/conf/experiment/jets.yaml" in names
    assert "stablelit/py.typed" in names
    assert not [n for n in names if n.startswith(("tests/", "conf/", "benchmarks/"))]
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    python = folder / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", wheel]
    subprocess.run(install, check=True, env=environment)
    return python


def run(python, directory, *arguments, code=0):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [python, *arguments], cwd=directory, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


SMALL = ("data.n_jets=300", "trainer.fast_dev_run=true")


def test_it_trains_from_another_directory(installed, tmp_path):
    run(installed, tmp_path, "-m", "stablelit.train", "+experiment=jets", *SMALL)
    assert not list(tmp_path.iterdir()), "fast_dev_run leaves nothing behind"


def test_it_sweeps_from_another_directory(installed, tmp_path):
    targets = "callbacks.kl_cap.kl_target=3,20"
    run(installed, tmp_path, "-m", "stablelit.train", "-m", "+experiment=jets", targets, *SMALL)
    assert not list(tmp_path.iterdir())


def test_somebody_elses_hydra_app_uses_our_groups(installed, tmp_path):
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "main.yaml").write_text(OUTSIDE_CONF)
    (tmp_path / "app.py").write_text(OUTSIDE_APP)
    output = run(installed, tmp_path, "app.py", "callbacks.kl_cap.mode=hinge")
    assert "KL TARGET hinge torch.optim.AdamW" in output
    assert "is not available" not in output


def test_the_suite_works_without_the_extras(installed, tmp_path):
    code = "import stablelit; [getattr(stablelit, n) for n in stablelit.__all__]; import importlib.util as u; "
    code += "print([m for m in ('h5py', 'scipy', 'hypothesis') if u.find_spec(m)])"
    assert run(installed, tmp_path, "-c", code).strip().endswith("[]")
