"""Prepares a FASTA file for training: one pass, in memory that does not grow with it, and resumed if it was killed.

The pass appends residues, lengths, hashes of ids and ids to files in a hidden folder beside the output, with a journal
of how far they are good. Then offsets and buckets of the split are made from them, and the folder takes the output's
name. A call after a kill goes on at the last moment of the journal: a plain file is read from there, a packed one from
its beginning, but nothing is cleaned or written twice.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stablelit.errors import ConfigurationError, DataError
from stablelit.families.proteins.alphabet import N_RESIDUES
from stablelit.families.proteins.exclusive import alone
from stablelit.families.proteins.journal import JOURNAL, JournaledFiles
from stablelit.families.proteins.readers.fasta import FastaReader, Place
from stablelit.families.proteins.readers.policies import Ambiguous, Gaps, InternalStop, Policies
from stablelit.families.proteins.readers.record_block import RecordBlock
from stablelit.families.proteins.reading_bar import reading_bar
from stablelit.families.proteins.splits import id_hashes
from stablelit.families.proteins.store import META, VERSION, describe_file
from stablelit.families.proteins.store_writer import finish_store
from stablelit.functional.schedules import check_count, check_flag

_OWNER = "prepare proteins"
_COMMIT_BYTES = 1 << 25
_GROWING = ("tokens.bin", "lengths.bin", "hashes.bin", "ids.bin", "id_lengths.bin")
_PASSING = ("lengths.bin", "hashes.bin", "id_lengths.bin")

# of proteins they are a quarter
_NUCLEOTIDES, _FEW_OTHERS, _FEW_RESIDUES = "ACGTN", 0.95, 100

_WHY = {
    "dropped_empty": "without a residue",
    "dropped_short": "with fewer than min_length={min_length} residues",
    "dropped_ambiguous": "with X, B, Z, U, O or J (ambiguous=drop)",
    "dropped_internal_stop": "with '*' inside (internal_stop=drop)",
    "dropped_unknown_share": "of which more than max_bad_fraction={max_bad_fraction:g} is unknown",
}
_CHANGED = {
    "unknown": "residues are unknown (X, or what a policy turned into it): context, neither noised nor counted",
    "terminal_stops": "'*' at the end of a sequence taken away",
    "internal_stops": "'*' inside sequences (internal_stop={internal_stop})",
    "stripped_characters": "digits and blanks inside sequences taken away",
    "stripped_gaps": "gaps taken away",
    "without_id": "records have no id and are called by their numbers",
    "duplicate_ids": "records have the id of an earlier one (all are kept; they share a split)",
}


def prepare(
    path: str,
    output: str,
    ambiguous: Ambiguous = "unknown",
    internal_stop: InternalStop = "unknown",
    gaps: Gaps = "error",
    max_bad_fraction: float = 0.1,
    min_length: int = 1,
    limit: int | None = None,
    ids: bool = True,
) -> dict[str, Any]:
    """Writes a folder of prepared sequences (see `store`), whole or not at all.

    Args:
        path: of the FASTA file: plain, .gz, .bz2 or .xz.
        output: the folder, new or empty.
        ambiguous: what becomes of X, B, Z, U, O and J; see `readers.policies.Policies`, like the four that follow.
        internal_stop: what becomes of `*` inside a sequence.
        gaps: what becomes of `-` and `.`.
        max_bad_fraction: most that may be unknown in a record.
        min_length: fewest residues of a record.
        limit: at most so many sequences, the first ones; None is all.
        ids: whether ids are kept (some 15 bytes a sequence); the split does not need them.

    Returns:
        How many records were read, and how many sequences, residues and bytes were written, and what was dropped.

    Raises:
        ConfigurationError: an argument outside its range, `output` is there already, the disk is too small.
        DataError: a file that is no FASTA, or of which no sequence is left.
    """
    policies = Policies(ambiguous, internal_stop, gaps, max_bad_fraction, min_length)
    if limit is not None:
        check_count(_OWNER, "limit", limit, 1)
    check_flag(_OWNER, "ids", ids)
    folder = Path(output)
    _refuse_what_is_there(folder)
    work = folder.parent / f".{folder.name}-unfinished"
    reader = FastaReader(path, policies)
    settings = {
        "version": VERSION,
        "source": {"path": str(reader.path.resolve()), **describe_file(reader.path)},
        "policies": policies.as_dict(),
        "limit": limit,
        "ids": ids,
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    with alone(work):
        # another process may have made it meanwhile
        _refuse_what_is_there(folder)
        if limit is None:
            _check_space(work, reader)
        if not _is_finished(work, settings):
            try:
                _write(work, reader, settings)
            except DataError:
                # of a file that cannot be used nothing is worth going on with
                shutil.rmtree(work)
                raise
        for name in (*_PASSING, *(() if ids else ("ids.bin",)), JOURNAL):
            (work / name).unlink(missing_ok=True)
        if folder.is_dir():
            folder.rmdir()
        work.rename(folder)
    meta = json.loads((folder / META).read_text(encoding="utf-8"))
    for line in report(meta):
        print(f"prepare: {reader.path}: {line}.", flush=True)
    counts = meta["counts"]
    dropped = {name: counts[name] for name in _WHY if counts.get(name)}
    n_bytes = sum(file.stat().st_size for file in folder.iterdir())
    told = {"n_records": counts["records"], "n_sequences": meta["n_sequences"], "n_residues": meta["n_residues"]}
    return {"output": str(output), **told, **dropped, "unigram_entropy": meta["unigram_entropy"], "bytes": n_bytes}


def report(meta: Mapping[str, Any]) -> list[str]:
    """What was dropped and changed, in words, from a store's ``meta.json``."""
    counts, lines = meta["counts"], []
    for name, why in _WHY.items():
        if counts.get(name):
            first = f" (the first is {meta['first'][name]!r})" if name in meta["first"] else ""
            lines.append(f"dropped {counts[name]} records {why.format(**meta['policies'])}{first}")
    for name, what in _CHANGED.items():
        if counts.get(name):
            first = f" (one is {meta['first'][name]!r})" if name in meta["first"] else ""
            lines.append(f"{counts[name]} {what.format(**meta['policies'])}{first}")
    share = sum(meta["residues"][letter] for letter in _NUCLEOTIDES) / max(1, meta["n_residues"])
    if share >= _FEW_OTHERS and meta["n_residues"] >= _FEW_RESIDUES:
        lines.append(
            f"{100 * share:.3g} % of the residues are A, C, G, T or N. Are they nucleotides? DNA is read as if it were "
            f"proteins; translate it first"
        )
    return lines


class _Pass:
    """The state of the pass over the file, plain enough for the journal."""

    def __init__(self, state: Mapping[str, Any] | None) -> None:
        state = {} if state is None else state
        self.place = Place(*state.get("place", ()))
        self.counts: Counter[str] = Counter(state.get("counts", {}))
        self.first: dict[str, str] = dict(state.get("first", {}))
        self.residues = np.array(state.get("residues", [0] * (N_RESIDUES + 1)), dtype=np.int64)

    def add(self, block: RecordBlock, place: Place) -> None:
        self.place = place
        self.counts.update(block.counts)
        self.first = {**block.first, **self.first}
        self.residues += _counted(block.tokens)

    def state(self) -> dict[str, Any]:
        return {
            "place": [self.place.offset, self.place.line, self.place.record],
            "counts": dict(self.counts),
            "first": self.first,
            "residues": self.residues.tolist(),
        }


def _refuse_what_is_there(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigurationError(
            f"{folder}: is there already. Allowed: a folder that is new or empty. Name another one, or delete it."
        )


def _check_space(work: Path, reader: FastaReader) -> None:
    """Refuses to begin what the disk cannot hold; a packed file does not say how much that is."""
    written = sum(file.stat().st_size for file in work.iterdir()) if work.is_dir() else 0
    needed, free = reader.path.stat().st_size - written, shutil.disk_usage(work.parent).free
    if reader.stream.compression == "none" and needed > free:
        raise ConfigurationError(
            f"{_OWNER}: {reader.path} needs about {needed / 1e9:.1f} GB prepared, but {free / 1e9:.1f} GB are free at "
            f"{work.parent}. Name an output on another disk, or give a limit."
        )


def _is_finished(work: Path, settings: Mapping[str, Any]) -> bool:
    """Whether only the folder's name is left to do."""
    if not (work / META).is_file():
        return False
    meta = json.loads((work / META).read_text(encoding="utf-8"))
    return all(meta.get(name) == value for name, value in settings.items())


def _write(work: Path, reader: FastaReader, settings: Mapping[str, Any]) -> None:
    limit = settings["limit"]
    with JournaledFiles(work, _GROWING, settings) as files:
        if files.outdated:
            print(f"prepare: {work}: was left by a preparation of another file or with other settings; begins anew.")
        if files.state is not None:
            print(f"prepare: goes on behind record {files.state['place'][2]}, where it was interrupted.", flush=True)
        done = _Pass(files.state)
        committed = done.place.offset
        size = reader.path.stat().st_size if reader.stream.compression == "none" else None
        most = None if limit is None else limit - done.counts["kept"]
        if most != 0:
            with reading_bar(size) as progress:
                for block, place in reader.blocks(done.place, most):
                    done.add(block, place)
                    _append(files, block, settings["ids"])
                    progress(place.offset)
                    if place.offset - committed >= _COMMIT_BYTES:
                        files.commit(done.state())
                        committed = place.offset
        files.commit(done.state())
    if not done.counts["kept"]:
        why = ", ".join(
            f"{done.counts[name]} {told.split(' (')[0]}" for name, told in _WHY.items() if done.counts[name]
        )
        why = why.format(**settings["policies"])
        raise DataError(f"{reader.path}: no sequence is left of {done.counts['records']} records: {why}.")
    finish_store(work, settings, done.counts, done.first, done.residues)


def _append(files: JournaledFiles, block: RecordBlock, ids: bool) -> None:
    files.append("tokens.bin", block.tokens.data)
    files.append("lengths.bin", block.lengths.astype("<i4").data)
    files.append("hashes.bin", id_hashes(block.ids).data)
    if ids:
        files.append("ids.bin", b"".join(block.ids))
        files.append("id_lengths.bin", np.fromiter(map(len, block.ids), "<i4", len(block.ids)).data)


def _counted(tokens: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How often each residue and `UNKNOWN` occur; pairs are counted, which is three times as fast as single ones."""
    even = tokens[: len(tokens) & ~1]
    pairs = np.bincount(even.view("<u2"), minlength=1 << 16).reshape(256, 256)
    counts = pairs.sum(0) + pairs.sum(1)
    if len(tokens) & 1:
        counts[int(tokens[-1])] += 1
    return np.asarray(counts[: N_RESIDUES + 1])
