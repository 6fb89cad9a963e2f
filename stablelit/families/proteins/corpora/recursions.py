"""Forward and backward recursions of a hidden Markov model with holes in what is observed, in float64.

With the transition matrix T, the emissions E, the stationary law pi and e_i(s) = E[s, x_i], or 1 where x_i is not
known (L. Rabiner, Proc. IEEE 77 (1989) 257, eqs. 18-25, with a scale at each position)::

    predicted_0 = pi,   predicted_i = filtered_{i-1} T
    filtered_i  = predicted_i e_i / c_i,   c_i = sum_s predicted_i e_i,   ln p(known) = sum_i ln c_i
    backward_{L-1} = 1,  backward_i = T (e_{i+1} backward_{i+1}), scaled

What is not known has c_i = 1 and changes nothing: the end of a padded sequence is a hole like any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

# float64 numbers that one recursion may keep: 128 MB
_MOST_NUMBERS = 2**24


@dataclass(frozen=True)
class Tables:
    """A hidden Markov model of S states and N residues on a device.

    Args:
        start: ``(S,)``.
        transition: ``(S, S)``, from row to column.
        emission: ``(S, N)``.
        likelihood: ``(N + 1, S)``: of each residue, and of a hole.
    """

    start: Tensor
    transition: Tensor
    emission: Tensor
    likelihood: Tensor

    @classmethod
    def of(cls, start: Tensor, transition: Tensor, emission: Tensor) -> Tables:
        """With the likelihoods of residues laid out for look-up."""
        hole = torch.ones_like(start)[None]
        return cls(start, transition, emission, torch.cat([emission.T, hole]).contiguous())


def row_chunks(n_rows: int, length: int, n_states: int) -> Iterator[slice]:
    """Parts of a batch whose recursions fit in memory."""
    size = max(1, _MOST_NUMBERS // max(1, length * n_states))
    return (slice(begin, begin + size) for begin in range(0, n_rows, size))


def forward(tables: Tables, codes: Tensor) -> tuple[Tensor, Tensor]:
    """The forward recursion.

    Args:
        tables: the model.
        codes: ``(B, L)``, N for a hole.

    Returns:
        ``predicted`` ``(L, B, S)``: the law of each state given what is known before it; ``ln c`` ``(L, B)``.
    """
    n, length = codes.shape
    predicted = tables.start.new_empty((length, n, len(tables.start)))
    scale = tables.start.new_empty((length, n))
    filtered = tables.start.expand(n, -1)
    for i in range(length):
        predicted[i] = filtered @ tables.transition if i else filtered
        joint = predicted[i] * tables.likelihood[codes[:, i]]
        scale[i] = joint.sum(-1)
        # an impossible sequence stays at 0, and its logarithm at minus infinity
        filtered = joint / torch.where(scale[i] > 0, scale[i], 1.0)[:, None]
    return predicted, scale.log()


def conditional(tables: Tables, codes: Tensor) -> Tensor:
    """``p(x_i | what is known but x_i)``, ``(B, L, N)``, which at a hole is the posterior; NaN where that is 0 / 0."""
    n, length = codes.shape
    predicted, _ = forward(tables, codes)
    out = tables.start.new_empty((n, length, tables.emission.shape[1]))
    backward = torch.ones_like(predicted[0]) if length else None
    for i in range(length - 1, -1, -1):
        state = predicted[i] * backward
        out[:, i] = (state / state.sum(-1, keepdim=True)) @ tables.emission
        backward = (tables.likelihood[codes[:, i]] * backward) @ tables.transition.T
        backward = backward / backward.amax(-1, keepdim=True).clamp_min(torch.finfo(backward.dtype).tiny)
    return out
