"""ROOT files with the columns of `jetclass_columns` in a TTree or an RNTuple: JetClass, and JetClass-II as ROOT.

Only the branches that are used are read, some thousands of entries at a time: memory does not grow with the file. The
tree may have any name; where a file has several, the one with particles of jets is taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stablelit.errors import DataError, StablelitError, missing_extra
from stablelit.families.jets.jet_arrays import JetArrays
from stablelit.families.jets.readers.files import PIECE, existing_file
from stablelit.families.jets.readers.jetclass_columns import ANGLES, MOMENTA, JetClassColumns

_TREES = ("TTree", "ROOT::RNTuple")


def read_jetclass_root(path: Path) -> Iterator[JetArrays]:
    """The jets of a ROOT file, relative to their axis, some thousands at a time.

    Raises:
        DataError: no such file, a directory, not ROOT, truncated, no tree, no such branches (near names are given),
            branches that are no lists or no numbers, what `JetClassColumns.jets` refuses.
        MissingDependencyError: uproot or awkward is not installed.
    """
    try:
        import awkward as ak
        import uproot
    except ImportError as error:
        raise missing_extra("uproot", "root", "Reading ROOT files") from error
    path = existing_file(path)
    try:
        with uproot.open(path) as file:
            # uproot reads what it finds, and the tail of a file may be of no need to it
            if (size := path.stat().st_size) < file.file.fEND:
                raise DataError(
                    f"{path}: the ROOT file is truncated ({size} of {file.file.fEND} bytes are there). The copy or "
                    f"download was interrupted: fetch it again and compare its size."
                )
            tree = _tree(path, file)
            columns = JetClassColumns.among(tree.keys(recursive=False), str(path))
            if tree.num_entries == 0:
                raise DataError(f"{path}: no jets (the tree {tree.name!r} has no entries).")
            for start in range(0, tree.num_entries, PIECE):
                stop = min(start + PIECE, tree.num_entries)
                read = tree.arrays(columns.names, entry_start=start, entry_stop=stop, library="ak")
                yield _jets(ak, path, read, columns, start)
    except StablelitError:
        raise
    # uproot tells of a damaged or foreign file by many types, KeyError, IndexError and struct.error among them
    except Exception as error:
        raise DataError(
            f"{path}: cannot be read as ROOT ({type(error).__name__}: {str(error).strip().splitlines()[:1]}). It is "
            f"another format, or the copy or download was interrupted ({path.stat().st_size} bytes are there): fetch "
            f"it again and compare its size."
        ) from error


def _tree(path: Path, file: Any) -> Any:
    kinds = file.classnames(cycle=False)
    trees = [file[name] for name, kind in kinds.items() if kind in _TREES]
    if not trees:
        found = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
        raise DataError(f"{path}: has no TTree or RNTuple. Found: {found or 'nothing'}.")
    with_jets = [tree for tree in trees if {MOMENTA[0], ANGLES[1]} & set(tree.keys(recursive=False))]
    if len(with_jets) > 1:
        names = ", ".join(sorted(tree.name for tree in with_jets))
        raise DataError(
            f"{path}: several trees hold jets: {names}. Allowed: one. Write the one you mean to a new file."
        )
    return (with_jets or trees)[0]


def _jets(ak: Any, path: Path, read: Any, columns: JetClassColumns, start: int) -> JetArrays:
    counts, particles, scalars = {}, {}, {}
    for name in columns.names:
        values = read[name]
        if name in columns.particles:
            if values.ndim != 2:
                raise DataError(f"{path}: {name} is of type {values.type.content}. Allowed: lists of numbers.")
            counts[name], particles[name] = ak.to_numpy(ak.num(values)), ak.to_numpy(ak.flatten(values))
        else:
            scalars[name] = ak.to_numpy(values)
    return columns.jets(counts, particles, scalars, str(path), start)
