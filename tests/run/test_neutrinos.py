"""The neutrinos family through all doors, as the README shows it, on generated events and on a folder of files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from stablelit.evaluate import main as evaluate
from stablelit.families.neutrinos.networks import build_network
from stablelit.families.neutrinos.networks.build import NETWORKS
from stablelit.families.neutrinos.readers import PackedFolder, open_source
from stablelit.families.neutrinos.toy_folder import generated_once
from stablelit.predict import main as predict
from stablelit.prepare import main as prepare
from stablelit.run.experiments import shipped_conf
from stablelit.train import main as train

N_EVENTS = 600
SMALL = [
    "+experiment=neutrinos",
    "data.batch_size=50",
    "trainer.limit_train_batches=1.0",
    "trainer=cpu",
    "trainer.max_epochs=1",
    "model_summary=null",
    "report=false",
]
SMALL += ["logger=none", "model.network.d_model=16", "model.network.heads=2", "model.network.event_layers=2"]
FEW = ["data.train=100", "data.val=40", "data.test=50"]
PICTURES = {"angular_error_by_pulse_count", "cumulative_angular_error", "kappa_calibration", "zenith"}

pytestmark = pytest.mark.filterwarnings("ignore::stablelit.findings.FindingWarning", "ignore:.*LeafSpec:")


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    """Where the generated events are."""
    folder = tmp_path_factory.mktemp("toy")
    generated_once(folder, N_EVENTS, 0, lambda told: None)
    return folder


@pytest.fixture
def toy(cache) -> list[str]:
    return [f"data.cache_dir={cache}", f"data.n_events={N_EVENTS}"]


@pytest.fixture
def files(cache) -> Path:
    """A folder in Kaggle's layout."""
    (folder,) = (path.parent for path in cache.glob("*/train_meta.parquet"))
    return folder


@pytest.fixture(autouse=True)
def home(tmp_path_factory, monkeypatch) -> Path:
    """A home folder in which nothing is to be found afterwards."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    yield folder
    assert not list(folder.rglob("*neutrinos*"))


def the_run() -> Path:
    (run,) = Path("runs/neutrinos").iterdir()
    return run


def json_of(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def pictures(directory: Path) -> set[str]:
    return {path.stem for path in directory.glob("*.png")}


@pytest.mark.slow
def test_a_run_is_trained_evaluated_predicted_from_and_goes_on(door, toy):
    done = door(train, *SMALL, *toy, *FEW)
    assert done.code == 0, done.err
    assert "generated before" in done.out
    run = the_run()
    summary = json_of(run / "summary.json")
    assert summary["data"]["source"] == "TOY events"
    assert {"test/angular_error_mean_rad", "test/angular_error_mean_rad_baseline", "test/coverage_68"} <= set(
        summary["test"]
    )
    assert pictures(run / "figures") >= PICTURES
    assert pictures(run / "figures/test") == PICTURES

    done = door(evaluate, f"run={run}")
    assert done.code == 0, done.err
    again = json_of(run / "evaluation.json")["metrics"]
    assert again["test/angular_error_mean_rad"] == pytest.approx(summary["test"]["test/angular_error_mean_rad"])

    done = door(predict, f"run={run}", "output=submission.csv")
    assert done.code == 0, done.err
    with Path("submission.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["event_id", "azimuth", "zenith"]
    assert len({row["event_id"] for row in rows}) == len(rows) == 50

    done = door(train, f"resume={run}", "trainer.max_epochs=2")
    assert done.code == 0, done.err
    assert json_of(run / "summary.json")["epochs"] == 2


@pytest.mark.slow
def test_a_folder_of_files_is_trained_on_and_packed_it_gives_the_same_numbers(door, files):
    named = [*SMALL, *FEW, "test=false"]
    done = door(train, *named, f"data.path={files}", "name=kaggle")
    assert done.code == 0, done.err
    done = door(prepare, "neutrinos", f"path={files}", "output=packed", "shuffle=false")
    assert done.code == 0, done.err
    assert len(PackedFolder("packed").table) == N_EVENTS == len(open_source(files).table)
    done = door(train, *named, "data.path=packed", "name=packed")
    assert done.code == 0, done.err
    final = [json_of(next(Path(f"runs/{name}").glob("*/summary.json")))["final"] for name in ("kaggle", "packed")]
    assert final[0]["val/loss"] == pytest.approx(final[1]["val/loss"], rel=1e-6)


NETWORK_FILES = {p.stem: OmegaConf.load(p) for p in sorted((shipped_conf() / "model/network").glob("*.yaml"))}


# the others are another family's
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, own in NETWORK_FILES.items() if own.get("name") in NETWORKS])
def test_an_experiment_trains_every_network_as_its_own_file_has_it(name):
    own = NETWORK_FILES[name].copy()
    with initialize_config_module("stablelit.conf", version_base="1.3"):
        found = compose("train", ["+experiment=neutrinos", f"model/network={name}"])
    if "max_pulses_per_sensor" in own:
        own.max_pulses_per_sensor = found.data.max_pulses_per_sensor
    settings = OmegaConf.to_container(found.model.network, resolve=True)
    assert settings == OmegaConf.to_container(own)
    with torch.device("meta"):
        network = build_network(settings)
    if name.startswith("hierarchical_deep"):
        depths = [len(part.blocks) for part in (network.sensor_transformer, network.event_transformer)]
        assert depths == [int(name.removeprefix("hierarchical_deep"))] * 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("data.max_pulse=3", "Did you mean 'max_pulses'"),
        ("data.max_pulses=0", "max_pulses"),
        ("model.network.d_modl=8", "Did you mean 'd_model'"),
        ("data.path=nowhere", "nowhere"),
    ],
)
def test_a_mistake_is_told_before_anything_is_trained(door, toy, argument, message):
    done = door(train, *SMALL, *toy, *FEW, argument)
    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err


@pytest.mark.slow
def test_a_truncated_file_is_refused_by_name_before_training(door, files):
    copy = Path("copy")
    (copy / "train").mkdir(parents=True)
    for path in [*files.glob("*.parquet"), *files.glob("*.csv"), *files.glob("train/*.parquet")]:
        (copy / path.relative_to(files)).write_bytes(path.read_bytes())
    broken = copy / "train/batch_1.parquet"
    broken.write_bytes(broken.read_bytes()[:-200])
    done = door(train, *SMALL, *FEW, "data.path=copy")
    assert done.code == 2
    assert "batch_1.parquet" in done.err
    assert "Traceback" not in done.err
    assert json_of(the_run() / "summary.json")["status"] == "failed"
    assert not list(Path("runs").rglob("*.ckpt"))
