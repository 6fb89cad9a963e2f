"""Writes FASTA: sequences wrapped at 60 letters, with what is known of each in its header."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stablelit.data.files import replacing
from stablelit.errors import DataError, bad_argument
from stablelit.families.proteins.alphabet import decode, encode
from stablelit.functional.schedules import check_count

LINE = 60
_OWNER = "write_fasta"
_KEY = re.compile(r"[^\s=>]+")


@dataclass(frozen=True)
class FastaRecord:
    """A sequence to be written.

    Args:
        identifier: the first word of the header; no blanks.
        sequence: letters, or numbers as `alphabet.decode` takes them.
        metadata: what follows in the header, as ``key=value``; numbers have six digits.
    """

    identifier: str
    sequence: Any
    metadata: Mapping[str, str | int | float | bool] = field(default_factory=dict)


def write_fasta(path: str | Path, records: Iterable[FastaRecord], line: int = LINE) -> int:
    """Writes records to a file that is there whole or not at all.

    Args:
        path: of the file; one that is there is replaced.
        records: in order; they may be a stream.
        line: letters of a line.

    Returns:
        How many were written.

    Raises:
        ConfigurationError: a line of less than one letter.
        DataError: an identifier that is empty or has blanks, metadata that would break the header, a sequence that is
            empty or has what is no residue; with the number of the record.

    Example:
        >>> write_fasta("generated.fasta", [FastaRecord("sample_1", "MKV", {"seed": 0})])
        1
        >>> print(open("generated.fasta").read(), end="")
        >sample_1 seed=0
        MKV
    """
    check_count(_OWNER, "line", line, 1)
    if Path(path).is_dir():
        raise bad_argument(_OWNER, "path", str(path), "a file, not a folder")
    number = 0
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        for number, record in enumerate(records, start=1):
            where = f"{_OWNER}: record {number}"
            letters = _letters(record.sequence, where)
            file.write(f">{_header(record, where)}\n")
            file.writelines(f"{letters[at : at + line]}\n" for at in range(0, len(letters), line))
    return number


def _letters(sequence: Any, where: str) -> str:
    try:
        letters = decode(encode(sequence) if isinstance(sequence, str | bytes) else sequence)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    if not letters:
        raise DataError(f"{where}: the sequence is empty. Allowed: one residue or more.")
    return letters


def _header(record: FastaRecord, where: str) -> str:
    if not record.identifier or len(record.identifier.split()) != 1 or record.identifier != record.identifier.strip():
        raise DataError(f"{where}: the identifier {record.identifier!r} is not allowed. Allowed: one word.")
    words = [record.identifier]
    for key, value in record.metadata.items():
        text = f"{value:.6g}" if isinstance(value, float) else str(value)
        if not _KEY.fullmatch(str(key)) or "\n" in text or "\r" in text:
            raise DataError(
                f"{where}: metadata {key!r}={text!r} is not allowed. Allowed: a key without blanks and '=', and a "
                f"value of one line."
            )
        words.append(f"{key}={text}")
    return " ".join(words)
