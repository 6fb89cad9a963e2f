from __future__ import annotations

import numpy as np
import pytest

from stablelit.families.proteins.corpora import hidden_markov, lengths
from stablelit.families.proteins.corpora.streams import BLOCK, draw_in_blocks


def uniform(rng):
    return rng.random(BLOCK)


@pytest.mark.parametrize(
    ("first", "count"), [(0, 0), (0, 1), (5, BLOCK), (BLOCK - 1, 2), (3 * BLOCK, BLOCK), (700, 3000)]
)
def test_a_piece_is_a_piece_of_the_whole(first, count):
    whole = draw_in_blocks(uniform, 5 * BLOCK, 3, 0, 0, "test")
    piece = draw_in_blocks(uniform, count, 3, first, 0, "test")
    assert np.array_equal(piece, whole[first : first + count])


def test_blocks_seeds_and_streams_have_numbers_of_their_own():
    rows = [
        draw_in_blocks(uniform, BLOCK, seed, first, stream, "test")
        for seed in (0, 1)
        for first in (0, BLOCK)
        for stream in (0, 1)
    ]
    assert len({row.tobytes() for row in rows}) == 8
    assert np.abs(np.corrcoef(rows)[~np.eye(8, dtype=bool)]).max() < 5 / np.sqrt(BLOCK)


def test_lengths_and_sequences_of_one_seed_do_not_share_their_numbers():
    assert hidden_markov._STREAM != lengths._STREAM
