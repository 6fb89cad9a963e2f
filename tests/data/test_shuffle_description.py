from __future__ import annotations

import numpy as np
import pytest

from stablelit.data import ShuffleSampler
from stablelit.errors import ConfigurationError
from stablelit.functional.shuffle_quality import batch_design_effect
from tests.data.numbered_loaders import Files


def test_the_description_foretells_the_batches_variance():
    sizes, icc = [50] * 40, 0.3
    rng = np.random.default_rng(0)
    chunk_of = np.repeat(np.arange(40), sizes)
    for window in (1, 4, 40):
        sampler = ShuffleSampler(range(2000), mode="block", chunk_sizes=sizes, window_chunks=window)
        effects = []
        for epoch in range(40):
            sampler.set_epoch(epoch)
            labels = np.sqrt(icc) * rng.normal(size=40)[chunk_of] + np.sqrt(1 - icc) * rng.normal(size=2000)
            effects.append(batch_design_effect(labels[list(sampler)], 50))
        assert np.mean(effects) == pytest.approx(sampler.describe(50, icc).design_effect, rel=0.15)


def test_the_description_says_whether_the_cache_holds_the_window():
    narrow = ShuffleSampler(Files(), mode="block", window_chunks=2).describe(8)
    assert narrow.cache_holds_window
    assert narrow.loads_per_batch == 0
    wide = ShuffleSampler(Files(), mode="block", window_chunks=3).describe(8)
    assert wide.cache_holds_window is False
    assert wide.loads_per_batch == pytest.approx(8 * (1 - 2 / 3))
    # the post-mortem: random access to files of which one is kept
    full = ShuffleSampler(Files()).describe(8, cache_size=1)
    assert full.loads_per_batch == pytest.approx(8 * (1 - 1 / 6))
    assert "NOT hold" in str(full)
    assert "window_chunks=1" in str(full)
    unknown = ShuffleSampler(range(10)).describe(8)
    assert unknown.cache_holds_window is None
    assert unknown.design_effect == 1
    assert str(unknown) == "full order of 10 samples; a batch of 8 varies 1.00x as much as a random one"
    in_order = ShuffleSampler(Files(), mode="sequential").describe(8, 0.5)
    assert in_order.design_effect > 2
    assert in_order.cache_holds_window


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"cache_size": 0}, "cache_size=0"),
        ({"label_icc": 2.0}, "label_icc=2"),
        ({"label_icc": "a"}, "label_icc='a'"),
    ],
)
def test_a_description_of_nonsense_is_refused(arguments, says):
    with pytest.raises(ConfigurationError, match=says):
        ShuffleSampler(range(10)).describe(**arguments)


@pytest.mark.parametrize(
    ("kept", "known"), [(np.int64(2), 2), (2, 2), ("4 GiB", None), (2.5, None), (True, None), (0, None)]
)
def test_a_cache_size_that_is_no_number_of_chunks_is_not_known(kept, known):
    class Keeps(Files):
        cache_size = kept

    described = ShuffleSampler(Keeps()).describe(8)
    assert described.cache_size == known
    assert described.loads_per_batch == (None if known is None else pytest.approx(8 * (1 - known / 6)))


@pytest.mark.parametrize("mode", ["full", "block", "sequential"])
def test_a_batch_larger_than_the_data_is_described_as_all_of_them(mode):
    sampler = ShuffleSampler(Files(), mode=mode, window_chunks=2)
    assert sampler.describe(256, 0.5, cache_size=1) == sampler.describe(44, 0.5, cache_size=1)
    assert sampler.describe(256).batch_size == 44
