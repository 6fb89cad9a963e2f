from __future__ import annotations

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from stablelit.errors import ConfigurationError, DataError
from stablelit.families.proteins import preparation
from stablelit.families.proteins.alphabet import AMINO_ACIDS, decode
from stablelit.families.proteins.preparation import prepare
from stablelit.families.proteins.readers.fasta import FastaReader
from stablelit.families.proteins.splits import buckets_of_ids
from stablelit.families.proteins.store import SequenceStore
from stablelit.prepare import main

from .readers.plain_fasta import plain_cleaned

REPO = Path(__file__).resolve().parents[3]


@pytest.fixture
def fasta(tmp_path) -> Path:
    """Three hundred records, some of them odd."""
    rng, lines = random.Random(0), []
    for i in range(300):
        lines.append(f">P{i % 290:05d} protein {i}")
        letters = "".join(rng.choices(AMINO_ACIDS + "X", k=rng.randrange(0, 40)))
        lines += [letters[at : at + 10] for at in range(0, len(letters), 10)]
    path = tmp_path / "some.fasta"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def small_steps(monkeypatch):
    """A moment is noted behind each of many small blocks."""
    monkeypatch.setattr(preparation, "_COMMIT_BYTES", 1)
    monkeypatch.setattr(preparation, "FastaReader", lambda path, policies: FastaReader(path, policies, 200))


def interrupted(after=0, of=None):
    """A function that does what another does a few times, and is then interrupted."""
    left = [after]

    def call(*args):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        of(*args)

    return call


def records(store):
    return [(store.sequence_id(row), decode(store[row])) for row in range(len(store))]


def files_of(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def test_a_store_has_the_records_of_the_file_in_its_order(fasta, tmp_path):
    done = prepare(str(fasta), str(tmp_path / "store"))
    store, wanted = SequenceStore(tmp_path / "store"), plain_cleaned(fasta.read_text())
    assert records(store) == wanted
    assert store.buckets.tolist() == buckets_of_ids([name.encode() for name, _ in wanted]).tolist()
    assert (done["n_sequences"], done["n_records"]) == (len(wanted), 300)
    assert done["n_residues"] == sum(len(letters) for _, letters in wanted)
    assert done["bytes"] == sum(len(data) for data in files_of(tmp_path / "store").values())
    assert sorted(files_of(tmp_path / "store")) == [
        "buckets.npy",
        "id_offsets.npy",
        "ids.bin",
        "meta.json",
        "offsets.npy",
        "tokens.bin",
    ]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_what_was_dropped_and_changed_is_counted_and_said(fasta, tmp_path, capsys):
    prepare(str(fasta), str(tmp_path / "store"), min_length=5)
    meta = SequenceStore(tmp_path / "store").meta
    wanted = plain_cleaned(fasta.read_text(), min_length=5)
    letters = "".join(text for _, text in wanted)
    counts = meta["counts"]
    dropped = sum(n for name, n in counts.items() if name.startswith("dropped_"))
    assert counts["records"] == 300 == counts["kept"] + dropped
    assert counts["duplicate_ids"] == len(wanted) - len({name for name, _ in wanted})
    assert meta["residues"] == {letter: letters.count(letter) for letter in AMINO_ACIDS + "X"}
    share = np.array([letters.count(letter) for letter in AMINO_ACIDS]) / sum(a != "X" for a in letters)
    assert meta["unigram_entropy"] == pytest.approx(-(share * np.log(share)).sum())
    out = capsys.readouterr().out
    assert f"dropped {counts['dropped_empty']} records without a residue (the first is 'P" in out
    assert f"dropped {counts['dropped_short']} records with fewer than min_length=5" in out
    assert "of which more than max_bad_fraction=0.1 is unknown" in out
    assert f"{counts['duplicate_ids']} records have the id of an earlier one" in out
    repeated = meta["first"]["duplicate_ids"]
    assert [name for name, _ in wanted].count(repeated) == 2


def test_dna_is_not_taken_for_proteins_in_silence(fasta, tmp_path, capsys):
    prepare(str(fasta), str(tmp_path / "proteins"))
    assert "nucleotides" not in capsys.readouterr().out
    dna = tmp_path / "dna.fasta"
    dna.write_text(">gene\n" + "ACGTTGCAAN" * 20 + "\n>protein\nMKVLW\n")
    prepare(str(dna), str(tmp_path / "dna"))
    assert "97.6 % of the residues are A, C, G, T or N. Are they nucleotides?" in capsys.readouterr().out


def test_a_limit_takes_the_first_sequences_and_counts_no_others(fasta, tmp_path):
    done = prepare(str(fasta), str(tmp_path / "store"), limit=17)
    store = SequenceStore(tmp_path / "store")
    assert records(store) == plain_cleaned(fasta.read_text())[:17]
    counts = store.meta["counts"]
    dropped = sum(n for name, n in counts.items() if name.startswith("dropped_"))
    assert counts["records"] == counts["kept"] + dropped
    assert sum(store.meta["residues"].values()) == counts["residues"] == done["n_residues"] == len(store.tokens)
    assert counts["unknown"] == store.meta["residues"]["X"] == int((store.tokens == 20).sum())


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("limit", [None, 150])
def test_a_preparation_that_was_interrupted_anywhere_goes_on_and_makes_the_same(
    fasta, tmp_path, monkeypatch, packed, limit
):
    if packed:
        fasta = fasta.with_suffix(".fasta.gz")
        fasta.write_bytes(gzip.compress((tmp_path / "some.fasta").read_bytes(), mtime=0))
    appended, calls = preparation._append, []
    monkeypatch.setattr(preparation, "_append", lambda *args: (calls.append(1), appended(*args)))
    prepare(str(fasta), str(tmp_path / "whole"), limit=limit)
    in_one_go = len(calls)
    for number in (1, 4, 13):
        monkeypatch.setattr(preparation, "_append", interrupted(after=number, of=appended))
        with pytest.raises(KeyboardInterrupt):
            prepare(str(fasta), str(tmp_path / "resumed"), limit=limit)
        assert not (tmp_path / "resumed").exists()
    calls.clear()
    monkeypatch.setattr(preparation, "_append", lambda *args: (calls.append(1), appended(*args)))
    prepare(str(fasta), str(tmp_path / "resumed"), limit=limit)
    # blocks need not end in the same places
    assert len(calls) <= in_one_go - 12
    assert files_of(tmp_path / "resumed") == files_of(tmp_path / "whole")


@pytest.mark.parametrize("at", ["describe_file", "count_duplicates", "_write_offsets"])
def test_a_kill_while_it_is_finished_loses_nothing(fasta, tmp_path, monkeypatch, at):
    prepare(str(fasta), str(tmp_path / "whole"))
    for owner, attribute in (("stablelit.families.proteins.store_writer", at), ("pathlib.Path", "rename")):
        with monkeypatch.context() as patched:
            patched.setattr(f"{owner}.{attribute}", interrupted())
            with pytest.raises(KeyboardInterrupt):
                prepare(str(fasta), str(tmp_path / "resumed"))
    prepare(str(fasta), str(tmp_path / "resumed"))
    assert files_of(tmp_path / "resumed") == files_of(tmp_path / "whole")


def test_what_other_settings_left_is_not_gone_on_with(fasta, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patched:
        patched.setattr(preparation, "finish_store", interrupted())
        with pytest.raises(KeyboardInterrupt):
            prepare(str(fasta), str(tmp_path / "store"), ambiguous="map")
    prepare(str(fasta), str(tmp_path / "store"), min_length=5)
    assert "with other settings; begins anew" in capsys.readouterr().out
    assert records(SequenceStore(tmp_path / "store")) == plain_cleaned(fasta.read_text(), min_length=5)


def test_ids_need_not_be_kept(fasta, tmp_path):
    prepare(str(fasta), str(tmp_path / "store"), ids=False)
    store = SequenceStore(tmp_path / "store")
    assert len(store) == len(plain_cleaned(fasta.read_text()))
    assert sorted(files_of(tmp_path / "store")) == ["buckets.npy", "meta.json", "offsets.npy", "tokens.bin"]
    with pytest.raises(DataError, match="has no ids"):
        store.sequence_id(0)


def test_a_file_of_which_nothing_is_left_is_refused_with_the_reasons(tmp_path):
    path = tmp_path / "x.fasta"
    path.write_text(">a\n>b\nXXX\n")
    with pytest.raises(DataError, match=r"x\.fasta: no sequence is left of 2 records: 1 without a residue, 1 of which"):
        prepare(str(path), str(tmp_path / "store"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.fasta"]


def test_a_file_that_cannot_be_used_leaves_nothing_behind(fasta, tmp_path):
    fasta.write_text(fasta.read_text() + "\n>bad\nMK@V\n")
    with pytest.raises(DataError, match="record 301, 'bad'"):
        prepare(str(fasta), str(tmp_path / "store"))
    assert [p.name for p in tmp_path.iterdir()] == ["some.fasta"]


def test_the_door_prepares_proteins(fasta, tmp_path, capsys):
    assert main(["proteins", f"path={fasta}", "output=store", "min_length=5", "ids=false"]) == 0
    assert "n_sequences" in capsys.readouterr().out
    assert SequenceStore(tmp_path / "store").meta["policies"]["min_length"] == 5
    assert main(["proteins", f"path={fasta}", "output=other", "gaps=drop"]) == 2
    assert "gaps='drop'" in capsys.readouterr().err


def test_a_folder_that_is_there_is_not_written_into(fasta, tmp_path):
    with pytest.raises(ConfigurationError, match="is there already"):
        prepare(str(fasta), str(tmp_path))


def test_what_else_lies_where_the_work_would_is_left_alone(fasta, tmp_path):
    (tmp_path / ".store-unfinished").mkdir()
    (tmp_path / ".store-unfinished" / "thesis.tex").write_text("all of it")
    with pytest.raises(ConfigurationError, match="is there already and has no journal"):
        prepare(str(fasta), str(tmp_path / "store"))
    assert (tmp_path / ".store-unfinished" / "thesis.tex").read_text() == "all of it"


def test_an_empty_folder_is_taken(fasta, tmp_path):
    (tmp_path / "store").mkdir()
    prepare(str(fasta), str(tmp_path / "store"))
    assert len(SequenceStore(tmp_path / "store")) > 0


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(fasta, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 100}))
    with pytest.raises(ConfigurationError, match="GB are free at"):
        prepare(str(fasta), str(tmp_path / "store"))


@pytest.mark.parametrize(
    ("argument", "value"),
    [("limit", 0), ("ids", "yes"), ("ambiguous", "X"), ("max_bad_fraction", 2), ("min_length", 0)],
)
def test_arguments_outside_their_range_are_refused(fasta, tmp_path, argument, value):
    with pytest.raises(ConfigurationError, match=argument):
        prepare(str(fasta), str(tmp_path / "store"), **{argument: value})


@pytest.mark.slow
def test_a_process_that_is_killed_goes_on_when_it_is_started_again(tmp_path):
    big = tmp_path / "big.fasta"
    big.write_bytes(b"".join(b">P%d\n%s\n" % (i, b"ACDEFGHIKL" * (100 + i % 7)) for i in range(45_000)))
    command = [sys.executable, "-m", "stablelit.prepare", "proteins", f"path={big}", "output=store"]
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
    journal = tmp_path / ".store-unfinished" / "journal.jsonl"
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if journal.is_file() and journal.read_text().count("\n") > 1:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert json.loads(journal.read_text().splitlines()[1])["state"]["counts"]["records"] > 0
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert "where it was interrupted" in done.stdout
    prepare(str(big), str(tmp_path / "whole"))
    assert files_of(tmp_path / "store") == files_of(tmp_path / "whole")
