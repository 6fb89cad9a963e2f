from __future__ import annotations

import pytest
import torch

from stablelit.families.proteins.drawn_lengths import draw_lengths


def test_lengths_are_drawn_as_often_as_they_occurred():
    counts = {5: 10, 9: 30, 40: 60}
    drawn = draw_lengths(20_000, 1, None, counts)
    for length, count in counts.items():
        assert (drawn == length).float().mean().item() == pytest.approx(count / 100, abs=0.012)


def test_a_range_is_drawn_evenly_with_both_ends():
    drawn = draw_lengths(10_000, 0, "3-6", {})
    assert torch.bincount(drawn)[3:].tolist() == pytest.approx([2500] * 4, abs=160)


def test_fewer_lengths_are_the_beginning_of_more():
    assert draw_lengths(5, 7, "1-1000", {}).equal(draw_lengths(500, 7, "1-1000", {})[:5])
    assert not draw_lengths(50, 8, "1-1000", {}).equal(draw_lengths(50, 7, "1-1000", {}))
