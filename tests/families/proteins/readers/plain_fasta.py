"""A reader of FASTA a line at a time, as one would write it in an afternoon: the second way to every answer."""

from __future__ import annotations

from stablelit.families.proteins.alphabet import AMINO_ACIDS

NEAREST = {"U": "C", "O": "K", "B": "D", "Z": "E", "J": "L"}


def plain_records(text: str) -> list[tuple[str, str]]:
    """Ids and letters, with nothing but ends of lines and comments taken away."""
    records: list[tuple[str, str]] = []
    for line in text.removeprefix("\ufeff").splitlines():
        if line.startswith(";"):
            continue
        if line.startswith(">"):
            words = line[1:].split()
            records.append((words[0] if words else "", ""))
        elif records:
            records[-1] = (records[-1][0], records[-1][1] + line)
    return records


def plain_cleaned(
    text: str,
    ambiguous: str = "unknown",
    internal_stop: str = "unknown",
    max_bad_fraction: float = 0.1,
    min_length: int = 1,
) -> list[tuple[str, str]]:
    """Ids and letters A to Y or X of the records that are kept; gaps are taken away."""
    kept = []
    for name, letters in plain_records(text):
        residues = "".join(a for a in letters.upper() if a not in "0123456789 \t.-").rstrip("*")
        bad = [a for a in residues if a in "XBZUOJ"]
        if not residues or len(residues) < min_length:
            continue
        if (ambiguous == "drop" and bad) or (internal_stop == "drop" and "*" in residues):
            continue
        if ambiguous == "map":
            residues = "".join(NEAREST.get(a, a) for a in residues)
        residues = "".join(a if a in AMINO_ACIDS else "X" for a in residues)
        if residues.count("X") <= max_bad_fraction * len(residues):
            kept.append((name, residues))
    return kept
