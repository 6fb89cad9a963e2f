from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stablelit.errors import ConfigurationError
from stablelit.functional.permutation import BlockPermutation, Permutation, exact_permutation, feistel, mix

SIZES = [1, 2, 3, 5, 7, 64, 97, 100, 127, 128, 129, 1009, 2**14 - 1, 2**14, 2**14 + 1, 65537]


def one_by_one(position: int, n: int, key: int, rounds: int = 6) -> int:
    """The docstring's formula with Python's integers, a position at a time."""
    a = math.isqrt(n - 1) + 1
    b = -(-n // a)

    def hashed(x: int, round_key: int) -> int:
        x ^= round_key
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
            x = (x ^ (x >> shift)) * factor % 2**32
        return x ^ (x >> 16)

    while True:
        left, right = divmod(position, b)
        for i in range(rounds):
            k = mix(key, i + 1) % 2**32
            if i % 2 == 0:
                left = (left + hashed(right, k) * a // 2**32) % a
            else:
                right = (right + hashed(left, k) * b // 2**32) % b
        position = left * b + right
        if position < n:
            return position


@pytest.mark.parametrize("n", SIZES)
def test_the_network_is_a_bijection(n):
    for key in (0, 1, 2**62):
        assert np.array_equal(np.sort(feistel(np.arange(n), n, key)), np.arange(n))


@given(n=st.integers(1, 3000), key=st.integers(0, 2**63 - 1), rounds=st.integers(0, 9))
def test_the_network_is_a_bijection_whatever_the_size_key_and_rounds(n, key, rounds):
    assert len(np.unique(feistel(np.arange(n), n, key, rounds))) == n


@given(n=st.integers(1, 2**62), key=st.integers(0, 2**63 - 1), data=st.data())
def test_the_vectorised_network_is_the_formula(n, key, data):
    position = data.draw(st.integers(0, n - 1))
    image = int(feistel(np.array([position]), n, key)[0])
    assert 0 <= image < n
    assert image == one_by_one(position, n, key)


@pytest.mark.parametrize("n", [10**9, 2**40 + 1])
def test_a_stretch_of_a_huge_permutation_has_no_repetition(n):
    stretch = feistel(np.arange(n - 200_000, n), n, key=3)
    assert len(np.unique(stretch)) == 200_000
    assert stretch.min() >= 0
    assert stretch.max() < n


@pytest.mark.parametrize("n", [0, -1, 2**62 + 1])
def test_sizes_outside_the_range_are_refused(n):
    with pytest.raises(ConfigurationError, match="1 to 2\\^62"):
        feistel(np.arange(1), n, 0)


def _chi2_per_dof(counts: np.ndarray) -> float:
    expected = counts.sum() / counts.size
    return float(((counts - expected) ** 2 / expected).sum() / (counts.size - 1))


@pytest.mark.slow
@pytest.mark.parametrize("n", [100_003, 2**20 + 1])
def test_where_a_position_goes_says_nothing_about_where_it_came_from(n):
    # 32 x 32 contingency of position against image; chi2 / 961 has a standard deviation of 0.046 for a random one
    cells = np.zeros((32, 32))
    keys = 8
    for key in range(keys):
        image = feistel(np.arange(n), n, key)
        np.add.at(cells, (np.arange(n) * 32 // n, image * 32 // n), 1)
    assert _chi2_per_dof(cells) < 1 + 5 * math.sqrt(2 / 961)
    lag = np.corrcoef(image[:-1], image[1:])[0, 1]
    assert abs(lag) < 5 / math.sqrt(n)
    ascents = (np.diff(image) > 0).mean()
    assert abs(ascents - 0.5) < 5 / math.sqrt(12 * n)


def test_fixed_points_are_as_rare_as_in_a_random_permutation():
    n, keys = 20_000, 100
    fixed = sum(int((feistel(np.arange(n), n, key) == np.arange(n)).sum()) for key in range(keys))
    assert abs(fixed - keys) < 5 * math.sqrt(keys)  # Poisson(1) for each key


def test_exact_permutations_of_three_come_equally_often():
    drawn = [tuple(exact_permutation(3, mix(0, key)).tolist()) for key in range(6000)]
    counts = np.array([drawn.count(p) for p in itertools.permutations(range(3))])
    assert _chi2_per_dof(counts) < 1 + 5 * math.sqrt(2 / 5)


def test_another_default_device_changes_nothing():
    expected = exact_permutation(50, 3).tolist()
    with torch.device("meta"):
        assert exact_permutation(50, 3).tolist() == expected


def test_keys_of_neighbouring_seeds_and_epochs_differ_and_share_no_bits():
    keys = [mix(seed, epoch) for seed in range(64) for epoch in range(64)]
    assert len(set(keys)) == 64 * 64
    different = [(mix(s, e) ^ mix(s + 1, e)).bit_count() for s in range(64) for e in range(64)]
    assert abs(np.mean(different) - 31.5) < 5 * math.sqrt(63 / 4 / len(different))


@pytest.mark.parametrize("exact_below", [0, 10**6])
def test_orders_of_different_keys_have_nothing_in_common(exact_below):
    n = 40_000
    orders = [Permutation(n, mix(s, e), exact_below)(range(n)) for s in (0, 1, 2) for e in (0, 1, 2)]
    for a, b in itertools.combinations(orders, 2):
        assert (a == b).sum() < 12  # Poisson(1): 12 or more once in 10^9
        assert abs(np.corrcoef(a, b)[0, 1]) < 5 / math.sqrt(n)


@given(
    n=st.integers(1, 500),
    exact_below=st.sampled_from([0, 10**6]),
    start=st.integers(0, 500),
    step=st.integers(1, 7),
)
def test_a_stretch_is_a_stretch_of_the_whole(n, exact_below, start, step):
    order = Permutation(n, 9, exact_below)
    positions = range(n)[start::step]
    assert order(positions).tolist() == order(range(n)).tolist()[start::step]


@pytest.mark.slow
@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=25),
    window=st.integers(1, 30),
    key=st.integers(0, 2**40),
    exact_below=st.sampled_from([0, 10**6]),
    start=st.integers(0, 400),
    step=st.integers(1, 9),
)
def test_blocks_are_a_permutation_of_which_stretches_can_be_had(sizes, window, key, exact_below, start, step):
    n = sum(sizes)
    whole = BlockPermutation(np.array(sizes), window, key, exact_below)(range(n)).tolist()
    assert sorted(whole) == list(range(n))
    part = BlockPermutation(np.array(sizes), window, key, exact_below)(range(n)[start::step])
    assert part.tolist() == whole[start::step]


@pytest.mark.slow
@given(sizes=st.lists(st.integers(1, 30), min_size=1, max_size=25), window=st.integers(1, 30))
def test_a_window_holds_its_chunks_and_no_others(sizes, window):
    order = BlockPermutation(np.array(sizes), window, 5)
    chunk_of = np.repeat(np.arange(len(sizes)), sizes)
    begin, seen, mixed = 0, set(), []
    for end in order.window_ends.tolist():
        chunks = set(chunk_of[order(range(begin, end))].tolist())
        assert not chunks & seen
        assert sum(sizes[c] for c in chunks) == end - begin
        mixed.append(len(chunks))
        seen |= chunks
        begin = end
    assert max(mixed) <= window
    assert max(mixed) - min(mixed) <= 1, "no short last window"


def test_windows_of_one_size_are_mixed_differently():
    order = BlockPermutation(np.full(4, 500), 1, 5)
    offsets = [order(range(begin, begin + 500)) % 500 for begin in range(0, 2000, 500)]
    for a, b in itertools.combinations(offsets, 2):
        assert (a == b).sum() < 12  # Poisson(1)


def test_the_same_chunk_probability_is_that_of_all_pairs():
    sizes = np.array([3, 5, 2, 7, 1, 4])
    order = BlockPermutation(sizes, 2, 8)
    chunk_of = np.repeat(np.arange(len(sizes)), sizes)
    begin, expected = 0, 0.0
    for end in order.window_ends.tolist():
        chunks = chunk_of[order(range(begin, end))]
        pairs = list(itertools.combinations(chunks.tolist(), 2))
        expected += (end - begin) * np.mean([a == b for a, b in pairs]) / sizes.sum()
        begin = end
    assert order.same_chunk_probability() == pytest.approx(expected)


def test_neither_reads_nor_changes_the_global_random_state():
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    Permutation(100, 1)(range(100))
    BlockPermutation(np.array([5, 5]), 1, 3)(range(10))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
