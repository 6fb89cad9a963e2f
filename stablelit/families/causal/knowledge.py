"""What is known about the graph before any data are seen: edges that cannot be, edges that must be, an order of tiers.

A pump can drive a pressure sensor and not the other way round; an inlet lies upstream of an outlet. Every learner of
this family takes the same object and never returns a graph that contradicts it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from stablelit.errors import ConfigurationError, bad_argument, did_you_mean
from stablelit.families.causal.graphs import directed_cycle

NodeLike: TypeAlias = "str | int"
EdgeLike: TypeAlias = "Sequence[str | int]"
OWNER = "EdgeKnowledge"


class EdgeKnowledge:
    """Forbidden edges, required edges and tiers over named nodes; an edge (a, b) is a -> b.

    Args:
        names: the d nodes, in the order of the columns of the data; all different.
        forbidden: edges that the graph must not have, by name or by index.
        required: edges that it must have. They may not close a cycle.
        tiers: groups of nodes in causal order: no edge leads from a later tier into an earlier one. Within a tier all
            edges are possible; a node in no tier is free.

    Attributes:
        names: (d,) tuple of str.
        forbidden: (d, d) bool, ``[i, j]`` for i -> j, the tiers included; the diagonal is False.
        required: (d, d) bool.
        allowed: (d, d) bool, every edge off the diagonal that is not forbidden.

    Raises:
        ConfigurationError: fewer than two names or one name twice; an unknown name or index, an edge from a node to
            itself; an edge both required and forbidden, or required against the tiers; required edges that close a
            cycle; a node in two tiers.

    Example:
        >>> knowledge = EdgeKnowledge(["pump", "valve", "flow"], tiers=[["pump", "valve"], ["flow"]])
        >>> bool(knowledge.forbidden[2, 0]), bool(knowledge.allowed[0, 2])
        (True, True)
    """

    def __init__(
        self,
        names: Sequence[str],
        forbidden: Iterable[EdgeLike] = (),
        required: Iterable[EdgeLike] = (),
        tiers: Sequence[Sequence[NodeLike]] = (),
    ) -> None:
        self.names = _checked_names(names)
        self._index = {name: place for place, name in enumerate(self.names)}
        self.required = self._edges("required", required)
        said = self._edges("forbidden", forbidden)
        self.tiers = self._tiers(tiers)
        against_tiers = self._backward_edges()
        for source, reason in (
            (said, "it is forbidden too"),
            (against_tiers, "it leads from a later tier to an earlier"),
        ):
            clash = np.argwhere(self.required & source)
            if len(clash):
                raise bad_argument(
                    OWNER,
                    "required",
                    self._edge_names(clash),
                    f"edges that nothing else rules out, and of the first one {reason}",
                    "Take it out of one of the two.",
                )
        self.forbidden = said | against_tiers
        cycle = directed_cycle(self.required)
        if cycle:
            raise bad_argument(
                OWNER, "required", " -> ".join(self.names[i] for i in cycle), "edges without a directed cycle"
            )
        self.allowed = ~self.forbidden & ~np.eye(len(self.names), dtype=bool)
        for matrix in (self.required, self.forbidden, self.allowed):
            matrix.setflags(write=False)

    def __len__(self) -> int:
        return len(self.names)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, EdgeKnowledge)
            and self.names == other.names
            and bool((self.forbidden == other.forbidden).all() and (self.required == other.required).all())
        )

    def __hash__(self) -> int:
        return hash((self.names, self.forbidden.tobytes(), self.required.tobytes()))

    def __repr__(self) -> str:
        return (
            f"EdgeKnowledge({len(self.names)} nodes, {int(self.forbidden.sum())} edges forbidden, "
            f"{int(self.required.sum())} required)"
        )

    def permits(self, adjacency: NDArray[np.bool_]) -> bool:
        """Whether a graph (d, d), off the diagonal, has every required and no forbidden edge."""
        edges = np.asarray(adjacency, dtype=bool)
        return not bool((edges & self.forbidden).any() or (self.required & ~edges).any())

    def in_order(self, order: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
        """(d,) the order nearest to the one given, in which every required edge leads from earlier to later.

        Nodes keep their places where no required edge is broken: of the nodes whose required parents have all come,
        the one that is first in `order` comes next.
        """
        place = np.empty(len(self.names), dtype=np.int64)
        place[np.asarray(order)] = np.arange(len(self.names))
        waiting = np.ones(len(self.names), dtype=bool)
        result: list[int] = []
        while len(result) < len(self.names):
            ready = np.flatnonzero(waiting & ~(self.required & waiting[:, None]).any(axis=0))
            node = int(ready[np.argmin(place[ready])])
            waiting[node] = False
            result.append(node)
        return np.asarray(result, dtype=np.int64)

    def among(self, names: Sequence[str]) -> EdgeKnowledge:
        """The same knowledge for these columns in their order: a subset or a permutation of the nodes."""
        kept = [self._place("names", name) for name in names]
        result = EdgeKnowledge([self.names[i] for i in kept])
        block = np.ix_(kept, kept)
        result.forbidden, result.required, result.allowed = (
            matrix[block].copy() for matrix in (self.forbidden, self.required, self.allowed)
        )
        result.tiers = tuple(
            tuple(kept.index(node) for node in tier if node in kept) for tier in self.tiers if set(tier) & set(kept)
        )
        return result

    @staticmethod
    def nothing(names: Sequence[str] | int) -> EdgeKnowledge:
        """No edge is forbidden or required; for an int, nodes are called x0, x1, ..."""
        return EdgeKnowledge([f"x{i}" for i in range(names)] if isinstance(names, int) else names)

    def _place(self, argument: str, node: NodeLike) -> int:
        if isinstance(node, str):
            if node in self._index:
                return self._index[node]
            raise bad_argument(OWNER, argument, node, f"the names {list(self.names)}", did_you_mean(node, self.names))
        if isinstance(node, int | np.integer) and not isinstance(node, bool) and 0 <= node < len(self.names):
            return int(node)
        raise bad_argument(OWNER, argument, node, f"a name, or an index from 0 to {len(self.names) - 1}")

    def _edges(self, argument: str, edges: Iterable[EdgeLike]) -> NDArray[np.bool_]:
        matrix = np.zeros((len(self.names), len(self.names)), dtype=bool)
        for edge in [edges] if isinstance(edges, str) else edges:
            if isinstance(edge, str) or not isinstance(edge, Iterable) or len(pair := list(edge)) != 2:
                raise bad_argument(OWNER, argument, edge, "pairs (cause, effect) such as ('pump', 'flow')")
            cause, effect = (self._place(argument, node) for node in pair)
            if cause == effect:
                raise bad_argument(OWNER, argument, edge, "edges between two different nodes")
            matrix[cause, effect] = True
        return matrix

    def _tiers(self, tiers: Sequence[Sequence[NodeLike]]) -> tuple[tuple[int, ...], ...]:
        if isinstance(tiers, str) or any(isinstance(tier, str) or not isinstance(tier, Iterable) for tier in tiers):
            raise bad_argument(OWNER, "tiers", tiers, "a list of lists of names, causes first")
        placed = tuple(tuple(self._place("tiers", node) for node in tier) for tier in tiers)
        found: dict[int, int] = {}
        for number, tier in enumerate(placed):
            for node in tier:
                if node in found:
                    raise bad_argument(
                        OWNER,
                        "tiers",
                        self.names[node],
                        f"every node in one tier at most, and this one is in tiers {found[node]} and {number}",
                    )
                found[node] = number
        return placed

    def _backward_edges(self) -> NDArray[np.bool_]:
        tier = np.full(len(self.names), -1)
        for number, nodes in enumerate(self.tiers):
            tier[list(nodes)] = number
        return (tier[:, None] > tier[None, :]) & (tier[None, :] >= 0)

    def _edge_names(self, edges: NDArray[np.int64]) -> str:
        return ", ".join(f"{self.names[i]} -> {self.names[j]}" for i, j in edges)


def _checked_names(names: Sequence[str]) -> tuple[str, ...]:
    if isinstance(names, str) or len(names) < 2 or not all(isinstance(name, str) for name in names):
        raise bad_argument(OWNER, "names", names, "a list of two or more node names (str)")
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if list(names).count(name) > 1})
        raise ConfigurationError(f"{OWNER}: names has {twice} more than once. Every node needs a name of its own.")
    return tuple(names)
