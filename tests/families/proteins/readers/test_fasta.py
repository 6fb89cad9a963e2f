from __future__ import annotations

import bz2
import gzip
import itertools
import lzma
import random
from collections import Counter

import numpy as np
import pytest

from stablelit.errors import ConfigurationError, DataError
from stablelit.families.proteins.alphabet import decode
from stablelit.families.proteins.readers import fasta
from stablelit.families.proteins.readers.fasta import FastaReader, Place
from stablelit.families.proteins.readers.policies import Policies

from .plain_fasta import plain_cleaned, plain_records


@pytest.fixture
def read(tmp_path):
    """Writes text to a file and reads it: ids and letters of the records kept, and what was counted."""

    def made(text: str | bytes, block_bytes: int = 1 << 19, **policies):
        path = tmp_path / "some.fasta"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return records_of(FastaReader(path, Policies(**policies), block_bytes))

    return made


def records_of(reader, start=None):
    records, counts = [], Counter()
    for block, _ in reader.blocks(start):
        ends = np.cumsum(block.lengths)
        letters = decode(block.tokens)
        records += [
            (name.decode(), letters[end - length : end])
            for name, end, length in zip(block.ids, ends.tolist(), block.lengths.tolist(), strict=True)
        ]
        counts.update(block.counts)
    return records, counts


MESSY = (
    "\ufeff; written by hand\n"
    "\n"
    ">a first one n=2\r\nMKV\r\n\r\nacdef\n"
    ">empty\n"
    ">b\n"
    ";a comment inside\n"
    "  10 MKVLA 20\n"
    "MKVLAMKVLA*\n"
    ">c|with > inside\nACDEFGHIKLMNPQRSTVWX\n"
    "> d spaced\nMKUOBZJACDEFGHIKLMNPQRSTVWYACDEFGHIKLMNPQRSTVWYACDEFGHIKLMNP\n"
    ">all_unknown\nXXXX\n"
    ">stops\nMKV*LAACDEFGHIKLMN**\n"
    ">a again\nM\n"
    ">last\nMKV"
)


def test_every_oddity_together_is_read_as_a_reader_of_lines_reads_it(read):
    assert read(MESSY)[0] == plain_cleaned(MESSY)


@pytest.mark.parametrize("block_bytes", [1, 2, 3, 7, 64, 200])
def test_where_blocks_end_changes_nothing(read, block_bytes):
    assert read(MESSY, block_bytes) == read(MESSY)


@pytest.mark.parametrize("ambiguous", ["unknown", "drop", "map"])
@pytest.mark.parametrize("internal_stop", ["unknown", "drop"])
@pytest.mark.parametrize(("max_bad_fraction", "min_length"), [(0.0, 1), (0.1, 9), (1.0, 1)])
def test_policies_are_those_of_a_reader_of_lines(read, ambiguous, internal_stop, max_bad_fraction, min_length):
    chosen = {
        "ambiguous": ambiguous,
        "internal_stop": internal_stop,
        "max_bad_fraction": max_bad_fraction,
        "min_length": min_length,
    }
    assert read(MESSY, **chosen)[0] == plain_cleaned(MESSY, **chosen)


def test_random_files_are_read_as_a_reader_of_lines_reads_them(read):
    rng = random.Random(0)
    for _ in range(100):
        lines = []
        for _ in range(rng.randrange(1, 8)):
            lines.append(rng.choice([">", "> ", ">id", ">id two > words", ">x;y"]) + str(rng.randrange(5)))
            for _ in range(rng.randrange(4)):
                line = "".join(rng.choice("ACDEFGHIKLMNPQRSTVWYacdxbzuojX*-. 19") for _ in range(rng.randrange(12)))
                lines.append(rng.choice(["", "", ";"]) + line)
        text = "".join(line + rng.choice(["\n", "\n", "\r\n", "\n\n"]) for line in lines)
        text = text if rng.random() < 0.5 else text.rstrip("\r\n")
        chosen = {
            "ambiguous": rng.choice(["unknown", "drop", "map"]),
            "internal_stop": rng.choice(["unknown", "drop"]),
            "max_bad_fraction": rng.choice([0.0, 0.1, 0.5, 1.0]),
            "min_length": rng.choice([1, 4]),
        }
        records, counts = read(text, rng.choice([1, 5, 17, 1000]), gaps="strip", **chosen)
        assert records == plain_cleaned(text, **chosen), (text, chosen)
        dropped = sum(n for name, n in counts.items() if name.startswith("dropped_"))
        assert counts["records"] == len(plain_records(text)) == counts["kept"] + dropped, (text, chosen)


def test_carriage_returns_are_not_of_the_sequence(read):
    assert read(">a\r\nMKV\r\nACD\r\n>b\r\nM\r\n") == read(">a\nMKV\nACD\n>b\nM\n")


def test_the_last_line_needs_no_end(read):
    assert read(">a\nMKV")[0] == [("a", "MKV")]
    assert read(">a\nMKV\r")[0] == [("a", "MKV")]


def test_headers_alone_are_empty_records_and_counted(read):
    records, counts = read(">a\n>b\nMKV\n>c\n\n>d")
    assert records == [("b", "MKV")]
    assert (counts["records"], counts["kept"], counts["dropped_empty"]) == (4, 1, 3)


def test_a_file_of_headers_alone_has_no_record_left(read):
    records, counts = read(">a\n>b")
    assert records == []
    assert counts["dropped_empty"] == 2


def test_what_was_changed_is_counted(read):
    _, counts = read(">a\nMK 10\nV-*L*X\n>b\nMU\n;c\n>\nM\n", gaps="strip", max_bad_fraction=1.0)
    told = {name: counts[name] for name in ("stripped_characters", "stripped_gaps", "terminal_stops", "internal_stops")}
    # of "MK10V*L*X" the stops are inside: X is behind them
    assert told == {"stripped_characters": 3, "stripped_gaps": 1, "terminal_stops": 0, "internal_stops": 2}
    assert (counts["letter_X"], counts["letter_U"], counts["comments"], counts["without_id"]) == (1, 1, 1, 1)
    assert (counts["unknown"], counts["residues"]) == (4, 10)


def test_stops_at_the_end_are_taken_away_also_behind_blanks_and_ends_of_lines(read):
    records, counts = read(">a\nMKV*\n*  \n>b\nM*")
    assert records == [("a", "MKV"), ("b", "M")]
    assert counts["terminal_stops"] == 3


def test_gaps_are_refused_as_an_alignment_unless_they_are_to_be_stripped(read):
    text = ">a\nMKV\n>b\n;c\nMKVLA\nMK-V\n"
    with pytest.raises(DataError, match=r"some\.fasta: line 6 \(record 2, 'b'\), column 3: '-' is a gap.*alignment"):
        read(text)
    records, counts = read(text, gaps="strip")
    assert records == [("a", "MKV"), ("b", "MKVLAMKV")]
    assert counts["stripped_gaps"] == 1


def test_a_stop_inside_can_be_an_error(read):
    with pytest.raises(DataError, match=r"line 2 \(record 1, 'a'\), column 3: '\*' stands inside"):
        read(">a\nMK*V\n", internal_stop="error")
    with pytest.raises(DataError, match=r"line 5 \(record 2, 'b'\), column 4: '\*' stands inside"):
        read(">a\nMKV*\n>b\n;*\nMKV*\nMKV*\n", internal_stop="error")
    assert read(">a\nMKV*\n", internal_stop="error")[0] == [("a", "MKV")]


@pytest.mark.parametrize("bad", ["@", ">", "#", "+", "\x00", "é"])
@pytest.mark.parametrize("block_bytes", [3, 1000])
def test_what_is_no_residue_is_refused_by_line_and_record(read, bad, block_bytes):
    with pytest.raises(DataError, match=r"line 6 \(record 3, 'c'\), column 3: .* is no residue"):
        read(f">a\nMKV\n>b\n\n>c\nMK{bad}V\n>d\nM\n", block_bytes)


def test_lines_that_end_in_carriage_returns_alone_are_refused(read):
    with pytest.raises(DataError, match=r"line 3: lines end in CR alone"):
        read(">a\nMKV\n>b\rMKV\r>c\rMKV")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("@read1\nACGT\n+\nIIII\n", "line 1: is '@read1'.*FASTQ"),
        ("\n\n<html><body>404</body>", "line 3: is '<html>.*web page"),
        ("LOCUS  AB123", "GenBank"),
        ("MKVLA\n>a\nMKV\n", "line 1: is 'MKVLA'"),
        ("; comment\n\n", "no line begins with '>'"),
        ("x" * 1000, "line 1: is 'x"),
        (b"\x93NUMPY\x01\x00", "line 1: is "),
        (b"\xff\xfe>\x00a\x00", "UTF-16"),
        (b"PK\x03\x04....", "zip"),
        (b"\x28\xb5\x2f\xfd....", "zstd"),
    ],
)
def test_a_file_that_is_not_fasta_is_refused_with_what_is_there(read, text, told):
    for block_bytes in (1, 7, 10_000):
        with pytest.raises(DataError, match=told):
            read(text, block_bytes)


@pytest.mark.parametrize("open_packed", [gzip.open, bz2.open, lzma.open])
def test_packed_files_are_told_by_their_first_bytes_not_by_their_name(tmp_path, open_packed):
    path = tmp_path / "named_plainly.fasta"
    with open_packed(path, "wt", newline="") as file:
        file.write(MESSY)
    assert records_of(FastaReader(path, block_bytes=16))[0] == plain_cleaned(MESSY)


def test_a_plain_file_may_be_named_as_a_packed_one(tmp_path):
    path = tmp_path / "plain.fasta.gz"
    path.write_text(">a\nMKV\n")
    assert records_of(FastaReader(path))[0] == [("a", "MKV")]


@pytest.mark.parametrize("open_packed", [gzip.open, bz2.open, lzma.open])
def test_a_packed_file_that_was_cut_short_is_refused_with_the_record(tmp_path, open_packed):
    path, rng = tmp_path / "cut.fasta.gz", random.Random(0)
    with open_packed(path, "wt") as file:
        for i in range(1200):
            file.write(f">{i}\n{''.join(rng.choices('ACDEFGHIKLMNPQRSTVWY', k=200))}\n")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"cut\.fasta\.gz: the (gzip|bzip2|xz) file is cut short behind record \d+"):
        records_of(FastaReader(path, block_bytes=1000))


def test_a_packed_file_that_is_damaged_is_refused(tmp_path):
    path = tmp_path / "bad.fasta.gz"
    packed = bytearray(gzip.compress(b">a\n" + b"MKVLA" * 2000))
    packed[len(packed) // 2] ^= 0xFF
    path.write_bytes(packed)
    with pytest.raises(DataError, match=r"bad\.fasta\.gz: the gzip file is damaged"):
        records_of(FastaReader(path))


def test_a_record_of_forty_thousand_residues_is_one_record_whatever_the_block(read):
    rng = random.Random(1)
    letters = "".join(rng.choices("ACDEFGHIKLMNPQRSTVWY", k=40_000))
    wrapped = "\n".join(letters[at : at + 60] for at in range(0, len(letters), 60))
    for text in (f">titin\n{letters}\n>b\nMKV", f">titin\n{wrapped}\n>b\nMKV"):
        assert read(text, 1000)[0] == [("titin", letters), ("b", "MKV")]


def test_a_record_too_long_for_a_protein_is_refused_before_memory_is_full(read, monkeypatch):
    monkeypatch.setattr(fasta, "MAX_RECORD_BYTES", 1 << 20)
    with pytest.raises(DataError, match=r"line 3 \(record 2, 'chr1'\): the record has more than 1 MB"):
        read(b">a\nMKV\n>chr1\n" + b"ACGT" * (1 << 19), 1 << 16)


def test_reading_can_go_on_where_a_block_ended(tmp_path):
    path = tmp_path / "some.fasta"
    path.write_text(MESSY, newline="")
    packed = tmp_path / "some.fasta.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    for reader in (FastaReader(path, block_bytes=30), FastaReader(packed, block_bytes=30)):
        places = [place for _, place in reader.blocks()]
        assert len(places) > 4
        whole = records_of(reader)[0]
        for n, place in enumerate(places, start=1):
            begun = [pair for block, _ in itertools.islice(reader.blocks(), n) for pair in block.ids]
            rest, counts = records_of(reader, place)
            assert [name for name, _ in whole] == [i.decode() for i in begun] + [name for name, _ in rest]
            assert place.record + counts["records"] == places[-1].record == len(plain_records(MESSY))
        assert places[-1] == Place(len(path.read_bytes()), path.read_bytes().count(b"\n"), len(plain_records(MESSY)))


@pytest.mark.parametrize("block_bytes", [1, 30, 10_000])
def test_reading_can_end_behind_so_many_kept_records(tmp_path, block_bytes):
    path = tmp_path / "some.fasta"
    path.write_text(MESSY, newline="")
    every = plain_cleaned(MESSY)
    for most in range(1, len(every) + 2):
        blocks = list(FastaReader(path, block_bytes=block_bytes).blocks(most=most))
        names = [name.decode() for block, _ in blocks for name in block.ids]
        assert names == [name for name, _ in every[:most]]
        read = sum(block.counts["records"] for block, _ in blocks)
        if most <= len(every):
            # the last record that was read is the last one kept
            cut = "".join(f">{name}\n{text}\n" for name, text in plain_records(MESSY)[:read])
            assert len(plain_cleaned(cut)) == most
            assert plain_records(MESSY)[read - 1][0] == names[-1]
        assert blocks[-1][1].record == read


def test_errors_behind_a_resume_name_the_line_of_the_whole_file(tmp_path):
    path = tmp_path / "some.fasta"
    path.write_text(">a\nMKV\n>b\nMKV\n>c\nMK@V\n")
    reader = FastaReader(path, block_bytes=8)
    _, place = next(reader.blocks())
    with pytest.raises(DataError, match=r"line 6 \(record 3, 'c'\), column 3"):
        records_of(reader, place)


def test_real_proteins_are_read_completely(test_data):
    path = test_data / "proteins" / "trembl_100.fasta"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    records, counts = records_of(FastaReader(path, block_bytes=5000))
    assert records == plain_cleaned(path.read_text())
    assert (len(records), counts["records"]) == (100, 100)
    assert records[0][0] == "tr|A7TBS3|A7TBS3_NEMVE"


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("ambiguous", "mask"),
        ("gaps", "drop"),
        ("internal_stop", True),
        ("max_bad_fraction", 1.5),
        ("max_bad_fraction", "0.1"),
        ("min_length", 0),
    ],
)
def test_policies_outside_their_range_are_refused(argument, value):
    with pytest.raises(ConfigurationError, match=argument):
        Policies(**{argument: value})


def test_a_missing_an_empty_file_and_a_folder_are_refused(tmp_path):
    (tmp_path / "empty.fasta").touch()
    for path in (tmp_path / "nothing.fasta", tmp_path / "empty.fasta", tmp_path):
        with pytest.raises(DataError, match=str(path)):
            FastaReader(path)


@pytest.mark.parametrize(
    "front", [b"\n", b" \t\r\n", b"; a comment\n", b";\n"], ids=["empty", "blank", "comment", "mark"]
)
@pytest.mark.parametrize("block", [1, 7, 64])
def test_what_stands_in_front_of_the_first_record_is_passed_and_its_lines_are_counted(tmp_path, front, block):
    (tmp_path / "a.fasta").write_bytes(b"\xef\xbb\xbf" + front * 9 + b">a\nMK!\n")
    with pytest.raises(DataError, match=r"a\.fasta: line 11 \(record 1, 'a'\), column 3"):
        list(FastaReader(tmp_path / "a.fasta", block_bytes=block).blocks())


def test_a_front_without_an_end_is_passed_in_little_memory_and_once(tmp_path, monkeypatch):
    # a gzip of 6 kB: 6 MB of empty lines, 12 blocks. Read from the beginning for each block they take far longer
    (tmp_path / "a.fasta.gz").write_bytes(gzip.compress(b"\n" * 6_000_000 + b">a\nMK\n", 1))
    seen = []
    passed = FastaReader._from_first_record
    monkeypatch.setattr(
        FastaReader, "_from_first_record", lambda self, text, ended: seen.append(len(text)) or passed(self, text, ended)
    )
    (block, place), *_ = FastaReader(tmp_path / "a.fasta.gz").blocks()
    assert block.ids == [b"a"]
    assert place.line == 6_000_002
    assert max(seen) <= 2 * fasta.BLOCK_BYTES


@pytest.mark.parametrize(
    "text", [b";" + b"x" * 5000, b" " * 5000, b">" + b" " * 5000], ids=["comment", "blank", "header"]
)
def test_a_line_without_an_end_is_refused_when_it_is_longer_than_any_record(tmp_path, monkeypatch, text):
    monkeypatch.setattr(fasta, "MAX_RECORD_BYTES", 1000)
    (tmp_path / "a.fasta").write_bytes(text)
    with pytest.raises(DataError, match=r"line 1.*has more than 0 MB"):
        list(FastaReader(tmp_path / "a.fasta", block_bytes=64).blocks())
