r"""The order of the nodes whose best parents explain the data best.

A graph without a cycle has an order in which every edge leads from earlier to later. For a given order the best parents
of each node are found one by one (`parent_trees`), so the search is over orders: a node is put into the place that
lowers the total score most, node after node, until a whole round has moved none. This is the best order score search
of Andrews et al. 2023 (NeurIPS). Putting node v at place p among the others :math:`u_1 \dots u_{d-1}` has the score

.. math:: \sum_{i<p} s(u_i \mid u_1 \dots u_{i-1}) + s(v \mid u_1 \dots u_{p-1})
          + \sum_{i \ge p} s(u_i \mid u_1 \dots u_{i-1}, v),

so all d places together cost 3 d scores. What stops in a local optimum is shaken and searched again (iterated local
search: Lourenco, Martin and Stutzle 2003), and what was worked out once is never worked out again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from stablelit.families.causal.knowledge import EdgeKnowledge
from stablelit.families.causal.panel import Bools, Ints
from stablelit.families.causal.parent_trees import ParentTrees

# nodes that a shake puts elsewhere, and by how little a move must improve the score, both found to matter little
SHAKEN, LEAST_GAIN = 3, 1e-6


class OrderSearch:
    """Searches for the order with the least total score.

    Args:
        trees: they answer for a node and the nodes before it.
        knowledge: what the trees were made with; orders to begin with are mended by it.
    """

    def __init__(self, trees: ParentTrees, knowledge: EdgeKnowledge) -> None:
        self.trees, self.knowledge = trees, knowledge
        self._bits = trees.bits

    def run(self, starts: Iterable[Sequence[int] | Ints], shakes: int, rng: np.random.Generator) -> tuple[Ints, float]:
        """The best order that is found and its score.

        Args:
            starts: orders to begin with, one or more. The same are searched once.
            shakes: how many times the best order so far is shaken and searched again.
            rng: what shakes draw from.
        """
        best: list[int] = []
        least = float("inf")
        for start in {tuple(self.knowledge.in_order(order).tolist()): None for order in starts}:
            order, score = self.descend(list(start))
            if score < least - LEAST_GAIN or not best:
                best, least = order, score
        for _ in range(shakes):
            order, score = self.descend(self._shaken(best, rng))
            # a tie is taken: it walks along plateaus, of which Markov equivalence makes many
            if score < least + LEAST_GAIN:
                best, least = order, min(score, least)
            self.trees.forget()
        return np.asarray(best, dtype=np.int64), least

    def descend(self, order: list[int]) -> tuple[list[int], float]:
        """Moves one node after another to its best place until none has a better one; the order and its score."""
        score, d = self.total(order), len(order)
        node = unmoved = 0
        ahead = 1
        while unmoved < d:
            # where nothing moves, questions of many nodes are asked together; a move makes most of them moot
            upcoming = [(node + i) % d for i in range(min(ahead, d - unmoved))]
            self.trees.answer(question for v in upcoming for question in self._questions(order, v))
            ahead = min(d, 2 * ahead)
            for v in upcoming:
                node = (v + 1) % d
                place, best = self._best_place(order, v)
                if place is None:
                    unmoved += 1
                    continue
                order.remove(v)
                order.insert(place, v)
                score, unmoved, ahead = best, 0, 1
                break
        return order, score

    def total(self, order: Sequence[int]) -> float:
        """The sum of the scores of all nodes in this order."""
        total, prefix = 0.0, 0
        self.trees.answer(self._along(order))
        for node in order:
            total += self.trees.answers[node][prefix]
            prefix |= self._bits[node]
        return total

    def graph(self, order: Sequence[int] | Ints) -> Bools:
        """``(d, d)`` the graph of an order."""
        edges, prefix = np.zeros((len(order), len(order)), dtype=bool), 0
        for node in order:
            edges[list(self.trees.parents(int(node), prefix)), node] = True
            prefix |= self._bits[node]
        return edges

    def _along(self, order: Sequence[int]) -> Iterable[tuple[int, int]]:
        prefix = 0
        for node in order:
            yield node, prefix
            prefix |= self._bits[node]

    def _questions(self, order: list[int], moving: int) -> Iterable[tuple[int, int]]:
        prefix, with_it = 0, self._bits[moving]
        for node in order:
            if node != moving:
                yield moving, prefix
                yield node, prefix
                yield node, prefix | with_it
                prefix |= self._bits[node]
        yield moving, prefix

    def _best_place(self, order: list[int], moving: int) -> tuple[int | None, float]:
        """Where to put a node among the others, or None where it is best; and the total score there."""
        answers, bits = self.trees.answers, self._bits
        own, with_it = answers[moving], bits[moving]
        others = [node for node in order if node != moving]
        before, here, after = [0.0], [], []
        prefix = 0
        for node in others:
            known = answers[node]
            here.append(own[prefix])
            before.append(before[-1] + known[prefix])
            after.append(known[prefix | with_it])
            prefix |= bits[node]
        here.append(own[prefix])
        behind, totals = 0.0, [0.0] * len(here)
        for place in range(len(others), -1, -1):
            if place < len(others):
                behind += after[place]
            totals[place] = before[place] + here[place] + behind
        now = order.index(moving)
        # places that differ by rounding are a tie, which units must not decide: the first of them
        enough = min(totals) + LEAST_GAIN
        best = next(place for place, total in enumerate(totals) if total <= enough)
        if totals[best] < totals[now] - LEAST_GAIN:
            return best, totals[best]
        return None, totals[now]

    def _shaken(self, order: list[int], rng: np.random.Generator) -> list[int]:
        shaken = list(order)
        for _ in range(min(SHAKEN, len(order) - 1)):
            node = shaken.pop(int(rng.integers(len(shaken))))
            shaken.insert(int(rng.integers(len(shaken) + 1)), node)
        mended: list[int] = self.knowledge.in_order(shaken).tolist()
        return mended
