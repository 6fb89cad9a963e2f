from __future__ import annotations

import numpy as np
import pytest

from stablelit.errors import ConfigurationError, DataError
from stablelit.families.proteins.alphabet import decode, encode
from stablelit.families.proteins.fasta_writer import FastaRecord, write_fasta
from stablelit.families.proteins.readers.fasta import FastaReader

LONG = "ACDEFGHIKLMNPQRSTVWY" * 7


def test_what_is_written_is_read_again(tmp_path):
    records = [
        FastaRecord("one", LONG, {"seed": 3, "bound": 2.25, "sampler": "tau leaping"}),
        FastaRecord("two", np.append(encode("MKX"), [21, 21])),
    ]
    assert write_fasta(tmp_path / "made.fasta", iter(records)) == 2
    block, _ = next(FastaReader(tmp_path / "made.fasta").blocks())
    assert block.ids == [b"one"]
    assert decode(block.tokens) == LONG
    lines = (tmp_path / "made.fasta").read_text().splitlines()
    assert lines[0] == ">one seed=3 bound=2.25 sampler=tau leaping"
    assert [len(line) for line in lines[1:4]] == [60, 60, 20]
    assert lines[4:] == [">two", "MKX"]


def test_a_file_is_there_whole_or_not_at_all(tmp_path):
    path = tmp_path / "made.fasta"
    path.write_text("before")

    def breaks():
        yield FastaRecord("one", "MKV")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_fasta(path, breaks())
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["made.fasta"]


@pytest.mark.parametrize(
    ("record", "told"),
    [
        (FastaRecord("two words", "MKV"), "record 2: the identifier 'two words'"),
        (FastaRecord("", "MKV"), "record 2: the identifier ''"),
        (FastaRecord("a", ""), "record 2: the sequence is empty"),
        (FastaRecord("a", "MK-"), "record 2: .*position 3"),
        (FastaRecord("a", [3, 99]), "record 2: .*99 at place 1"),
        (FastaRecord("a", "MKV", {"a b": 1}), "record 2: metadata 'a b'"),
        (FastaRecord("a", "MKV", {"note": "one\ntwo"}), "record 2: metadata 'note'"),
    ],
)
def test_what_would_break_the_file_is_refused_by_its_number(tmp_path, record, told):
    with pytest.raises(DataError, match=told):
        write_fasta(tmp_path / "made.fasta", [FastaRecord("fine", "MKV"), record])


def test_a_folder_and_lines_without_letters_are_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="a file, not a folder"):
        write_fasta(tmp_path, [])
    with pytest.raises(ConfigurationError, match="line=0"):
        write_fasta(tmp_path / "made.fasta", [], line=0)
