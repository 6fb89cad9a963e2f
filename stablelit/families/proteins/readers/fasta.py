"""FASTA: a stream of cleaned records in blocks, in memory that does not grow with the file.

A record is a line that begins with ``>``, of which the first word is the id, and lines of letters up to the next one.
Lines that begin with ``;`` are comments. Lines may end in CR LF, the last one in nothing; blank ones do not count.
Lower case (soft masking) is upper case, digits and blanks are taken away and counted, and `policies` has the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from stablelit.errors import DataError
from stablelit.families.proteins.readers.byte_stream import ByteStream
from stablelit.families.proteins.readers.policies import Policies
from stablelit.families.proteins.readers.record_block import NotASequence, RecordBlock, cleaned
from stablelit.functional.schedules import check_count

BLOCK_BYTES = 1 << 19
MAX_RECORD_BYTES = 1 << 24
"""The longest known protein has 45,212 residues; a record of 16 MB is a chromosome, or the file is something else."""

_BOM = b"\xef\xbb\xbf"
_IN_FRONT = re.compile(rb"(?:\s*\n|;[^\n]*\n)*")
_COMMENT = re.compile(rb"^;[^\n]*\n?", re.MULTILINE)
_NEWLINE, _BEGIN = ord("\n"), ord(">")
_SHOWN = 60
_LOOKS_LIKE = (
    (b"@", "a FASTQ file"),
    (b"# STOCKHOLM", "a Stockholm alignment"),
    (b"CLUSTAL", "a Clustal alignment"),
    (b"LOCUS ", "a GenBank file"),
    (b"ID   ", "a UniProt flat file"),
    (b"HEADER ", "a PDB file"),
    (b"<", "XML or a web page (an error page that was saved as the file?)"),
    (b"{", "JSON"),
)


@dataclass(frozen=True)
class Place:
    """How far a file has been read.

    Args:
        offset: bytes, unpacked.
        line: lines.
        record: records.
    """

    offset: int = 0
    line: int = 0
    record: int = 0


class FastaReader:
    """Reads a FASTA file from beginning to end, or from a place where a block of it ended.

    Args:
        path: of the file: plain, gzip, bzip2 or xz, told by its first bytes.
        policies: how sequences are cleaned.
        block_bytes: read at a time; memory is some ten times that.

    Raises:
        ConfigurationError: no number of bytes.
        DataError: no such file; while reading, whatever is no FASTA, with line and record.

    Example:
        >>> reader = FastaReader("proteins.fasta.gz")  # doctest: +SKIP
        >>> sum(len(block.ids) for block, place in reader.blocks())  # doctest: +SKIP
        100
    """

    def __init__(self, path: str | Path, policies: Policies | None = None, block_bytes: int = BLOCK_BYTES) -> None:
        self.stream = ByteStream(path)
        self.path = self.stream.path
        self.policies = Policies() if policies is None else policies
        self.block_bytes = check_count("FastaReader", "block_bytes", block_bytes, 1)
        self._place = self._passed = Place()

    def blocks(self, start: Place | None = None, most: int | None = None) -> Iterator[tuple[RecordBlock, Place]]:
        """Blocks of records, and for each the place behind it, from which another reader can go on.

        Args:
            start: such a place; None is the beginning.
            most: ends behind so many records that were kept; None is the end of the file.

        Raises:
            ConfigurationError: `most` is no count.
            DataError: what is no FASTA, with line and record.
        """
        self._place = Place() if start is None else start
        if most is not None:
            check_count("FastaReader", "most", most, 1)
        for text in self._whole_records():
            block = self._block(text)
            if most is not None and len(block.ids) >= most:
                text = _first_records(text, int(block.numbers[most - 1]) + 1)
                block = self._block(text)
            before, newlines = self._place, np.frombuffer(text, dtype=np.uint8) == _NEWLINE
            self._place = Place(
                before.offset + len(text),
                before.line + int(np.count_nonzero(newlines)),
                before.record + block.counts["records"],
            )
            yield block, self._place
            most = None if most is None else most - len(block.ids)
            if most == 0:
                return

    def _whole_records(self) -> Iterator[bytes]:
        """The text from the place on in stretches of whole records."""
        held: list[bytes] = []
        n_held, self._passed, begun = 0, Place(), self._place.offset > 0
        for piece in self.stream.blocks(self.block_bytes, self._place.offset, self._told):
            if not begun:
                text = self._from_first_record(b"".join(held) + piece, ended=False)
                held, n_held, begun = [], 0, text.startswith(b">")
                piece = text
            # up to the last line that begins with ">"; its line may have ended with the piece before
            before = held[-1][-1:] if held else b""
            end = (before + piece).rfind(b"\n>", 0 if held else 1) + 1 - len(before) if begun else 0
            if end > 0 or (end == 0 and before == b"\n" and piece.startswith(b">")):
                yield b"".join([*held, piece[:end]])
                held, n_held, piece = [], 0, piece[end:]
            held.append(piece)
            n_held += len(piece)
            if n_held > MAX_RECORD_BYTES:
                self._refuse_long(b"".join(held))
        rest = b"".join(held)
        if not begun:
            rest = self._from_first_record(rest, ended=True)
        if rest:
            yield rest

    def _block(self, raw: bytes) -> RecordBlock:
        text, n_comments = self._with_plain_ends(raw), 0
        if b";" in text and b"\n;" in text:
            text, n_comments = _COMMENT.subn(b"", text)
        headers, sequences, lengths = _taken_apart(text)
        without_id = 0
        try:
            ids = [header.split(None, 1)[0] for header in headers]
        except IndexError:
            without_id = sum(not header.strip() for header in headers)
            ids = [
                header.split(None, 1)[0] if header.strip() else b"record_%d" % (self._place.record + i)
                for i, header in enumerate(headers, start=1)
            ]
        try:
            block = cleaned(ids, sequences, lengths, self.policies)
        except NotASequence as problem:
            self._refuse_record(raw, problem, ids[problem.record])
        block.counts.update(comments=n_comments, without_id=without_id)
        return block

    def _with_plain_ends(self, raw: bytes) -> bytes:
        """Lines that end in LF alone."""
        if b"\r" not in raw:
            return raw
        text = raw.replace(b"\r\n", b"\n").removesuffix(b"\r")
        if (at := text.find(b"\r")) >= 0:
            self._refuse(
                self._place.line + text[:at].count(b"\n") + 1,
                "",
                "lines end in CR alone. Allowed: LF or CR LF. Convert it: tr '\\r' '\\n' < FILE",
            )
        return text

    def _from_first_record(self, text: bytes, ended: bool) -> bytes:
        """The text without what may stand in front of the first record, as far as that is whole."""
        at = len(_BOM) if self._passed.offset == 0 and text.startswith(_BOM) else 0
        front = _IN_FRONT.match(text, at)
        begin = front.end() if front else at
        self._passed = Place(self._passed.offset + begin, self._passed.line + text.count(b"\n", 0, begin))
        text = text[begin:]
        if text.startswith(b">"):
            self._place = self._passed
            return text
        line, end, _ = text.partition(b"\n")
        whole = bool(end) or ended or len(line) > _SHOWN
        if line.strip() and not line.startswith(b";") and whole:
            self._refuse_start(self._passed.line + 1, line)
        if ended:
            raise DataError(f"{self.path}: has no record: no line begins with '>'. Is it a FASTA file?")
        if len(text) > MAX_RECORD_BYTES:
            self._refuse(self._passed.line + 1, "", f"has more than {MAX_RECORD_BYTES >> 20} MB. Is it a FASTA file?")
        return text

    def _told(self) -> str:
        return f"record {self._place.record}"

    def _refuse_start(self, line: int, text: bytes) -> NoReturn:
        like = next((f" It looks like {what}." for start, what in _LOOKS_LIKE if text.startswith(start)), "")
        if b"ustar" in text:
            like = " It looks like a tar archive: unpack it first."
        raise DataError(
            f"{self.path}: line {line}: is {_shown(text)}. Allowed: a FASTA file, whose first line begins with "
            f"'>'.{like}"
        )

    def _refuse(self, line: int, record: str, what: str) -> NoReturn:
        raise DataError(f"{self.path}: line {line}{record}: {what}.")

    def _refuse_long(self, text: bytes) -> NoReturn:
        self._refuse(
            self._place.line + 1,
            f" (record {self._place.record + 1}, {_shown((text[1:].split(None, 1) or [b''])[0])})",
            f"the record has more than {MAX_RECORD_BYTES >> 20} MB. Allowed: sequences of proteins. Is it a genome, "
            f"or are line ends missing?",
        )

    def _refuse_record(self, raw: bytes, problem: NotASequence, name: bytes) -> NoReturn:
        # the first stop of a record that has one inside is inside
        pattern = {"invalid": rb"[^A-Za-z0-9*.\- \t\r\v\f]", "gap": rb"[.\-]", "internal stop": rb"\*"}[problem.kind]
        line, match = _first_match(pattern, raw, problem.record)
        where = f" (record {self._place.record + problem.record + 1}, {_shown(name)}), column {match.start() + 1}"
        told = {
            "invalid": f"{_shown(match[0])} is no residue. Allowed: the letters A to Z, '*', digits and blanks",
            "gap": f"{_shown(match[0])} is a gap: the file looks like an alignment (a2m, a3m). Allowed: sequences "
            f"without gaps, or gaps=strip, which takes them away",
            "internal stop": "'*' stands inside the sequence. Allowed with internal_stop=unknown or drop",
        }
        self._refuse(self._place.line + line, where, told[problem.kind])


def _taken_apart(text: bytes) -> tuple[list[bytes], bytes, NDArray[np.int64]]:
    """Headers without ``>``; all else end to end; and the characters of each record in it but for ends of lines."""
    letters = np.frombuffer(text, dtype=np.uint8)
    newlines = np.flatnonzero(letters == _NEWLINE)
    begins = np.flatnonzero(letters == _BEGIN)
    # the text begins with one
    begins = begins[(begins == 0) | (letters[begins - 1] == _NEWLINE)]
    ends = np.append(begins[1:], len(text))
    line = np.searchsorted(newlines, begins)
    # the last record may be a header whose line does not end
    of_header = np.append(newlines, len(text))[line]
    first = np.minimum(of_header + 1, len(text))
    lengths = ends - first - (np.searchsorted(newlines, ends) - np.searchsorted(newlines, first))
    bounds = list(zip(begins.tolist(), of_header.tolist(), ends.tolist(), strict=True))
    headers = [text[begin + 1 : end] for begin, end, _ in bounds]
    return headers, b"".join([text[end + 1 : last] for _, end, last in bounds]), lengths


def _first_match(pattern: bytes, text: bytes, record: int) -> tuple[int, re.Match[bytes]]:
    """The line (counted from 1) of a text, and the place in it, where a pattern is met first in a record's sequence."""
    number = -1
    for at, line in enumerate(text.split(b"\n"), start=1):
        if line.startswith(b">"):
            number += 1
        elif number == record and not line.startswith(b";") and (match := re.search(pattern, line)):
            return at, match
    raise AssertionError("the record has no such character; this is a defect, please report it")


def _first_records(text: bytes, n: int) -> bytes:
    letters = np.frombuffer(text, dtype=np.uint8)
    ends = np.append(np.flatnonzero((letters[1:] == _BEGIN) & (letters[:-1] == _NEWLINE)) + 1, len(text))
    return text[: int(ends[n - 1])]


def _shown(text: bytes) -> str:
    shown = text[:_SHOWN].decode("utf-8", "backslashreplace")
    return repr(shown) + ("..." if len(text) > _SHOWN else "")
