"""Records of a sequence file as arrays, cleaned by a policy, without a loop over residues."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stablelit.families.proteins.alphabet import AMBIGUOUS, AMINO_ACIDS, UNKNOWN
from stablelit.families.proteins.readers.policies import NEAREST, Policies

# numbers of what is no residue; those of ambiguous letters but X follow
_STOP, _GAP, _STRIPPED, _INVALID = 30, 31, 32, 33
_LETTERS = {letter: 40 + i for i, letter in enumerate(AMBIGUOUS.replace("X", ""))}
_N_KINDS = 64


def _table() -> bytes:
    kinds = bytearray([_INVALID]) * 256
    for letter, kind in [*((a, i) for i, a in enumerate(AMINO_ACIDS)), ("X", UNKNOWN), *_LETTERS.items()]:
        kinds[ord(letter)] = kinds[ord(letter.lower())] = kind
    kinds[ord("*")] = _STOP
    for gap in "-.":
        kinds[ord(gap)] = _GAP
    for stripped in "0123456789 \t\r\v\f":
        kinds[ord(stripped)] = _STRIPPED
    return bytes(kinds)


_KIND_OF = _table()


class NotASequence(Exception):
    """A record has a character that the policy does not allow; the reader says where.

    Args:
        record: its number in the block.
        kind: "invalid", "gap" or "internal stop".
    """

    def __init__(self, record: int, kind: str) -> None:
        super().__init__(f"record {record}: {kind}")
        self.record, self.kind = record, kind


@dataclass(frozen=True)
class RecordBlock:
    """Records that follow each other in a file, cleaned.

    Args:
        tokens: residues 0 to 19 or `UNKNOWN`, uint8, shape ``(R,)``.
        lengths: residues of each record, shape ``(n,)``.
        ids: of each record.
        numbers: of each record among those that were read for this block, shape ``(n,)``.
        counts: of what was read, changed and dropped.
        first: of each thing counted as dropped, the id of the first such record.
    """

    tokens: NDArray[np.uint8]
    lengths: NDArray[np.int64]
    ids: list[bytes]
    numbers: NDArray[np.int64]
    counts: Counter[str]
    first: dict[str, str]


def cleaned(ids: list[bytes], text: bytes, lengths: NDArray[np.int64], policies: Policies) -> RecordBlock:
    """Records as a block.

    Args:
        ids: of the records.
        text: what stands behind their headers, end to end: lines of letters.
        lengths: characters of each record in it, ends of lines not counted, shape ``(n,)``.
        policies: what is done with letters that are no residues.

    Raises:
        NotASequence: a character that is not allowed; the first such record.
    """
    kinds = np.frombuffer(text.translate(_KIND_OF, b"\n"), dtype=np.uint8)
    counts: Counter[str] = Counter(records=len(ids))
    special = np.flatnonzero(kinds >= UNKNOWN)
    n_unknown = np.zeros(len(ids), dtype=np.int64)
    dropped_for: dict[str, NDArray[np.bool_]] = {}
    if len(special):
        kinds, lengths, n_unknown, dropped_for = _without_specials(kinds, lengths, special, policies, counts)
    reasons = {
        "dropped_empty": lengths == 0,
        "dropped_short": lengths < policies.min_length,
        **dropped_for,
        "dropped_unknown_share": n_unknown > policies.max_bad_fraction * lengths,
    }
    kept = np.ones(len(ids), dtype=bool)
    first: dict[str, str] = {}
    for reason, which in reasons.items():
        if (number := int((which & kept).sum())) > 0:
            counts[reason] += number
            first[reason] = ids[int(np.argmax(which & kept))].decode("utf-8", "replace")
            kept &= ~which
    numbers = np.flatnonzero(kept)
    if len(numbers) < len(ids):
        kinds = kinds[np.repeat(kept, lengths)]
        ids = [ids[i] for i in numbers.tolist()]
        lengths, n_unknown = lengths[kept], n_unknown[kept]
    counts.update(kept=len(ids), residues=len(kinds), unknown=int(n_unknown.sum()))
    return RecordBlock(kinds, lengths, ids, numbers, counts, first)


def _without_specials(
    kinds: NDArray[np.uint8],
    lengths: NDArray[np.int64],
    special: NDArray[np.int64],
    policies: Policies,
    counts: Counter[str],
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64], dict[str, NDArray[np.bool_]]]:
    """Residues and `UNKNOWN` alone, the new lengths, how many are unknown, and which records a policy drops."""
    n, ends = len(lengths), np.cumsum(lengths)
    kind = kinds[special]
    record = np.searchsorted(ends, special, side="right")
    seen = np.bincount(kind, minlength=_N_KINDS)
    for bad, name in ((_INVALID, "invalid"), *(((_GAP, "gap"),) if policies.gaps == "error" else ())):
        if seen[bad]:
            raise NotASequence(int(record[np.argmax(kind == bad)]), name)
    removed = (kind == _STRIPPED) | (kind == _GAP)
    stop = kind == _STOP
    if seen[_STOP]:
        terminal = _at_the_end(special, record, removed, stop, ends)
        counts["terminal_stops"] += int(terminal.sum())
        removed |= terminal
        stop &= ~terminal
        if policies.internal_stop == "error" and stop.any():
            raise NotASequence(int(record[np.argmax(stop)]), "internal stop")
    counts.update(
        stripped_characters=int(seen[_STRIPPED]), stripped_gaps=int(seen[_GAP]), internal_stops=int(stop.sum())
    )
    counts.update({"letter_X": int(seen[UNKNOWN]), **{f"letter_{a}": int(seen[k]) for a, k in _LETTERS.items()}})

    becomes = np.full(_N_KINDS, UNKNOWN, dtype=np.uint8)
    if policies.ambiguous == "map":
        for letter, nearest in NEAREST.items():
            becomes[_LETTERS[letter]] = AMINO_ACIDS.index(nearest)
    value = becomes[kind]
    kinds = kinds.copy()
    kinds[special] = value
    if removed.any():
        keep = np.ones(len(kinds), dtype=bool)
        keep[special[removed]] = False
        kinds = kinds[keep]
        lengths = lengths - np.bincount(record[removed], minlength=n)
    n_unknown = np.bincount(record[~removed & (value == UNKNOWN)], minlength=n)
    dropped = {}
    if policies.ambiguous == "drop":
        letters = ~removed & ~stop
        dropped["dropped_ambiguous"] = np.bincount(record[letters], minlength=n) > 0
    if policies.internal_stop == "drop":
        dropped["dropped_internal_stop"] = np.bincount(record[stop], minlength=n) > 0
    return kinds, lengths, n_unknown, dropped


def _at_the_end(
    special: NDArray[np.int64],
    record: NDArray[np.int64],
    removed: NDArray[np.bool_],
    stop: NDArray[np.bool_],
    ends: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Which stops have nothing behind them in their record but other stops and what is taken away."""
    # of the specials of a record, those at or behind each one
    last = np.searchsorted(record, record, side="right")
    counted = np.concatenate([[0], np.cumsum(removed | stop)])
    return stop & (ends[record] - special == counted[last] - counted[:-1])
