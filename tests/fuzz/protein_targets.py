"""The readers of sequences."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
from collections.abc import Callable
from pathlib import Path

from stablelit.families.proteins.preparation import prepare
from stablelit.families.proteins.readers.fasta import FastaReader
from stablelit.families.proteins.store import META, SequenceStore
from tests.fuzz.mutators import BYTES, JSON, NPY, TEXT, within_stream
from tests.fuzz.target import Target, one_file

_FASTA = (
    b";a comment\n>sp|P1|A first\nMKVLA*\nGGHHX\n>two\r\nmkvbzu\r\n\r\n"
    b">three words here\nACDEFGHIKLMNPQRSTVWY\n>\nAC 10\nDE"
)


def _read(path: Path) -> object:
    # blocks so small that records lie across their edges
    return [block for block, _ in FastaReader(path, block_bytes=64).blocks()]


def _store(changed: str) -> Callable[[Path], list[Path]]:
    def write(folder: Path) -> list[Path]:
        (folder / "a.fasta").write_bytes(_FASTA)
        prepare(str(folder / "a.fasta"), str(folder / "store"), ids=True)
        return [folder / "store" / changed]

    return write


def _open(path: Path) -> object:
    """Opens the store, whose description is made to agree with a changed file: its checksum is no defence."""
    meta_path = path.parent / META
    if path != meta_path:
        meta = json.loads(meta_path.read_bytes())
        data = path.read_bytes()
        meta["files"][path.name] = {"bytes": len(data), "sha256_of_ends": hashlib.sha256(data + data).hexdigest()}
        meta_path.write_text(json.dumps(meta))
    store = SequenceStore(path.parent)
    return [(store[row], store.sequence_id(row)) for row in range(min(len(store), 50))]


TARGETS = (
    Target("proteins-fasta", one_file("a.fasta", _FASTA), _read, TEXT),
    *(
        Target(f"proteins-fasta-{kind}", one_file(f"a.fasta.{kind}", pack(_FASTA)), _read, within_stream(TEXT))
        for kind, pack in (("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress))
    ),
    Target("proteins-store-meta", _store(META), _open, JSON, quick=25),
    Target("proteins-store-offsets", _store("offsets.npy"), _open, NPY, quick=25),
    Target("proteins-store-buckets", _store("buckets.npy"), _open, NPY, quick=15),
    Target("proteins-store-tokens", _store("tokens.bin"), _open, BYTES, quick=15),
    Target("proteins-store-id-offsets", _store("id_offsets.npy"), _open, NPY, quick=15),
)
