"""HiddenMarkovCorpus: sequences, and every probability that a model of them could be asked for, exactly."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from stablelit.errors import DataError, bad_argument
from stablelit.families.proteins.corpora.chain import RowSampler, checked_law, entropy_of, stationary_law
from stablelit.families.proteins.corpora.estimate import Estimate
from stablelit.families.proteins.corpora.recursions import Tables, conditional, forward, row_chunks
from stablelit.families.proteins.corpora.streams import BLOCK, Seed, draw_in_blocks
from stablelit.functional.schedules import check_count, check_number

_STREAM = 0
_MOST_ENUMERATED = 2**16
_RATE_PAST = 128


class HiddenMarkovCorpus:
    """A hidden Markov model that starts in its stationary law, so that all positions are alike.

    ``p(x) = sum_s pi(s_0) prod_i T(s_{i-1}, s_i) prod_i E(s_i, x_i)``; a prefix of a sequence is a sequence of the same
    corpus, so that sequences of unequal lengths are cut from sequences of one length.

    Whoever predicts residues from this corpus, by whatever means, has an expected loss of at least what this class
    says: `entropy` for likelihoods, `oracle_cross_entropy` for masked residues. All figures are nats per residue.

    Args:
        transition: ``(S, S)``, from row to column.
        emission: ``(S, N)`` of N residues, at most 255.

    Raises:
        ConfigurationError: tables that are no laws, or transitions without one stationary law.
    """

    def __init__(self, transition: ArrayLike, emission: ArrayLike) -> None:
        owner = type(self).__name__
        self.emission = checked_law(owner, "emission", emission, (None, None))
        n_states, self.n_residues = self.emission.shape
        self.transition = checked_law(owner, "transition", transition, (n_states, n_states))
        if self.n_residues > 255:
            raise bad_argument(owner, "emission", self.emission.shape, "at most 255 residues (tokens are uint8)")
        self.start = stationary_law(self.transition, owner)
        self._states, self._first_state = RowSampler(self.transition), RowSampler(self.start[None])
        self._residues = RowSampler(self.emission)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(n_states={len(self.start)}, n_residues={self.n_residues})"

    def sample(self, count: int, length: int, seed: Seed = 0, first: int = 0) -> NDArray[np.uint8]:
        """Sequences `first` to ``first + count`` of the row of sequences that the seed names.

        A sequence depends on the seed and its place alone, and its beginning not on its length.

        Args:
            count: how many.
            length: residues of each.
            seed: of the row; a generator draws one.
            first: place of the first: validation data of the same corpus begin where the training data end.

        Returns:
            Codes ``(count, length)``, uint8.
        """
        return self.sample_paths(count, length, seed, first)[1]

    def sample_paths(
        self, count: int, length: int, seed: Seed = 0, first: int = 0
    ) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
        """The hidden states ``(count, length)`` of `sample`, and its sequences."""
        check_count(type(self).__name__, "length", length, 1)

        def draw(rng: np.random.Generator) -> NDArray[np.uint16]:
            # position by position, so that a longer sequence begins as a shorter one
            uniform = rng.random((length, 2, BLOCK))
            state = self._first_state.draw(np.zeros(BLOCK, dtype=np.int64), uniform[0, 0])
            both = np.empty((2, length, BLOCK), dtype=np.uint16)
            for i in range(length):
                if i:
                    state = self._states.draw(state, uniform[i, 0])
                both[:, i] = state, self._residues.draw(state, uniform[i, 1])
            return both.transpose(2, 0, 1)

        both = draw_in_blocks(draw, count, seed, first, _STREAM, type(self).__name__)
        return both[:, 0].copy(), both[:, 1].astype(np.uint8)

    def log_prob(self, tokens: Any, lengths: Any = None, known: Any = None) -> Tensor:
        """``ln p`` of sequences, or of what is known of them, nats a sequence.

        Args:
            tokens: ``(B, L)`` codes, tensor or array; of what is not known, anything.
            lengths: ``(B,)`` residues of each, the others are padding; None: all.
            known: ``(B, L)`` bool: the other residues are summed over; None: all are known.

        Returns:
            ``(B,)`` float64 on the tokens' device; minus infinity for what cannot occur.

        Raises:
            DataError: a known token that is no residue, or shapes that do not fit.
        """
        codes, _ = self._codes(tokens, lengths, known)
        tables, parts = self._tables(codes.device), row_chunks(*codes.shape, len(self.start))
        logs = [forward(tables, codes[rows])[1].sum(0) for rows in parts]
        return torch.cat(logs) if logs else codes.new_empty(0, dtype=torch.float64)

    def conditional(self, tokens: Any, known: Any = None, lengths: Any = None) -> Tensor:
        """``p(x_i | the known residues other than x_i)`` for all i: the best that can be said of each residue.

        Args:
            tokens: ``(B, L)`` codes, tensor or array; of what is not known, anything.
            known: ``(B, L)`` bool; None: all.
            lengths: ``(B,)``; None: L. Beyond its length stands what a longer sequence would go on with.

        Returns:
            ``(B, L, N)`` float64 on the tokens' device.

        Raises:
            DataError: as `log_prob`, or a sequence that cannot occur in this corpus.
        """
        codes, _ = self._codes(tokens, lengths, known)
        tables, parts = self._tables(codes.device), row_chunks(*codes.shape, len(self.start) + self.n_residues)
        laws = [conditional(tables, codes[rows]) for rows in parts]
        law = torch.cat(laws) if laws else tables.start.new_empty((*codes.shape, self.n_residues))
        impossible = law.isnan().any(-1).any(-1)
        if impossible.any():
            row = int(impossible.nonzero()[0, 0])
            raise DataError(
                f"{type(self).__name__}: sequence {row} has probability 0 in this corpus, so that no residue of it has "
                f"a law given the others. Give sequences of this corpus, or mask what does not belong to it."
            )
        return law

    def posterior(self, tokens: Any, known_mask: Any, lengths: Any = None) -> Tensor:
        """``p(x_i | the known residues)``: `conditional` at a masked residue, certainty at a known one.

        Args and Raises as `conditional`.

        Returns:
            ``(B, L, N)`` float64.
        """
        law = self.conditional(tokens, known_mask, lengths)
        codes, known = self._codes(tokens, lengths, known_mask)
        certain = torch.nn.functional.one_hot(codes.masked_fill(~known, 0), self.n_residues).to(law.dtype)
        return torch.where(known[..., None], certain, law)

    def unigram(self) -> NDArray[np.float64]:
        """The law of one residue, ``(N,)``, the same at every position."""
        return self.start @ self.emission

    def unigram_entropy(self) -> float:
        """Nats: the loss of whoever knows the frequencies and nothing else."""
        return float(entropy_of(self.unigram()))

    def entropy(self, lengths: int | ArrayLike, n_samples: int = 4096, seed: Seed = 0) -> Estimate:
        """``-E[ln p(x)] / E[L]``: nats a residue that no model of whole sequences can fall below.

        Estimated as the mean entropy of the next residue given those before it, which has the same expectation as
        ``-ln p`` and less noise; by enumeration where there are at most 65,536 sequences.

        Args:
            lengths: of all sequences, or ``(n,)`` of each.
            n_samples: sequences drawn.
            seed: of them; a generator draws one.

        Returns:
            The value, and its standard error: 0 where it is exact.
        """
        share = share_with_position(type(self).__name__, lengths)
        if self.n_residues ** len(share) <= _MOST_ENUMERATED:
            return Estimate(float((self._enumerated_entropies(len(share)) * share).sum() / share.sum()))
        by_position = self._predictive_entropies(len(share), n_samples, seed)
        return Estimate.of_draws(by_position @ share / share.sum())

    def entropy_rate(self, n_samples: int = 4096, seed: Seed = 0) -> Estimate:
        """``lim H(x_L | x_0 .. x_{L-1})``, nats a residue, estimated behind a past of 128 residues."""
        return Estimate.of_draws(self._predictive_entropies(2 * _RATE_PAST, n_samples, seed)[:, _RATE_PAST:].mean(1))

    def oracle_cross_entropy(self, mask_rate: float, length: int, n_samples: int = 1024, seed: Seed = 0) -> Estimate:
        """Expected ``-ln p(x_i | unmasked)`` of a masked residue where each is masked with probability `mask_rate`.

        No denoiser does better. Estimated from the entropy of `conditional` at every position, masked or not: whether
        a residue is known does not enter its own law.

        Args:
            mask_rate: in (0, 1].
            length: residues of a sequence.
            n_samples: sequences drawn.
            seed: of sequences and masks; a generator draws one.

        Returns:
            Nats a masked residue.
        """
        owner = type(self).__name__
        check_number(owner, "mask_rate", mask_rate, above=0.0, at_most=1.0)
        tokens = self.sample(check_count(owner, "n_samples", n_samples, 1), length, seed)
        rng = np.random.default_rng(seed if isinstance(seed, np.random.Generator) else [seed, 1])
        law = self.conditional(tokens, rng.random(tokens.shape) >= mask_rate)
        return Estimate.of_draws(torch.special.entr(law).sum(-1).mean(-1).numpy())

    def _predictive_entropies(self, length: int, n_samples: int, seed: Seed) -> NDArray[np.float64]:
        codes = torch.from_numpy(self.sample(check_count(type(self).__name__, "n_samples", n_samples, 1), length, seed))
        tables = self._tables(codes.device)
        parts = []
        for rows in row_chunks(*codes.shape, len(self.start) + self.n_residues):
            predicted, _ = forward(tables, codes[rows].long())
            parts.append(torch.special.entr(predicted @ tables.emission).sum(-1).T)
        return torch.cat(parts).numpy()

    def _enumerated_entropies(self, length: int) -> NDArray[np.float64]:
        everything = np.indices((self.n_residues,) * length).reshape(length, -1).T
        tables = self._tables(torch.device("cpu"))
        log_scale = forward(tables, torch.from_numpy(everything.copy()))[1]
        surprise = torch.where(log_scale.isfinite(), -log_scale, 0.0)
        return (log_scale.sum(0).exp() * surprise).sum(-1).numpy()

    def _tables(self, device: torch.device) -> Tables:
        start, transition, emission = (
            torch.tensor(table, dtype=torch.float64, device=device)
            for table in (self.start, self.transition, self.emission)
        )
        return Tables.of(start, transition, emission)

    def _codes(self, tokens: Any, lengths: Any, known: Any) -> tuple[Tensor, Tensor]:
        """Codes with N for what is not known, and what is."""
        owner, codes = type(self).__name__, torch.as_tensor(tokens)
        if codes.dim() != 2 or codes.is_floating_point() or codes.dtype == torch.bool:
            raise DataError(
                f"{owner}: tokens are {codes.dtype} {tuple(codes.shape)}. Allowed: integers of shape (B, L)."
            )
        codes = codes.long()
        seen = torch.ones_like(codes, dtype=torch.bool)
        if known is not None:
            seen = torch.as_tensor(known, device=codes.device)
            if seen.dtype != torch.bool or seen.shape != codes.shape:
                raise DataError(
                    f"{owner}: known is {seen.dtype} {tuple(seen.shape)}. Allowed: bool {tuple(codes.shape)}."
                )
        if lengths is not None:
            ends = torch.as_tensor(lengths, device=codes.device)
            if ends.shape != codes.shape[:1]:
                raise DataError(f"{owner}: lengths have shape {tuple(ends.shape)}. Allowed: ({len(codes)},).")
            seen = seen & (torch.arange(codes.shape[1], device=codes.device) < ends[:, None])
        bad = seen & ((codes < 0) | (codes >= self.n_residues))
        if bad.any():
            row, column = bad.nonzero()[0].tolist()
            raise DataError(
                f"{owner}: sequence {row}, position {column}: token {int(codes[row, column])} is no residue. Allowed: "
                f"0 to {self.n_residues - 1}; say with `known` or `lengths` what is masked, unknown or padding."
            )
        return codes.masked_fill(~seen, self.n_residues), seen


def share_with_position(owner: str, lengths: int | ArrayLike) -> NDArray[np.float64]:
    """``(L,)``: the share of sequences that have a residue at each position."""
    try:
        whole = np.atleast_1d(np.array(operator.index(lengths)))  # type: ignore[arg-type]
    except TypeError:
        whole = np.atleast_1d(np.asarray(lengths))
    if whole.ndim != 1 or whole.size == 0 or not np.issubdtype(whole.dtype, np.integer) or whole.min() < 1:
        raise bad_argument(owner, "lengths", lengths, "an int of 1 or more, or a row of them")
    counts = np.bincount(whole - 1)
    return np.cumsum(counts[::-1])[::-1] / whole.size
