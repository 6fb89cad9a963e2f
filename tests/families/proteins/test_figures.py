"""Pictures of sequences: that they show the numbers, and open no window."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch

from stablelit.families.proteins import figures
from stablelit.families.proteins.figures import cross_entropy_by_mask_rate, residue_frequencies


def test_costs_stand_over_their_bins_beside_the_levels(tmp_path):
    costs = torch.tensor([2.1, 2.4, float("nan"), 2.8], dtype=torch.float64)
    figure = cross_entropy_by_mask_rate([0.25, 0.5, 0.75, 1.0], costs, {"unigram": 2.83}, title="val")
    figure.savefig(tmp_path / "a.png", dpi=40)
    (axes,) = figure.axes
    data = axes.patches[0].get_data()
    assert data.edges.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert data.values[[0, 1, 3]].tolist() == costs[[0, 1, 3]].tolist()
    (level,) = axes.get_lines()
    assert level.get_ydata()[0] == 2.83
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["model", "unigram: 2.830"]
    assert figure.get_suptitle() == "val"


@pytest.mark.slow
@pytest.mark.parametrize("generated", [False, True])
def test_shares_are_shown_beside_those_of_training(generated, tmp_path):
    generator = torch.Generator().manual_seed(0)
    counts, drawn = (torch.randint(1, 100, (20,), generator=generator) for _ in range(2))
    unigram = torch.full((20,), 0.05, dtype=torch.float64)
    figure = residue_frequencies(counts, unigram, drawn if generated else None)
    figure.savefig(tmp_path / "a.png", dpi=40)
    (axes,) = figure.axes
    heights = [bar.get_height() for bar in axes.patches]
    expected = [100 * x / n.sum() for n in ([counts, drawn] if generated else [counts]) for x in n]
    assert heights == pytest.approx([float(x) for x in expected])
    assert axes.get_lines()[0].get_ydata().tolist() == pytest.approx([5.0] * 20)
    assert [label.get_text() for label in axes.get_xticklabels()] == list("ACDEFGHIKLMNPQRSTVWY")


def test_nothing_of_matplotlib_is_imported_before_a_picture_is_drawn():
    tree = ast.parse(Path(figures.__file__).read_text(encoding="utf-8"))
    at_import = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert not [node for node in at_import if "matplotlib" in ast.unparse(node)]
