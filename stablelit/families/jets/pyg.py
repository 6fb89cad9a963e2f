"""Jets as PyTorch Geometric data, and back to a padded batch.

Importing this file imports `torch_geometric`; nothing else of the family does unless `backend: pyg` asks for it.

`torch_geometric`'s own `HyperGraphData` counts hyperedges with Python's `max` over a tensor, which is slow, fails where
there are none and does not see a last one without particles; hence a class of our own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from stablelit.errors import DataError
from stablelit.families.jets.features import pair_features, pair_indices
from stablelit.families.jets.hyperedges import MAX_HYPEREDGES, build_hyperedges


class JetHyperData(Data):
    """One jet: particles, pairs of them, and hyperedges.

    ``x`` ``(n, 3)`` etarel, phirel (rad), ptrel; ``edge_index`` ``(2, E)`` and ``edge_attr`` ``(E, 5)``;
    ``hyperedge_index`` ``(2, I)``: particle and hyperedge of every incidence, and ``hyperedge_attr`` ``(M, 2)``;
    ``jet`` ``(1, 4)``, ``y`` ``(1,)``. In a batch, `edge_index` grows by particles, and the second row of
    `hyperedge_index` by hyperedges, also where a jet has none or its last one has no particle.
    """

    @property
    def num_hyperedges(self) -> int:
        """How many there are, with those that no incidence names."""
        name = "hyperedge_attr" if "hyperedge_attr" in self else "hyperedges"
        return int(self[name].size(0)) if name in self else 0

    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        if key == "hyperedge_index":
            return torch.tensor([[self.num_nodes], [self.num_hyperedges]])
        return super().__inc__(key, value, *args, **kwargs)


def to_pyg(
    batch: dict[str, Tensor],
    hyperedges: str = "knn",
    n_neighbours: int = 3,
    n_top: int = 64,
    max_hyperedges: int = MAX_HYPEREDGES,
    both_directions: bool = True,
) -> list[JetHyperData]:
    """A padded batch as one `JetHyperData` a jet, with the features of pairs and hyperedges (not scaled).

    Args:
        batch: ``particles`` ``(B, N, 3)``, ``mask`` ``(B, N)``, ``jet`` ``(B, 4)``, ``label`` ``(B,)``.
        hyperedges: "knn", "topk_weight" or "all"; see `hyperedges`.
        n_neighbours: k of "knn".
        n_top: M of "topk_weight".
        max_hyperedges: the most that "all" may make of N particles.
        both_directions: each pair as two edges, as message passing wants it; else once.

    Raises:
        ConfigurationError: no such kind of hyperedges, or too many of them.
    """
    particles, mask = batch["particles"], batch["mask"]
    pairs, pair_mask = pair_features(particles, mask, batch["jet"][:, 0])
    ends = torch.stack(pair_indices(mask.shape[1], mask.device))
    incidence, features, hyperedge_mask = build_hyperedges(
        hyperedges, particles, mask, n_neighbours, n_top, max_hyperedges
    )
    made = []
    for jet in range(len(mask)):
        present = mask[jet]
        place = present.cumsum(0) - 1  # of a particle among those that are there
        index, attr = place[ends[:, pair_mask[jet]]], pairs[jet, pair_mask[jet]]
        if both_directions:
            index, attr = torch.cat([index, index.flip(0)], dim=1), torch.cat([attr, attr])
        chosen = hyperedge_mask[jet]
        hyperedge, particle = incidence[jet].T[chosen].nonzero().unbind(1)
        made.append(
            JetHyperData(
                x=particles[jet, present].float(),
                edge_index=index,
                edge_attr=attr,
                hyperedge_index=torch.stack([place[particle], hyperedge]),
                hyperedge_attr=features[jet, chosen],
                jet=batch["jet"][jet : jet + 1],
                y=batch["label"][jet : jet + 1],
            )
        )
    return made


def from_pyg(jets: Sequence[Data] | Batch, n_particles: int | None = None) -> dict[str, Tensor]:
    """Jets as a padded batch; pairs and hyperedges are left behind, since the model makes its own.

    Args:
        jets: graphs, or a batch of them, with ``x`` ``(n, 3)`` etarel, phirel (rad), ptrel, ``jet`` ``(1, 4)`` and,
            where there are labels, ``y``.
        n_particles: what jets are padded to; None is the most there are.

    Returns:
        The batch that `to_pyg` takes.

    Raises:
        DataError: no jets, a jet without one of these, of another shape, or of more than `n_particles` particles.
    """
    graphs = jets.to_data_list() if isinstance(jets, Batch) else list(jets)
    if not graphs:
        raise DataError("from_pyg: no jets. At least one is needed.")
    for place, graph in enumerate(graphs):
        for name, shape in (("x", "(n, 3): etarel, phirel, ptrel"), ("jet", "(1, 4): pt, eta, mass, n_particles")):
            value, width = getattr(graph, name, None), 3 if name == "x" else 4
            if not isinstance(value, Tensor) or value.dim() != 2 or value.shape[1] != width:
                found = tuple(value.shape) if isinstance(value, Tensor) else value
                raise DataError(f"from_pyg: graph {place} has {name}={found}. Allowed: {shape}.")
    counts = [graph.x.shape[0] for graph in graphs]
    most = max(counts)
    if n_particles is not None and most > n_particles:
        raise DataError(
            f"from_pyg: graph {counts.index(most)} has {most} particles, more than n_particles={n_particles}. Allowed: "
            f"at most as many. Raise n_particles, or keep the hardest (JetArrays.hardest)."
        )
    width = most if n_particles is None else n_particles
    count = torch.tensor(counts, device=graphs[0].x.device)
    mask = torch.arange(width, device=count.device) < count[:, None]
    particles = torch.zeros((len(graphs), width, 3), dtype=graphs[0].x.dtype, device=count.device)
    particles[mask] = torch.cat([graph.x for graph in graphs])
    no_label = torch.zeros(1, dtype=torch.long, device=count.device)
    labels = [no_label if getattr(graph, "y", None) is None else graph.y.reshape(1).long() for graph in graphs]
    return {
        "particles": particles,
        "mask": mask,
        "jet": torch.cat([graph.jet for graph in graphs]),
        "label": torch.cat(labels),
    }
