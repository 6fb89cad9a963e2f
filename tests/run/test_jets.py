"""The jets family through all doors, as the README shows it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stablelit.evaluate import main as evaluate
from stablelit.families.jets import read_jets, toy_shower, write_jets
from stablelit.generate import main as generate
from stablelit.train import main as train

SMALL = ["data.n_jets=200", "data.train=100", "data.val=40", "data.test=60", "data.batch_size=20", "trainer=cpu"]
SMALL += [
    "model.latent_dim=4",
    "model.particle_hidden=16",
    "callbacks.kl_cap.warmup=0",
    "model_summary=null",
    "report=false",
    "logger=none",
]
OF_VALIDATION = {"jets", "kl_per_dimension", "latent", "mass_spectrum", "spectra"}

pytestmark = pytest.mark.filterwarnings("ignore::stablelit.findings.FindingWarning", "ignore:.*LeafSpec:")


def pictures(directory: Path) -> set[str]:
    return {path.stem for path in directory.glob("*.png")}


@pytest.mark.slow
def test_a_run_is_tested_drawn_generated_from_and_evaluated_on_what_it_generated(door):
    done = door(train, "+experiment=jets", *SMALL, "trainer.max_epochs=1")
    assert done.code == 0, done.err
    (run,) = Path("runs/jets").iterdir()
    assert pictures(run / "figures") == OF_VALIDATION | {"gradients", "kl", "scores"}
    assert pictures(run / "figures/test") == OF_VALIDATION | {"residuals"}
    assert {"test/active_units", "test/kpd", "test/mass_residual_iqr"} <= set(json_of(run / "summary.json")["test"])
    # what the monitor says of the posteriors, it is given
    assert "posterior/mutual_information" in (run / "history.jsonl").read_text()

    for suffix in ("hdf5", "npz"):
        done = door(generate, f"run={run}", "n=50", f"output=drawn.{suffix}")
        assert done.code == 0, done.err
        assert len(read_jets(f"drawn.{suffix}")) == 50

    done = door(evaluate, f"run={run}", "data.path=drawn.hdf5", "data.train=20", "data.val=10", "data.test=20")
    assert done.code == 0, done.err
    assert json_of(run / "evaluation.json")["data"]["source"] == "drawn.hdf5"
    assert pictures(run / "figures/evaluation") == OF_VALIDATION | {"residuals"}
    assert f"pictures    {run}/figures/evaluation" in done.out


@pytest.mark.slow
def test_data_that_cannot_be_used_are_read_once_and_the_summary_says_why(door):
    write_jets("g.hdf5", toy_shower(30, ("g",), seed=1))
    done = door(train, "+experiment=jets", *SMALL, "data.path=g.hdf5", "data.classes=[gg]")
    assert done.code == 2
    assert "classes='gg'" in done.err
    assert done.out.count("g.hdf5: JetNet HDF5") == 1
    (run,) = Path("runs/jets").iterdir()
    summary = json_of(run / "summary.json")
    assert summary["status"] == "failed"
    assert "classes='gg'" in summary["error"]
    assert summary["data"] is None


def json_of(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))
