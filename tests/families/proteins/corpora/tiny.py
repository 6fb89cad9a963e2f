"""A corpus so small that all of its sequences can be written down, and the sums over them by brute force."""

from __future__ import annotations

import itertools

import numpy as np

from stablelit.families.proteins.corpora.hidden_markov import HiddenMarkovCorpus

N, LENGTH = 3, 4
TRANSITION = np.array([[0.6, 0.4, 0.0], [0.1, 0.2, 0.7], [0.5, 0.0, 0.5]])
EMISSION = np.array([[0.7, 0.2, 0.1], [0.0, 0.5, 0.5], [0.3, 0.3, 0.4]])


def tiny() -> HiddenMarkovCorpus:
    return HiddenMarkovCorpus(TRANSITION, EMISSION)


def everything(length: int = LENGTH, n: int = N) -> np.ndarray:
    return np.array(list(itertools.product(range(n), repeat=length)))


def joint(corpus: HiddenMarkovCorpus, tokens: np.ndarray) -> np.ndarray:
    """p of each sequence: the sum over every path of hidden states."""
    total = np.zeros(len(tokens))
    for path in itertools.product(range(len(corpus.start)), repeat=tokens.shape[1]):
        p = corpus.start[path[0]] * np.ones(len(tokens))
        for a, b in itertools.pairwise(path):
            p *= corpus.transition[a, b]
        for i, state in enumerate(path):
            p = p * corpus.emission[state, tokens[:, i]]
        total += p
    return total


def conditional_by_sums(p: np.ndarray, tokens: np.ndarray, row: np.ndarray, known: np.ndarray, i: int) -> np.ndarray:
    """p(x_i | the known others) of one sequence from the table of the joint law."""
    others = known.copy()
    others[i] = False
    fits = (tokens[:, others] == row[others]).all(axis=1)
    law = np.bincount(tokens[fits, i], weights=p[fits], minlength=N)
    return law / law.sum()
