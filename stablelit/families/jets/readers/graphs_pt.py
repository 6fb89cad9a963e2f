"""The post-mortem's ``data.pt``: a list of PyTorch Geometric's `Data`, one a jet, or a dict with it at ``graphs``.

Of each graph are read

- ``x`` (n, 3): pT (GeV), eta, phi, or (n, 4): E, px, py, pz or pT, eta, phi, mass; four-momenta are known by their
  mass shell, |E^2 - p^2| << E^2;
- ``y``: the class, alone or as the first of the jet's features; classes are called by their number;
- ``particle_norm_stats``, if there: how x was standardised (``{"E": {"method": "zscore", "mean": ..., "std": ...}}``
  or ``"minmax"`` with ``min`` and ``max``), which is undone;
- ``edge_index``, ``hyperedge_index``: checked to point at particles and hyperedges that exist, then left: features of
  pairs and hyperedges are computed from the particles (see `features`), which takes less time than to load them.

The file is a pickle. It is opened with ``weights_only=True`` and the classes of a PyTorch Geometric graph and no
other, so that it cannot run code; a file with anything else inside (numpy numbers among the metadata) is refused with
the lines that convert it. Graphs are Python objects: there is a short loop over them, and none over particles.
Nearly all of the time goes to opening the pickle: `write_jets("jets.npz", read_jets("data.pt"))` saves it for good.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stablelit.data.tensor_files import HoldsObjectsError, plain_tensors
from stablelit.errors import DataError
from stablelit.families.jets.jet_arrays import JetArrays
from stablelit.families.jets.kinematics import Floats, RaggedJets
from stablelit.families.jets.readers.files import existing_file

MAX_OFF_SHELL = 0.2
_MISSING = object()
_NUMBERS = frozenset(
    (
        *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool),
        *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    )
)
# Mapped, what is not read, hyperedges above all, stays on the disk; but opening ten thousand small tensors takes longer
MAPPED_FROM_BYTES = 256_000_000
_CONVERT = (
    "Convert it once, where you trust it: graphs = torch.load(FILE, weights_only=False); graphs = graphs['graphs'] if "
    "isinstance(graphs, dict) else graphs; torch.save([torch_geometric.data.Data(x=g.x, y=g.y) for g in graphs], NEW). "
    "Where x was standardised, undo that on the way."
)


def read_graphs_pt(path: Path) -> Iterator[JetArrays]:
    """The jets of a file of graphs, relative to their axis, all at once.

    Raises:
        DataError: no such file, a directory, damaged, a pickle that would run code, no list of graphs, features of
            another shape, indices that point at nothing, what `RaggedJets` refuses.
    """
    path = existing_file(path)
    graphs = _graphs(path, _loaded(path))
    counts = np.array([len(graph.x) for graph in graphs])
    # one tensor of all particles; what follows has no loop
    x = torch.cat([graph.x.detach() for graph in graphs]).double().numpy()
    _check_indices(path, graphs, counts)
    stats = _field(graphs[0], "particle_norm_stats")
    if stats:
        x = _without_standardisation(path, x, stats)
    label, classes = _labels(path, graphs)
    jets = RaggedJets.from_counts(counts, str(path))
    if x.shape[1] == 4 and (_on_shell(x) or (stats and "px" in stats)):
        energy, p_x, p_y, p_z = x.T
        yield jets.from_momenta({"px": p_x, "py": p_y, "pz": p_z, "E": energy}, label, classes)
    else:
        yield jets.from_angles({"pt": x[:, 0], "eta": x[:, 1], "phi": x[:, 2]}, label, classes)


def _loaded(path: Path) -> Any:
    from torch_geometric.data import Data
    from torch_geometric.data.data import DataEdgeAttr, DataTensorAttr
    from torch_geometric.data.storage import GlobalStorage

    is_mapped = path.stat().st_size >= MAPPED_FROM_BYTES
    try:
        return plain_tensors(path, [Data, DataEdgeAttr, DataTensorAttr, GlobalStorage], is_mapped)
    except HoldsObjectsError as error:
        found = f"Found: {error.found}. " if error.found else ""
        raise DataError(
            f"{path}: has more in it than graphs of tensors, strings and plain numbers, or is no file of torch.save, "
            f"and is not opened, because a pickle can run code. {found}{_CONVERT}"
        ) from error


def _graphs(path: Path, loaded: Any) -> list[Any]:
    if isinstance(loaded, dict):
        if "graphs" not in loaded:
            raise DataError(
                f"{path}: is a dict without 'graphs'. Found: {', '.join(map(str, loaded)) or 'nothing'}. Allowed: a "
                f"list of graphs, or a dict with that list at 'graphs'."
            )
        loaded = loaded["graphs"]
    if not isinstance(loaded, list | tuple) or not all(
        _field(graph, "x", _MISSING) is not _MISSING for graph in loaded
    ):
        raise DataError(
            f"{path}: holds a {type(loaded).__name__}, not a list of graphs. Allowed: "
            f"torch.save([Data(x=..., y=...), ...])."
        )
    if not loaded:
        raise DataError(f"{path}: no jets (the list of graphs is empty).")
    widths = set()
    for number, graph in enumerate(loaded):
        if not _is_dense(graph.x) or graph.x.ndim != 2 or graph.x.shape[1] not in (3, 4):
            raise DataError(
                f"{path}: jet {number} has x {_told(graph.x)}. Allowed: numbers of shape (particles, 3) with pt, eta, "
                f"phi or (particles, 4) with E, px, py, pz or pt, eta, phi, mass."
            )
        widths.add(graph.x.shape[1])
    if len(widths) > 1:
        raise DataError(
            f"{path}: some jets have {min(widths)} features a particle and some {max(widths)}. Allowed: one."
        )
    return list(loaded)


def _check_indices(path: Path, graphs: Sequence[Any], counts: NDArray[np.int64]) -> None:
    for name in ("edge_index", "hyperedge_index"):
        for number, (graph, count) in enumerate(zip(graphs, counts.tolist(), strict=True)):
            index = _field(graph, name)
            if index is None:
                continue
            if not _is_dense(index) or (index.numel() and (index.ndim != 2 or len(index) != 2)) or _is_float(index):
                raise DataError(
                    f"{path}: jet {number} has {name} {_told(index)}. Allowed: whole numbers of shape (2, incidences)."
                )
            if index.numel() == 0:
                continue
            features = _field(graph, "hyperedge_attr") if name == "hyperedge_index" else None
            limits = (count, count if name == "edge_index" else None if features is None else len(features))
            low, high = index.aminmax(dim=1)
            for row, limit in enumerate(limits):
                least, most = int(low[row]), int(high[row])
                if least < 0 or (limit is not None and most >= limit):
                    what = "particles" if row == 0 or name == "edge_index" else "hyperedges"
                    raise DataError(
                        f"{path}: jet {number} has {name}[{row}] from {least} to {most}, but {limit} {what}. Allowed: "
                        f"0 to {limit if limit is None else limit - 1}. The graph was built of another jet, or a batch "
                        f"was saved with its offsets: build it again."
                    )


def _field(graph: Any, name: str, default: object = None) -> Any:
    """An entry of a graph, or the default, also where the graph is not what PyTorch Geometric makes."""
    try:
        return getattr(graph, name, default)
    except (RuntimeError, TypeError, LookupError, ValueError):
        return default


def _is_dense(value: Any) -> bool:
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.dtype in _NUMBERS
        and value.device.type == "cpu"
        and not value.is_nested
    )


def _is_float(index: Tensor) -> bool:
    # an empty one is often made without a type
    return index.is_floating_point() and index.numel() > 0


def _told(value: Any) -> str:
    if not isinstance(value, Tensor):
        return f"= {value!r:.60}"
    layout = "" if value.layout == torch.strided else f", {value.layout}"
    return f"of shape {tuple(value.shape)} and type {value.dtype}{layout}"


def _without_standardisation(path: Path, x: Floats, stats: Any) -> Floats:
    if not isinstance(stats, dict) or not all(isinstance(known, dict) for known in stats.values()):
        raise DataError(
            f"{path}: particle_norm_stats is {stats!r:.80}. Allowed: a dict of features, each with its mean and std, "
            f"or min and max. Without them the momenta cannot be restored."
        )
    columns = ("E", "px", "py", "pz") if "px" in stats else ("pt", "eta", "phi", "mass")
    restored: Floats = x.copy()
    for i, name in enumerate(columns[: x.shape[1]]):
        known = stats.get(name, {})
        if {"mean", "std"} <= set(known):
            scale, offset = float(known["std"]), float(known["mean"])
        elif {"min", "max"} <= set(known):
            scale, offset = float(known["max"]) - float(known["min"]), float(known["min"])
        else:
            raise DataError(
                f"{path}: particle_norm_stats has no mean and std, or min and max, of {name!r}. Found: "
                f"{', '.join(map(str, stats))}. Without them the momenta cannot be restored."
            )
        restored[:, i] = x[:, i] * scale + offset
    return restored


def _on_shell(x: Floats) -> bool:
    energy_squared = np.maximum(x[:, 0] ** 2, 1e-30)
    off = np.abs(energy_squared - (x[:, 1:] ** 2).sum(axis=1)) / energy_squared
    return len(x) > 0 and bool(np.median(off) < MAX_OFF_SHELL)


def _labels(path: Path, graphs: Sequence[Any]) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    given = [y if (y := _field(graph, "y")) is not None else _field(graph, "jet_type") for graph in graphs]
    if all(y is None for y in given):
        return None, ("jet",)
    values = np.array([_class_number(y) for y in given])
    wrong = np.flatnonzero(~(np.isfinite(values) & (values == np.round(values)) & (values >= 0)))
    if len(wrong):
        raise DataError(
            f"{path}: jet {wrong[0]} has the class y={given[wrong[0]]!r:.60}. Allowed: an integer of at least 0, "
            f"alone or first."
        )
    known, label = np.unique(values.astype(np.int64), return_inverse=True)
    return label.astype(np.int64), tuple(str(value) for value in known)


def _class_number(y: Any) -> float:
    """The number alone or the first of several; NaN where there is none."""
    try:
        return float(torch.as_tensor(y).flatten()[0])
    except (TypeError, ValueError, IndexError, RuntimeError):
        return float("nan")
