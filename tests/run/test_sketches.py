"""The sketches family through all doors, as the README shows it, on generated sketches and on a folder of pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stablelit.evaluate import main as evaluate
from stablelit.predict import main as predict
from stablelit.probe import main as probe
from stablelit.train import main as train

SMALL = ["trainer=cpu", "model_summary=null", "report=false", "logger=none", "data.size=16", "model.encoder.width=8"]
FEW = ["data.n_classes=30", "data.per_class=8"]
PRETRAINING = ["+experiment=sketches", *SMALL, *FEW, "data.batch_size=24", "trainer.max_epochs=1"]

pytestmark = pytest.mark.filterwarnings("ignore::stablelit.findings.FindingWarning", "ignore:.*LeafSpec:")


def the_run(name: str = "sketches") -> Path:
    return sorted(Path("runs", name).iterdir())[-1]


def json_of(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def findings_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "findings.jsonl").read_text().splitlines()]


@pytest.fixture
def own(tmp_path) -> Path:
    """Somebody's own pictures: dark lines on white paper, a folder a class."""
    rng = np.random.default_rng(0)
    for k, name in enumerate(("bar", "box", "cross")):
        (tmp_path / "own" / name).mkdir(parents=True)
        for i in range(10):
            page = np.full((40, 40), 255, dtype=np.uint8)
            x, y = rng.integers(4, 16, 2)
            page[y : y + 3 + 6 * k, x : x + 20 - 5 * k] = 0
            Image.fromarray(page).save(tmp_path / "own" / name / f"{i}.png")
    return tmp_path / "own"


@pytest.mark.slow
def test_a_run_is_trained_evaluated_embedded_probed_and_goes_on(door, own):
    done = door(train, *PRETRAINING)
    assert done.code == 0, done.err
    run = the_run()
    summary = json_of(run / "summary.json")
    assert summary["data"]["source"].startswith("TOY")
    scores = summary["test"]
    for name in ("few_shot_5w1s", "knn_top1", "linear_top1"):
        assert {f"test/{name}", f"test/{name}_baseline", f"test/{name}_chance"} <= set(scores)
    assert "(95 %)" in done.out
    assert "chance 0.2" in done.out
    assert {path.stem for path in (run / "figures").glob("*.png")} >= {"view_pairs", "embedding_map", "loss"}
    weights = torch.load(run / "encoder.pt", weights_only=True)
    assert weights["part"] == "encoder"

    done = door(evaluate, f"run={run}")
    assert done.code == 0, done.err
    again = json_of(run / "evaluation.json")["metrics"]
    assert again["test/few_shot_5w1s"] == pytest.approx(scores["test/few_shot_5w1s"])

    done = door(predict, f"run={run}", "output=h.npz")
    assert done.code == 0, done.err
    with np.load("h.npz") as file:
        assert file["embedding"].shape == (48, 8)
        assert sorted(file["id"].tolist()) == sorted(json_of(run / "splits.json")["test"])

    done = door(probe, f"run={run}", f"path={own}")
    assert done.code == 0, done.err
    assert "linear_top1" in done.out
    assert "chance 0.33" in done.out

    done = door(train, f"resume={run}", "trainer.max_epochs=2")
    assert done.code == 0, done.err
    assert json_of(run / "summary.json")["epochs"] == 2


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory) -> Path:
    """A pre-training that is long enough to be seen, for what begins with one."""
    folder = tmp_path_factory.mktemp("pretrained")
    longer = ["trainer.max_epochs=12", "data.n_classes=60", "test=false"]
    assert train([*PRETRAINING, *longer, f"runs={folder}"]) == 0
    (run,) = (folder / "sketches").iterdir()
    return run


FEW_SHOT = ["+experiment=sketches_fewshot", *SMALL, *FEW, "data.n_way=5", "data.n_episodes=3", "trainer.max_epochs=1"]


@pytest.mark.slow
def test_few_shot_begins_with_the_pretrained_encoder_and_says_what_it_is_worth(door, pretrained):
    done = door(train, *FEW_SHOT, f"model.encoder_from={pretrained}")
    assert done.code == 0, done.err
    assert "untrained one" in done.out
    assert "chance 0.2" in done.out
    scores = json_of(the_run("sketches_fewshot") / "summary.json")["test"]
    assert scores["test/few_shot_accuracy_chance"] == pytest.approx(0.2)
    assert scores["test/few_shot_accuracy_interval"] > 0


@pytest.mark.slow
def test_an_encoder_that_has_learned_nothing_is_stopped_at_the_gate(door, pretrained):
    blank = torch.load(pretrained / "encoder.pt", weights_only=True)
    blank["state_dict"] = {name: torch.zeros_like(value) for name, value in blank["state_dict"].items()}
    torch.save(blank, "blank.pt")
    done = door(train, *FEW_SHOT, "model.encoder_from=blank.pt", "model.gate=raise")
    assert done.code != 0
    assert findings_of(the_run("sketches_fewshot"))[0]["name"] == "pretraining-did-nothing"
    assert not list(the_run("sketches_fewshot").rglob("*.ckpt"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("data.sise=16", "Did you mean 'size'"),
        ("data.batch_size=1", "batch_size"),
        ("model.temperature=0", "temperature"),
        ("model.encoder.widht=3", "Did you mean 'width'"),
        ("data.path=nowhere", "nowhere"),
        ("data={train:[nobody],val:[drawn-0001],test:[drawn-0002]}", "nobody"),
    ],
)
def test_a_mistake_is_told_before_anything_is_trained(door, argument, message):
    done = door(train, *PRETRAINING, argument)
    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err


@pytest.mark.slow
def test_more_ways_than_classes_are_told_before_anything_is_trained(door):
    done = door(train, *FEW_SHOT, "data.n_way=40", "model.encoder_from=null")
    assert done.code == 2
    assert "40" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["path=there"], "Which run?"),
        (["run=nowhere", "path=there"], "no such run directory"),
    ],
)
def test_a_probe_says_what_it_needs(door, arguments, message):
    done = door(probe, *arguments)
    assert done.code == 2
    assert message in done.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("experiment", "batch_size", "says"),
    [
        ("sketches_before", 32, {"blank-input"}),
        ("sketches_after", 128, {"blank-input"}),
        ("sketches_accumulated", 64, {"blank-input", "accumulation-adds-no-negatives"}),
    ],
)
def test_the_post_mortem_stands_at_chance_and_the_monitor_says_why(door, experiment, batch_size, says):
    done = door(
        train,
        f"+experiment={experiment}",
        "model_summary=null",
        "report=false",
        "logger=none",
        "model.encoder.width=4",
        "test=false",
    )
    assert done.code == 0, done.err
    run = the_run(experiment)
    # the doctor sees at once that all inputs are equal, and why when the monitor has said it
    assert {finding["name"] for finding in findings_of(run)} == says | {"input-constant"}
    last = json.loads((run / "history.jsonl").read_text().splitlines()[-1])
    assert last["train/loss"] == pytest.approx(np.log(2 * batch_size - 1), abs=2e-4)
