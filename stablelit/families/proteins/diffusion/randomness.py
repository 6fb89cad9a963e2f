"""Random numbers for diffusion: from a generator, or by a sample's key so that they depend on the sample alone.

Validation asks for the same corruption every epoch, on any number of ranks, in any order and with any padding. Numbers
from a generator depend on all of these; numbers from `SampleKeys` on seed, sample, draw and position only.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stablelit.functional.permutation import mix
from stablelit.functional.schedules import check_count

# splitmix64's constants, as the signed numbers that torch's int64 wraps around
_STEP = 0x9E3779B97F4A7C15 - 2**64
_FACTORS = (0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)
_SHIFTS = (30, 27)


class SampleKeys:
    """Uniform numbers that depend on (seed, sample, how many draws before, position) and on nothing else.

    Takes a `torch.Generator`'s place in every function of this package. Sample b's number at position i is the same
    whatever else is in the batch, so that padding, order and ranks do not matter.

    Args:
        ids: ``(B,)`` int64, which sample each row is.
        seed: chooses the numbers; 0 or more.

    Raises:
        ConfigurationError: a seed that is not an int of 0 or more.

    >>> a, b = SampleKeys(torch.tensor([3, 8]), seed=1), SampleKeys(torch.tensor([8]), seed=1)
    >>> bool((a.uniform((2, 5))[1, :3] == b.uniform((1, 3))[0]).all())
    True
    """

    def __init__(self, ids: Tensor, seed: int = 0) -> None:
        self.ids = ids.long()
        self.seed = check_count("SampleKeys", "seed", seed, least=0)
        self._draws = 0

    def uniform(self, shape: tuple[int, ...]) -> Tensor:
        """The next draw: float64 in [0, 1) of that shape, whose first size is the number of samples."""
        self._draws += 1
        n_positions = 1
        for size in shape[1:]:
            n_positions *= size
        position = torch.arange(n_positions, device=self.ids.device)
        # hashed twice: sample and position added would make neighbours of one another's neighbours
        sample = _hashed(self.ids + mix(self.seed, self._draws))
        bits = _hashed(sample[:, None] + position)
        return (((bits >> 11) & (2**53 - 1)).double() * 2.0**-53).reshape(shape)


RandomSource = torch.Generator | SampleKeys | None


def uniform(
    shape: tuple[int, ...], generator: RandomSource, device: torch.device, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Numbers in [0, 1), drawn on the generator's own device and brought to `device`.

    Args:
        shape: the first size is the number of samples.
        generator: a `torch.Generator`, `SampleKeys`, or None for torch's global one.
        device: where they are wanted.
        dtype: float32 or float64.
    """
    if isinstance(generator, SampleKeys):
        drawn = generator.uniform(shape).to(device)
        # rounding a float64 just below 1 to float32 gives 1, which is not below 1
        return drawn if dtype == torch.float64 else (drawn.float() * (1 - 2.0**-24)).to(dtype)
    if generator is None:
        # not `generator=None`, which torch.compile refuses where the batch size is a symbol
        return torch.rand(shape, device=device, dtype=dtype)
    return torch.rand(shape, generator=generator, device=generator.device, dtype=dtype).to(device)


def _hashed(numbers: Tensor) -> Tensor:
    """splitmix64 of int64 numbers, whose additions and products wrap around."""
    x = numbers * _STEP + _STEP
    for shift, factor in zip(_SHIFTS, _FACTORS, strict=True):
        x = (x ^ _shifted(x, shift)) * factor
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, by: int) -> Tensor:
    """Logical right shift: torch's copies the sign bit down."""
    return (x >> by) & ((1 << (64 - by)) - 1)
