"""MarkovCorpus: each residue depends on the one before it; everything has a closed form."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stablelit.errors import bad_argument
from stablelit.families.proteins.corpora.background import amino_acid_frequencies
from stablelit.families.proteins.corpora.chain import checked_law, entropy_of
from stablelit.families.proteins.corpora.estimate import Estimate
from stablelit.families.proteins.corpora.hidden_markov import HiddenMarkovCorpus, share_with_position
from stablelit.families.proteins.corpora.streams import Seed
from stablelit.functional.schedules import check_count, check_number

_STRENGTH = 1.5


class MarkovCorpus(HiddenMarkovCorpus):
    """A Markov chain of first order in its stationary law pi, with h the entropy of a step.

    ``-E[ln p(x)] = H(pi) + (L - 1) h``,   ``h = sum_a pi(a) H(T[a, :])``.

    Args:
        transition: T, ``(N, N)``, from row to column; None: one with the amino acids' frequencies as its stationary law
            (:func:`coupled_transition`).

    Raises:
        ConfigurationError: no laws, or no one stationary law.
    """

    def __init__(self, transition: ArrayLike | None = None) -> None:
        if transition is None:
            transition = coupled_transition(amino_acid_frequencies(), _STRENGTH)
        super().__init__(transition, np.eye(len(np.asarray(transition))))

    def entropy(self, lengths: int | ArrayLike, n_samples: int = 4096, seed: Seed = 0) -> Estimate:
        """``(H(pi) + (L - 1) h) / L``, exactly; of unequal lengths by the mean of L."""
        mean_length = float(share_with_position(type(self).__name__, lengths).sum())
        step = self.entropy_rate().value
        return Estimate((self.unigram_entropy() + (mean_length - 1.0) * step) / mean_length)

    def entropy_rate(self, n_samples: int = 4096, seed: Seed = 0) -> Estimate:
        """h, exactly."""
        return Estimate(float(self.start @ entropy_of(self.transition)))

    def oracle_cross_entropy(self, mask_rate: float, length: int, n_samples: int = 1024, seed: Seed = 0) -> Estimate:
        """Exact: a masked residue depends on the nearest known one on either side, at distances a and b.

        With ``h_k = H(x_k | x_0)`` (``h_inf = H(pi)``: nothing is known on that side),
        ``H(x_0 | x_{-a}, x_b) = h_a + h_b - h_{a+b}``, and known residues are at distances of a geometric law.
        """
        owner = type(self).__name__
        rate = check_number(owner, "mask_rate", mask_rate, above=0.0, at_most=1.0)
        length = check_count(owner, "length", length, 1)
        place, distance = np.arange(length)[:, None], np.arange(1, length)[None]
        nearest = np.where(distance <= place, rate ** (distance - 1.0) * (1.0 - rate), 0.0)
        left = np.hstack([nearest, rate**place])
        pairs = left.T @ left[::-1] / length
        step = self._step_entropies(2 * length)
        side = np.append(step[1:length], step[-1])
        apart = np.add.outer(np.arange(1, length + 1), np.arange(1, length + 1))
        apart[-1, :] = apart[:, -1] = 2 * length
        return Estimate(float((pairs * (side[:, None] + side[None] - step[apart])).sum()))

    def _step_entropies(self, most: int) -> NDArray[np.float64]:
        """``h_0`` to ``h_{most-1}``, and behind them ``h_inf``."""
        power, found = np.eye(self.n_residues), []
        for _ in range(most):
            found.append(float(self.start @ entropy_of(power)))
            power = power @ self.transition
        return np.array([*found, self.unigram_entropy()])


def coupled_transition(law: ArrayLike, strength: float = _STRENGTH, seed: int = 0) -> NDArray[np.float64]:
    """A reversible chain whose stationary law is given and whose steps depend on where they start.

    ``pi(a) T(a, b) = d(a) exp(strength G(a, b)) d(b)`` with a symmetric standard normal G, and d such that the rows of
    the left side sum to pi (Sinkhorn). Strength 0 is independence.

    Args:
        law: pi, ``(N,)``, none 0.
        strength: at least 0; 1.5 leaves amino acids 2.23 nats a step of 2.89.
        seed: of G.

    Returns:
        T, ``(N, N)``.

    Raises:
        ConfigurationError: an argument out of range.
    """
    owner = "coupled_transition"
    marginal = checked_law(owner, "law", law, (None,))
    if (marginal == 0).any():
        raise bad_argument(owner, "law", law, "probabilities above 0: a residue that never occurs has no row")
    check_number(owner, "strength", strength, at_least=0.0, at_most=10.0)
    normal = np.random.default_rng(check_count(owner, "seed", seed, 0)).standard_normal((len(marginal),) * 2)
    coupling = np.exp(strength * (normal + normal.T) / np.sqrt(2.0))
    scale = np.sqrt(marginal)
    for _ in range(10_000):
        reached = scale * (coupling @ scale)
        if np.abs(reached - marginal).max() < 1e-15:
            break
        # the square root of Sinkhorn's step: for a symmetric matrix the full one swings
        scale = scale * np.sqrt(marginal / reached)
    joint = scale[:, None] * coupling * scale[None]
    return joint / joint.sum(axis=1, keepdims=True)
