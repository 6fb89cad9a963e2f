from __future__ import annotations

import numpy as np
import pytest
import torch

from stablelit.families.jets.metrics import Jets


def fixed_jets(seed: int, n_jets: int, n_particles: int = 8) -> Jets:
    """Jets that are a formula of uniform numbers, so that figures recorded elsewhere stay comparable.

    The recorded figures are jetnet's: jetnet 0.2.5 with energyflow 1.4.0, Wasserstein 1.0.1, numpy 1.26.4 and scipy
    1.13.1, given these arrays in float64 as (etarel, phirel, ptrel), and `jetnet.evaluation.gen_metrics.rng` set to
    `numpy.random.default_rng(42)` before each call, since its own is not seeded.
    """
    uniform = np.random.Generator(np.random.PCG64(seed)).random((n_jets, n_particles, 4))
    spread = 0.05 + 0.05 * seed
    particles = np.empty((n_jets, n_particles, 3))
    particles[..., 0] = spread * (2 * uniform[..., 0] - 1) / (0.2 + uniform[..., 1])
    particles[..., 1] = spread * (2 * uniform[..., 2] - 1) / (0.2 + uniform[..., 1])
    count = 1 + (n_particles * uniform[:, 0, 1]).astype(int)
    mask = np.arange(n_particles) < count[:, None]
    weight = (0.02 + uniform[..., 3]) ** 3 * mask
    particles[..., 2] = (0.9 + 0.1 * uniform[:, :1, 2]) * weight / weight.sum(1, keepdims=True)
    particles[~mask] = 0.0
    return Jets(torch.from_numpy(particles), torch.from_numpy(mask))


@pytest.fixture(scope="session")
def real() -> Jets:
    return fixed_jets(1, 400)


@pytest.fixture(scope="session")
def generated() -> Jets:
    return fixed_jets(2, 300)
