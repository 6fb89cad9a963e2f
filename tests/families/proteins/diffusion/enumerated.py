"""A joint law of short sequences, written out, and everything that diffusion should find out about it."""

from __future__ import annotations

import itertools

import numpy as np
import torch


class Joint:
    """p over all N^L sequences, float64."""

    def __init__(self, n_states, length, seed=0, sharpness=2.0):
        self.n, self.length = n_states, length
        self.sequences = torch.tensor(list(itertools.product(range(n_states), repeat=length)))
        raw = torch.rand(len(self.sequences), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        self.p = raw**sharpness / (raw**sharpness).sum()

    @property
    def entropy(self):
        return float(-(self.p * self.p.log()).sum())

    def cross_entropy(self, other):
        return float(-(self.p * other.p.log()).sum())

    def index(self, tokens):
        powers = self.n ** torch.arange(self.length - 1, -1, -1)
        return (tokens * powers).sum(-1)

    def sample(self, n, generator):
        return self.sequences[torch.multinomial(self.p, n, replacement=True, generator=generator)]

    def masked_posterior(self, xt, sigma=None):
        """log p(x0_i | what is not masked in xt), mask = N: (B, L, N)."""
        fits = (xt[:, None, :] == self.n) | (xt[:, None, :] == self.sequences[None])
        return self._marginals(fits.all(-1) * self.p).log()

    def noisy_posterior(self, xt, matrix):
        """p(x0_i | xt) where every residue went through matrix[to, from]: (B, L, N)."""
        fits = matrix[xt[:, None, :], self.sequences[None]].prod(-1)
        return self._marginals(fits * self.p)

    def noisy_law(self, matrix):
        """q(xt) of every sequence."""
        return matrix[self.sequences[:, None, :], self.sequences[None]].prod(-1) @ self.p

    def uniform_log_score(self, xt, matrix):
        """log q(y at i, rest of xt) / q(xt), by looking both up: (B, L, N)."""
        law = self.noisy_law(matrix)
        ratios = torch.empty(*xt.shape, self.n, dtype=torch.float64)
        for i in range(self.length):
            for y in range(self.n):
                changed = xt.clone()
                changed[:, i] = y
                ratios[:, i, y] = law[self.index(changed)] / law[self.index(xt)]
        return ratios.log()

    def chi_square(self, tokens):
        """Of drawn sequences against p; its mean is N^L - 1, its variance twice that."""
        counts = torch.bincount(self.index(tokens), minlength=len(self.p)).double()
        expected = self.p * len(tokens)
        return float(((counts - expected) ** 2 / expected).sum())

    def _marginals(self, weights):
        weights = weights / weights.sum(-1, keepdim=True)
        one_hot = torch.nn.functional.one_hot(self.sequences, self.n).double()
        return torch.einsum("bs,sln->bln", weights, one_hot)


def gauss_legendre(n, low=0.0, high=1.0):
    """Nodes and weights in float64."""
    nodes, weights = np.polynomial.legendre.leggauss(n)
    half = (high - low) / 2
    return torch.from_numpy(low + half * (nodes + 1)), torch.from_numpy(half * weights)


def most_chi_square(degrees):
    """Four standard deviations above the mean: a fixed seed passes or has found something."""
    return degrees + 4 * (2 * degrees) ** 0.5
