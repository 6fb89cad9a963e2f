"""Files of jets, by suffix and by what is in them. One format a file; a new format is one entry of `FORMATS`.

| format | suffix | told by | what is read | written | extra |
|---|---|---|---|---|---|
| JetNet | .h5 .hdf5 | data sets `particle_features`, `jet_features` | (n, N, 4) etarel phirel ptrel mask; (n, 4) pt eta mass n; class from `label` or the file's name | yes | hdf5 |
| top tagging | .h5 .hdf5 | a table of pandas (table or fixed) | E_i PX_i PY_i PZ_i (GeV), is_signal_new: classes qcd, top | no | hdf5 |
| stablelit | .npz | arrays `particles`, `mask`, ... | the arrays of `JetArrays` | yes | |
| EnergyFlow | .npz | array `X` | (n, M, 4) pt (GeV) y phi pdgid; y: classes g, q | no | |
| JetClass-II and kin | .parquet | | lists part_px part_py part_pz part_energy, or part_pt part_deta part_dphi; jet_label, label or label_* | no | parquet |
| JetClass | .root | | the same columns in a TTree or RNTuple | no | root |
| graphs | .pt .pth | | list of PyTorch Geometric `Data`, or a dict with it at `graphs`: x (n, 3) pt eta phi or (n, 4) E px py pz; y | no | |

Whatever the format, jets become `JetArrays`: relative to their pT-weighted axis, pT as a fraction of the jet's. In the
formats that hold relative coordinates (JetNet, stablelit), GeV and absolute positions are recognised and converted, and
said so; where that is impossible, an error says why. What is cut or dropped is counted by the datamodule and printed.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path

from stablelit.errors import DataError, did_you_mean
from stablelit.families.jets.jet_arrays import JetArrays, joined
from stablelit.families.jets.kinematics import made_relative, needed_conversion
from stablelit.families.jets.readers.energyflow_npz import is_energyflow_npz, read_energyflow_npz
from stablelit.families.jets.readers.files import existing_file, expanded
from stablelit.families.jets.readers.graphs_pt import read_graphs_pt
from stablelit.families.jets.readers.jetclass_parquet import read_jetclass_parquet
from stablelit.families.jets.readers.jetclass_root import read_jetclass_root
from stablelit.families.jets.readers.jetnet_hdf5 import is_jetnet_hdf5, read_jetnet_hdf5, write_jetnet_hdf5
from stablelit.families.jets.readers.plain_npz import is_plain_npz, read_npz, write_npz
from stablelit.families.jets.readers.top_tagging_hdf5 import is_pandas_hdf5, read_top_tagging_hdf5

__all__ = ["FORMATS", "Format", "Reading", "check_suffixes", "format_of", "read_files", "read_jets", "write_jets"]


@dataclass(frozen=True)
class Format:
    """A file format.

    Args:
        name: what it is called.
        suffixes: of its files, lower case.
        read: yields the jets of a file, some at a time.
        recognises: whether a file is of this format, where formats share a suffix; None is yes.
        write: writes a file; None where the format is only read.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Callable[[Path], Iterator[JetArrays]]
    recognises: Callable[[Path], bool] | None = None
    write: Callable[[str | Path, JetArrays], None] | None = None


_HDF5 = (".h5", ".hdf5")
# of those that share a suffix, the first tells what is wrong with a file that none recognises
FORMATS = (
    Format("JetNet HDF5", _HDF5, read_jetnet_hdf5, is_jetnet_hdf5, write_jetnet_hdf5),
    Format("top-tagging table of pandas", _HDF5, read_top_tagging_hdf5, is_pandas_hdf5),
    Format("plain numpy arrays, as written by stablelit", (".npz",), read_npz, is_plain_npz, write_npz),
    Format("EnergyFlow quark and gluon jets", (".npz",), read_energyflow_npz, is_energyflow_npz),
    Format("JetClass parquet", (".parquet",), read_jetclass_parquet),
    Format("JetClass ROOT", (".root",), read_jetclass_root),
    Format("list of PyTorch Geometric graphs", (".pt", ".pth"), read_graphs_pt),
)


@dataclass(frozen=True)
class Reading:
    """What was read.

    Args:
        jets: valid, relative to their axis.
        lost_pt_share: share of the pT that went with the particles beyond the hardest that were kept.
        most_particles: of a jet in the files.
        notes: what was done to the numbers, and which format each file has.
    """

    jets: JetArrays
    lost_pt_share: float
    most_particles: int
    notes: tuple[str, ...]


def format_of(path: str | Path) -> Format:
    """The format in which a file of the suffix of `path` is written.

    Raises:
        DataError: a directory; a suffix that is unknown or only read; those that can be written are listed.
    """
    writable = [entry for entry in _of_suffix(path) if entry.write is not None]
    if not writable:
        raise DataError(f"{path}: files of this suffix are only read. Allowed: {_known(writable_only=True)}.")
    return writable[0]


def check_suffixes(paths: str | Path | Sequence[str | Path]) -> None:
    """Refuses, before anything is opened, paths whose suffix no format has.

    Raises:
        DataError: a directory, or an unknown suffix; the known ones are listed.
    """
    for path in [paths] if isinstance(paths, str | Path) else paths:
        # the suffix of a pattern may be a pattern itself: its files are looked at when they are read
        if not has_magic(Path(path).suffix):
            _of_suffix(path)


def read_jets(path: str | Path) -> JetArrays:
    """Reads and validates a file of jets, whatever its format.

    Raises:
        DataError: unknown suffix, no such file, a file that is not what its suffix says, jets that are not valid.
    """
    return read_files(path).jets


def read_files(paths: str | Path | Sequence[str | Path], n_particles: int | None = None) -> Reading:
    """Reads and validates files of jets, each of any format, one after another.

    Args:
        paths: a file, a pattern such as ``jets_*.h5``, or a list of them; classes are matched by their names.
        n_particles: the hardest of a jet that are kept, cut while reading, so that memory holds no more; None is all.

    Raises:
        DataError: as `read_jets`, and where a pattern matches nothing.
    """
    parts: list[JetArrays] = []
    notes: list[str] = []
    kept = total = 0.0
    most = 0
    for path in expanded(paths):
        form = _format_inside(path)
        notes.append(f"{path}: {form.name}")
        conversion: frozenset[str] | None = None
        n_read = 0
        for piece in form.read(path):
            if not len(piece):
                continue
            piece.check(str(path), n_read)
            if conversion is None:
                conversion = needed_conversion(piece)
                notes += [f"{path}: {_TOLD[what]}" for what in sorted(conversion)]
            # an all-empty end of a file is no reason to refuse its beginning
            relative = made_relative(piece, conversion, str(path))
            whole = relative.validate(str(path), n_read) if relative.mask.any() or n_read == 0 else relative
            n_read += len(whole)
            most = max(most, int(whole.mask.sum(axis=1).max()))
            cut, _ = whole.hardest(n_particles or whole.n_particles)
            total += float(whole.particles[..., 2].sum(dtype=float))
            kept += float(cut.particles[..., 2].sum(dtype=float))
            parts.append(cut)
        if n_read == 0:
            raise DataError(f"{path}: no jets, whatever its header says. Is it damaged? Fetch it again.")
    return Reading(joined(parts), max(0.0, 1.0 - kept / total), most, tuple(notes))


def write_jets(path: str | Path, jets: JetArrays) -> None:
    """Writes a file of jets in the format of its suffix; the file appears whole or not at all."""
    write = format_of(path).write
    assert write is not None
    write(path, jets)


_TOLD = {
    "axis": "positions are absolute: the pT-weighted axis of each jet was subtracted",
    "pt": "pT is in GeV: divided by the jet's own",
}


def _of_suffix(path: str | Path) -> list[Format]:
    if Path(path).is_dir():
        raise DataError(f"{path} is a directory; name a file in it, or files by a pattern such as '{path}/*.h5'.")
    suffix = Path(path).suffix.lower()
    found = [entry for entry in FORMATS if suffix in entry.suffixes]
    if not found:
        hint = did_you_mean(suffix, {s for entry in FORMATS for s in entry.suffixes})
        raise DataError(f"{path}: no format goes with the suffix {suffix!r}. Known: {_known()}. {hint}".rstrip())
    return found


def _format_inside(path: Path) -> Format:
    candidates = _of_suffix(existing_file(path) if path.exists() and not path.is_dir() else path)
    if len(candidates) == 1:
        return candidates[0]
    return next((entry for entry in candidates if entry.recognises is None or entry.recognises(path)), candidates[0])


def _known(writable_only: bool = False) -> str:
    entries = [entry for entry in FORMATS if entry.write or not writable_only]
    return "; ".join(f"{' '.join(entry.suffixes)} ({entry.name})" for entry in entries)
