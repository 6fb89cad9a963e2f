"""The proteins family through all doors, as the README shows it, on generated sequences and on a FASTA file."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from stablelit.evaluate import main as evaluate
from stablelit.families.proteins import decode
from stablelit.families.proteins.fasta_writer import FastaRecord, write_fasta
from stablelit.generate import main as generate
from stablelit.predict import main as predict
from stablelit.prepare import main as prepare
from stablelit.train import main as train

TINY = ["model.network.d_model=16", "model.network.blocks=1", "model.network.heads=2", "model.network.condition=8"]
SHORT = [
    "trainer=cpu",
    "trainer.max_epochs=2",
    "trainer.limit_train_batches=4",
    "model_summary=null",
    "report=false",
    "logger=none",
]
SMALL = ["+experiment=proteins", *TINY, *SHORT]
TOY = ["data.n_sequences=400", "data.length=20"]
PICTURES = {"residue_frequencies", "cross_entropy_by_mask_rate", "bound"}

pytestmark = pytest.mark.filterwarnings("ignore::stablelit.findings.FindingWarning", "ignore:.*LeafSpec:")


@pytest.fixture(autouse=True)
def home(tmp_path_factory, monkeypatch) -> Path:
    """A home folder, so that the user's own cache is left alone."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    return folder


@pytest.fixture
def fasta(tmp_path) -> Path:
    """Sequences of the user's, of lengths 8 to 60, one of them with an X."""
    rng = np.random.default_rng(0)
    letters = [decode(rng.integers(0, 20, rng.integers(8, 61))) for _ in range(120)]
    letters[3] = letters[3][:4] + "X" + letters[3][5:]
    path = tmp_path / "mine.fasta"
    write_fasta(path, (FastaRecord(f"protein_{i}", text) for i, text in enumerate(letters)))
    return path


def json_of(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


def only_run(name: str) -> Path:
    (run,) = Path("runs", name).iterdir()
    return run


@pytest.mark.slow
def test_a_run_is_trained_evaluated_generated_from_and_goes_on(door):
    done = door(train, *SMALL, *TOY)
    assert done.code == 0, done.err
    assert "bound" in done.out
    run = only_run("proteins")
    summary = json_of(run / "summary.json")
    assert {"test/nll", "test/nll_se", "test/nll_baseline", "test/nll_truth", "test/perplexity"} <= set(summary["test"])
    assert {path.stem for path in (run / "figures").glob("*.png")} >= PICTURES

    done = door(evaluate, f"run={run}")
    assert done.code == 0, done.err
    assert json_of(run / "evaluation.json")["metrics"]["test/nll"] == pytest.approx(summary["test"]["test/nll"])

    done = door(generate, f"run={run}", "n=9", "output=new.fasta", "sampler=first_hitting", "seed=4")
    assert done.code == 0, done.err
    first = Path("new.fasta").read_text(encoding="utf-8")
    assert first.count(">") == 9
    assert json_of(Path("new.json"))["length_ks"] == 0
    door(generate, f"run={run}", "n=9", "output=new.fasta", "sampler=first_hitting", "seed=4")
    assert Path("new.fasta").read_text(encoding="utf-8") == first
    done = door(generate, f"run={run}", "n=2", "output=around.fasta", "template='MK????W'")
    assert done.code == 0, done.err
    sequences = Path("around.fasta").read_text(encoding="utf-8").split("\n")[1::2]
    assert all(s.startswith("MK") and s.endswith("W") and len(s) == 7 for s in sequences if s)

    done = door(train, f"resume={run}", "trainer.max_epochs=3")
    assert done.code == 0, done.err
    assert json_of(run / "summary.json")["epochs"] == 3


@pytest.mark.slow
def test_a_fasta_file_is_trained_on_scored_and_tuned_to(door, fasta):
    ours = [f"data.path={fasta}", "data.train=0.7", "data.val=0.15", "data.test=0.15", "data.max_tokens=1024"]
    done = door(train, *SMALL, *TOY, "name=toy")
    assert done.code == 0, done.err
    toy = only_run("toy")
    # tuned to the file, from weights of the toy's
    done = door(train, *SMALL, *ours, f"weights={toy}", "name=tuned", "trainer.max_epochs=1")
    assert done.code == 0, done.err
    tuned = only_run("tuned")
    assert json_of(tuned / "summary.json")["test"]["test/nll"] > 0

    done = door(prepare, "proteins", f"path={fasta}", "output=prepared")
    assert done.code == 0, done.err
    done = door(predict, f"run={tuned}", "data.path=prepared", "output=scores.txt")
    assert done.code != 0
    assert "scores.txt" in done.err
    assert "ends in .csv" in done.err
    done = door(predict, f"run={tuned}", "data.path=prepared", "data.predict_on=all", "output=scores.csv")
    assert done.code == 0, done.err
    with Path("scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["record"] for row in rows] == [f"protein_{i}" for i in range(120)]
    lengths = {name.split()[0]: len(text) for name, text in _records(fasta)}
    for row in rows:
        assert int(row["residues"]) == lengths[row["record"]] - (row["record"] == "protein_3")
    assert all(1.5 < float(row["bound"]) < 5 for row in rows)


def _records(path: Path):
    for record in path.read_text(encoding="utf-8").split(">")[1:]:
        head, *lines = record.split("\n")
        yield head, "".join(lines)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("model.graph=absorbing", "Did you mean 'absorb'"),
        ("model/noise=linear", "loglinear"),
        ("model/network=ddit_huge", "ddit_tiny"),
        ("model.network.layers=3", "blocks"),
        ("data.corpus=motifs", "motif_hmm"),
        ("data.path=nowhere.fasta", "nowhere.fasta"),
        ("callbacks.ema.decay=2", "decay=2"),
    ],
)
def test_a_mistake_is_told_before_anything_is_trained(door, argument, message):
    done = door(train, *SMALL, *TOY, argument)
    assert done.code != 0
    assert message in done.err
    assert "Traceback" not in done.err


@pytest.mark.slow
def test_a_file_that_is_no_fasta_is_refused_by_name(door, tmp_path):
    path = tmp_path / "table.fasta"
    path.write_text("id,sequence\n1,MKV\n", encoding="utf-8")
    done = door(train, *SMALL, f"data.path={path}")
    assert done.code != 0
    assert "table.fasta" in done.err
    assert "Traceback" not in done.err


@pytest.mark.slow
def test_nothing_is_generated_by_the_post_mortems_noise(door):
    done = door(train, "+experiment=proteins_before", *TINY, *SHORT, *TOY, "trainer.max_epochs=1")
    assert done.code == 0, done.err
    done = door(generate, f"run={only_run('proteins_before')}", "n=3", "output=new.fasta")
    assert done.code != 0
    assert "leaves 44.9 % of the residues unmasked" in done.err
    assert not Path("new.fasta").exists()
