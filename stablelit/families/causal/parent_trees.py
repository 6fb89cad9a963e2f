r"""The parents of a node given which nodes may come before it, by growing and shrinking, without doing anything twice.

Growing takes the allowed candidate that explains most, as long as it is worth half the price of a parent; shrinking
takes away the parent whose loss lowers the score most, at the full price, until none does. (At the full price growing
misses causes that nearly cancel, since each is worth its price only with the other: of 26 simulated graphs the search
then missed the best known score in 3, at half the price in 1.) Which candidate comes next depends on those taken so
far, and on the nodes before only by which of the candidates they offer. So all growths of a node are paths in one tree,
whose branches list their candidates best first: the grow-shrink trees of Andrews, Ramsey, Sanchez-Romero, Camchong and
Kummerfeld 2023 (*Fast scalable and accurate discovery of DAGs using the best order score search and grow-shrink
trees*, NeurIPS), section 3.2. A prefix (the nodes before) is an int with bit i for node i.

What is new here: all questions of a batch walk down together, and the branches that are missing at one depth are made
in one go. A branch costs a row of a Cholesky factor: with l the row that belongs to the candidate taken,

.. math:: v_i \leftarrow v_i - l_i^2,\quad r_i \leftarrow r_i - l_i l_j, \quad
          \mathrm{RV}_j(P \cup i) = v_j - r_i^2 / v_i

for the conditional variances v of all nodes and their conditional covariances r with node j.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from stablelit.families.causal.knowledge import EdgeKnowledge
from stablelit.families.causal.node_scores import LEAST_SHARE, NodeScore
from stablelit.families.causal.panel import Floats, Ints

# how many numbers a batch of branches may work on at once, and a forest may keep
BATCH_NUMBERS, KEPT_NUMBERS, KEPT_ANSWERS = 2**20, 2**24, 2**20


class ParentTrees:
    """Answers ``(node, prefix)`` with the best score that parents from the prefix give, as found by grow and shrink.

    Args:
        score: of a node and its parents.
        knowledge: forbidden edges are no candidates, required ones are taken first and kept. A prefix without a
            required parent has the score infinity.
    """

    def __init__(self, score: NodeScore, knowledge: EdgeKnowledge) -> None:
        self.score = score
        self.nodes = score.statistics.nodes
        self.bits = [1 << i for i in range(self.nodes)]
        self.answers: list[dict[int, float]] = [{} for _ in range(self.nodes)]
        self._allowed = knowledge.allowed.T & score.varies
        self._required = knowledge.required.T.copy()
        self._must = [sum(self.bits[i] for i in np.flatnonzero(row)) for row in self._required]
        own = len(score.covariances) > 1
        self._table = np.arange(self.nodes) if own else np.zeros(self.nodes, dtype=np.int64)
        self._variances = np.diagonal(score.covariances, axis1=1, axis2=2).copy()
        self._count = 0
        self._plant()

    def answer(self, questions: Iterable[tuple[int, int]]) -> None:
        """Puts the scores of ``(node, prefix)`` questions into `answers`, all at once."""
        walking = []
        for node, prefix in questions:
            known = self.answers[node]
            if prefix not in known:
                # until it is known, so that a question asked twice walks once
                known[prefix] = math.inf
                if not self._must[node] & ~prefix:
                    walking.append((node, prefix, self._roots[node]))
        if not walking:
            return
        if self._count * self.nodes > KEPT_NUMBERS:
            self._plant()
            walking = [(node, prefix, self._roots[node]) for node, prefix, _ in walking]
        arrived = self._walk(walking)
        bare = list({place for _, _, place in arrived if place not in self._leaf})
        if bare:
            self._shrink(np.asarray(bare))
        for node, prefix, place in arrived:
            self.answers[node][prefix] = self._leaf[place][0]

    def value(self, node: int, prefix: int) -> float:
        """The score of a node after the nodes of the prefix."""
        known = self.answers[node].get(prefix)
        if known is None:
            self.answer([(node, prefix)])
            known = self.answers[node][prefix]
        return known

    def parents(self, node: int, prefix: int) -> tuple[int, ...]:
        """The parents that go with `value`."""
        place = self._walk([(node, prefix, self._roots[node])])[0][2]
        if place not in self._leaf:
            self._shrink(np.array([place]))
        return self._leaf[place][1]

    def forget(self) -> None:
        """Drops the answers where they have become too many; the trees stay."""
        if sum(map(len, self.answers)) > KEPT_ANSWERS:
            for known in self.answers:
                known.clear()

    def _plant(self) -> None:
        d = self.nodes
        self._rows = np.zeros((max(64, 4 * d), d))
        # place 0 is a row of zeros, with which short paths are filled up
        self._paths = np.zeros((len(self._rows), 4), dtype=np.int64)
        self._taken = np.zeros((len(self._rows), 4), dtype=np.int64)
        self._depth = np.zeros(len(self._rows), dtype=np.int64)
        self._target = np.zeros(len(self._rows), dtype=np.int64)
        self._offers: list[list[int]] = [[]]
        self._offered: list[int] = [0]
        self._children: list[dict[int, int]] = [{}]
        # score and parents of the branches that were arrived at
        self._leaf: dict[int, tuple[float, tuple[int, ...]]] = {}
        self._count = 1
        everyone = np.arange(d)
        places = self._room(d)
        self._target[places] = everyone
        self._offer(places, self._variances[self._table], self._covariance_rows(everyone, everyone))
        self._roots = places.tolist()
        for parent in range(d):
            # required parents are taken first, whatever they explain
            with_it = np.flatnonzero(self._required[:, parent])
            if len(with_it):
                grown = self._grow(np.asarray(self._roots)[with_it], np.full(len(with_it), parent))
                for node, place in zip(with_it, grown, strict=True):
                    self._roots[node] = place

    def _room(self, more: int) -> Ints:
        while self._count + more > len(self._rows):
            for name in ("_rows", "_paths", "_taken", "_depth", "_target"):
                array = getattr(self, name)
                setattr(self, name, np.concatenate([array, np.zeros_like(array)]))
        places = np.arange(self._count, self._count + more)
        self._count += more
        self._children += [{} for _ in range(more)]
        return places

    def _walk(self, walking: Sequence[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
        offers, offered, children = self._offers, self._offered, self._children
        arrived = []
        while walking:
            missing: dict[tuple[int, int], list[tuple[int, int]]] = {}
            for node, prefix, place in walking:
                while True:
                    if not offered[place] & prefix:
                        arrived.append((node, prefix, place))
                        break
                    for bit in offers[place]:
                        if bit & prefix:
                            break
                    child = children[place].get(bit)
                    if child is None:
                        missing.setdefault((place, bit), []).append((node, prefix))
                        break
                    place = child
            walking = []
            if missing:
                places = [place for place, _ in missing]
                grown = self._grow(np.asarray(places), np.asarray([bit.bit_length() - 1 for _, bit in missing]))
                for ((place, bit), waiting), child in zip(missing.items(), grown, strict=True):
                    children[place][bit] = child
                    walking += [(node, prefix, child) for node, prefix in waiting]
        return arrived

    def _grow(self, parents: Ints, candidates: Ints) -> list[int]:
        width = int(self._depth[parents].max()) + 2
        at_once = max(1, BATCH_NUMBERS // (width * self.nodes))
        if len(parents) > at_once:
            cuts = range(0, len(parents), at_once)
            return [c for i in cuts for c in self._grow(parents[i : i + at_once], candidates[i : i + at_once])]
        places = self._room(len(parents))
        depth = int(self._depth[parents].max())
        if depth + 1 > self._paths.shape[1]:
            self._paths, self._taken = (np.pad(a, ((0, 0), (0, a.shape[1]))) for a in (self._paths, self._taken))
        node = self._target[parents]
        each = np.arange(len(parents))
        factor = np.empty((len(parents), depth + 1, self.nodes))
        factor[:, :depth] = self._rows[self._paths[parents, :depth]]
        row = self._covariance_rows(node, candidates)
        if depth:
            row = row - (factor[each, :depth, candidates][:, None] @ factor[:, :depth])[:, 0]
        row = row / np.sqrt(row[each, candidates])[:, None]
        factor[:, depth] = row
        self._rows[places] = row
        self._target[places], self._depth[places] = node, self._depth[parents] + 1
        for array, new in ((self._paths, places), (self._taken, candidates)):
            array[places] = array[parents]
            array[places, self._depth[parents]] = new
        variances = self._variances[self._table[node]] - np.einsum("bkd,bkd->bd", factor, factor)
        covariances = self._covariance_rows(node, node) - (factor[each, :, node][:, None] @ factor)[:, 0]
        self._offer(places, variances, covariances)
        children: list[int] = places.tolist()
        return children

    def _offer(self, places: Ints, variances: Floats, covariances: Floats) -> None:
        """Lists the candidates of new branches that are worth their price, best first."""
        node = self._target[places]
        each = np.arange(len(places))
        usable = self._allowed[node] & (variances > LEAST_SHARE * self._variances[self._table[node]])
        depth = self._depth[places]
        if depth.any():
            width = int(depth.max())
            taken = np.where(np.arange(width) < depth[:, None], self._taken[places, :width], node[:, None])
            usable[each[:, None], taken] = False
        usable[depth >= self.score.most_parents[node]] = False
        drop = np.where(usable, covariances**2 / np.where(usable, variances, 1.0), 0.0)
        worth = drop > self.score.least_drop(node, variances[each, node])[:, None]
        count = worth.sum(axis=1).tolist()
        best_first = np.argsort(np.where(worth, -drop, np.inf), axis=1, kind="stable")[:, : max(count)].tolist()
        bits = self.bits
        for candidates, number in zip(best_first, count, strict=True):
            offers = [bits[i] for i in candidates[:number]]
            self._offers.append(offers)
            self._offered.append(sum(offers))

    def _shrink(self, places: Ints) -> None:
        """Gives branches at which growth has stopped their parents and score."""
        width = int(self._depth[places].max()) + 1
        at_once = max(1, BATCH_NUMBERS // width**2)
        if len(places) > at_once:
            for i in range(0, len(places), at_once):
                self._shrink(places[i : i + at_once])
            return
        node = self._target[places]
        members = np.concatenate([node[:, None], self._taken[places, : width - 1]], axis=1)
        alive = np.arange(width) <= self._depth[places, None]
        table = self._table[node][:, None, None]
        block = self.score.covariances[table, members[:, :, None], members[:, None, :]]
        inverse = np.linalg.inv(np.where(alive[:, :, None] & alive[:, None, :], block, np.eye(width)))
        loose = alive & ~self._required[node[:, None], members]
        loose[:, 0] = False
        shrinking = np.arange(len(node))
        while len(shrinking):
            own = inverse[shrinking, 0, 0]
            rest = own[:, None] - inverse[shrinking, 0] ** 2 / np.diagonal(inverse[shrinking], axis1=1, axis2=2)
            rise = np.where(loose[shrinking], 1.0 / np.where(loose[shrinking], rest, 1.0), np.inf) - 1.0 / own[:, None]
            least = rise.argmin(axis=1)
            gone = rise[np.arange(len(shrinking)), least] < self.score.most_rise(node[shrinking], 1.0 / own)
            shrinking, least = shrinking[gone], least[gone]
            column = inverse[shrinking, :, least]
            pivot = column[np.arange(len(shrinking)), least]
            inverse[shrinking] -= column[:, :, None] * (column / pivot[:, None])[:, None, :]
            # what is left of its own row and column is 0 but for rounding; it is out of every sum below
            inverse[shrinking, least, least] = 1.0
            loose[shrinking, least] = alive[shrinking, least] = False
        floor = LEAST_SHARE * self._variances[self._table[node], node]
        value = self.score.likelihood(node, np.maximum(1.0 / inverse[:, 0, 0], floor))
        value = value + self.score.price[node] * (alive.sum(axis=1) - 1)
        for place, j, total, chosen, kept in zip(
            places.tolist(), node.tolist(), value.tolist(), members.tolist(), alive.tolist(), strict=True
        ):
            parents = tuple(sorted(i for i, stays in zip(chosen[1:], kept[1:], strict=True) if stays))
            self._leaf[place] = (total + self.score.beyond_covariance(j, parents), parents)

    def _covariance_rows(self, node: Ints, of: Ints) -> Floats:
        return np.asarray(self.score.covariances[self._table[node], of])
