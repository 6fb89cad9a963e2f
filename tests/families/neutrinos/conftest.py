from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from stablelit.families.neutrinos.pulse_events import PulseEvents

N_SENSORS = 40


@pytest.fixture
def detector() -> tuple[np.ndarray, np.ndarray]:
    """Positions (S, 3) m and DeepCore flags (S,) of a small detector."""
    rng = np.random.default_rng(7)
    return rng.uniform(-500, 500, (N_SENSORS, 3)).astype(np.float32), np.arange(N_SENSORS) >= 34


@pytest.fixture
def random_events() -> Callable[..., PulseEvents]:
    """Events of random pulses, at least one each, some sensors hit many times."""

    def make(n: int = 12, seed: int = 0, most_pulses: int = 60) -> PulseEvents:
        rng = np.random.default_rng(seed)
        counts = rng.integers(1, most_pulses + 1, n)
        begin = np.concatenate([[0], np.cumsum(counts)])
        total = int(begin[-1])
        time = np.concatenate([np.sort(rng.integers(0, 5000, c)) for c in counts]).astype(np.float32)
        time -= np.repeat(time[begin[:-1]], counts)
        return PulseEvents(
            event_id=rng.permutation(10 * n)[:n].astype(np.int64),
            begin=begin,
            time=time,
            charge=rng.lognormal(0.0, 0.4, total).astype(np.float32),
            sensor=(rng.random(total) ** 2 * N_SENSORS).astype(np.uint16),
            auxiliary=rng.random(total) < 0.6,
            azimuth=rng.uniform(0, 2 * np.pi, n),
            zenith=np.arccos(rng.uniform(-1, 1, n)),
        )

    return make
