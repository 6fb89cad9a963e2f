from __future__ import annotations

import numpy as np
import pytest
import torch

from stablelit.families.sketches import figures


@pytest.mark.slow
def test_view_pairs_shows_both_views_of_each_sketch():
    views = torch.rand(2, 3, 1, 8, 8)
    figure = figures.view_pairs(views)
    shown = [axes.images[0].get_array() for axes in figure.axes]
    assert len(shown) == 6
    for picture, view in zip(shown, views.flatten(0, 1), strict=True):
        assert np.asarray(picture) == pytest.approx(view[0].numpy())


def test_raw_pictures_are_seen_by_their_values():
    figure = figures.view_pairs(255 * torch.ones(2, 3, 1, 8, 8))
    assert "255 to 255" in figure.get_suptitle()


def test_the_map_says_what_share_of_the_variance_it_shows():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(200, 5, generator=generator) * torch.tensor([10.0, 1.0, 0.0, 0.0, 0.0])
    figure = figures.embedding_map(features, torch.arange(200) % 3)
    variance = features.var(dim=0)
    assert f"({100 * variance[0] / variance.sum():.0f} % of the variance)" in figure.axes[0].get_xlabel()
    points = np.concatenate([c.get_offsets() for c in figure.axes[0].collections])
    assert len(points) == 200


def test_most_frequent_classes_have_a_colour_and_broken_rows_are_left_out():
    features = torch.randn(50, 4)
    features[0, 0] = float("inf")
    labels = torch.tensor([-1] * 10 + [4] * 25 + [2] * 10 + [9] * 5)
    figure = figures.embedding_map(features, labels, n_classes=2)
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["other classes", "class 4", "class 2"]
    assert sum(len(c.get_offsets()) for c in figure.axes[0].collections) == 49


def test_a_map_of_a_collapsed_embedding_says_that_all_are_alike():
    generator = torch.Generator().manual_seed(0)
    row, noise = torch.rand(6, generator=generator), torch.randn(50, 6, generator=generator)
    labels = torch.arange(50) % 2

    def title(scatter):
        return figures.embedding_map(row + scatter * noise, labels).axes[0].get_title()

    assert title(0.0).endswith("all alike")
    assert not title(1e-3).endswith("all alike")


def test_nothing_to_show_is_said():
    figure = figures.embedding_map(torch.zeros(1, 4), torch.zeros(1, dtype=torch.long))
    assert figure.axes[0].texts[0].get_text() == "nothing to show"


def test_a_wrong_query_is_red_and_says_what_it_was_taken_for():
    support, query = torch.rand(2, 1, 1, 8, 8), torch.rand(2, 2, 1, 8, 8)
    predicted, target = torch.tensor([[0, 1], [1, 1]]), torch.tensor([[0, 0], [1, 1]])
    figure = figures.episode(support, query, predicted, target, names=["cat", "dog"])
    labels = [axes.get_xlabel() for axes in figure.axes]
    assert [label for label in labels if label] == ["as 2"]
    wrong = figure.axes[labels.index("as 2")]
    assert wrong.spines["top"].get_edgecolor()[:3] == pytest.approx((0.839, 0.153, 0.157), abs=0.01)
    assert "accuracy 0.75, chance 0.50" in figure.get_suptitle()
    assert "1: cat" in [axes.get_ylabel() for axes in figure.axes]


def test_classes_are_shown_by_their_names_where_these_are_known():
    features, labels = torch.randn(20, 4), torch.tensor([1] * 12 + [0] * 8)
    figure = figures.embedding_map(features, labels, names=["cat", "dog"])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["dog", "cat"]
