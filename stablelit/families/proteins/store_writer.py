"""Writes what a store has besides the residues, from what a pass over a sequence file left."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import stablelit
from stablelit.families.proteins.alphabet import AMINO_ACIDS, N_RESIDUES
from stablelit.families.proteins.duplicates import count_duplicates
from stablelit.families.proteins.splits import N_BUCKETS
from stablelit.families.proteins.store import ALPHABET, META, describe_file

_AT_ONCE = 1 << 20


def finish_store(
    work: Path,
    settings: Mapping[str, Any],
    counts: Mapping[str, int],
    first: Mapping[str, str],
    residues: NDArray[np.int64],
) -> None:
    """Makes offsets and buckets from what the pass over the file left in `work`, and ``meta.json`` last.

    Args:
        work: the folder.
        settings: of the preparation.
        counts: of what was read, changed and dropped.
        first: of what was dropped, the first id.
        residues: how often each of the 20 and `UNKNOWN` occur, shape ``(21,)``.
    """
    n = counts["kept"]
    _write_offsets(work / "lengths.bin", work / "offsets.npy", n)
    names = ["tokens.bin", "offsets.npy", "buckets.npy"]
    if settings["ids"]:
        _write_offsets(work / "id_lengths.bin", work / "id_offsets.npy", n)
        names += ["ids.bin", "id_offsets.npy"]
    hashes = np.memmap(work / "hashes.bin", dtype="<u8", mode="r").view(np.ndarray)
    with (work / "buckets.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<u2", "fortran_order": False, "shape": (n,)})
        for begin in range(0, n, _AT_ONCE):
            file.write((hashes[begin : begin + _AT_ONCE] % np.uint64(N_BUCKETS)).astype("<u2").data)
    counts, first_of = dict(counts), dict(first)
    counts["duplicate_ids"], pair = count_duplicates(hashes)
    if pair is not None and settings["ids"]:
        offsets = np.load(work / "id_offsets.npy", mmap_mode="r")
        with (work / "ids.bin").open("rb") as file:
            file.seek(int(offsets[pair[1]]))
            first_of["duplicate_ids"] = file.read(int(offsets[pair[1] + 1] - offsets[pair[1]])).decode(
                "utf-8", "replace"
            )
    share = residues[:N_RESIDUES] / max(int(residues[:N_RESIDUES].sum()), 1)
    meta = {
        **settings,
        "alphabet": ALPHABET,
        "n_sequences": n,
        "n_residues": int(counts["residues"]),
        "counts": counts,
        "first": first_of,
        "residues": dict(zip([*AMINO_ACIDS, "X"], residues.tolist(), strict=True)),
        "unigram_entropy": float(-(share[share > 0] * np.log(share[share > 0])).sum()),
        "files": {name: describe_file(work / name) for name in names},
        "versions": {"stablelit": stablelit.__version__, "numpy": np.__version__},
    }
    for name in names:
        _flush_to_disk(work / name)
    unfinished = work / f"{META}.part"
    unfinished.write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")
    unfinished.replace(work / META)


def _write_offsets(lengths_file: Path, path: Path, n: int) -> None:
    lengths = np.memmap(lengths_file, dtype="<i4", mode="r").view(np.ndarray)
    end = 0
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<i8", "fortran_order": False, "shape": (n + 1,)})
        file.write(np.zeros(1, dtype="<i8").data)
        for begin in range(0, n, _AT_ONCE):
            ends = end + np.cumsum(lengths[begin : begin + _AT_ONCE], dtype="<i8")
            file.write(ends.data)
            end = int(ends[-1])


def _flush_to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
