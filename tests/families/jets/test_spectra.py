from __future__ import annotations

import numpy as np
import pytest
import torch

from stablelit.families.jets.generator import toy_shower
from stablelit.families.jets.metrics import Jets
from stablelit.families.jets.spectra import mass_spectrum, residual_spectra, spectra


@pytest.mark.slow
@pytest.mark.parametrize(("n_real", "n_fake"), [(2000, 500), (25, 25), (1, 1)])
def test_spectrum_is_drawn_for_many_jets_and_few(n_real, n_fake, tmp_path):
    figure = mass_spectrum(torch.rand(n_real) * 0.3, torch.rand(n_fake), 0.01, 0.002)
    figure.savefig(tmp_path / "a.png", dpi=40)
    text = " ".join(t.get_text() for axes in figure.axes for t in axes.texts)
    assert "10.00e-3" in text
    assert "2.00e-3" in text


def test_what_the_decoder_drew_itself_is_drawn_beside_what_was_calibrated():
    arguments = (torch.rand(100) * 0.3, torch.rand(100) * 0.3, 0.01, 0.002)
    labels = [
        [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        for figure in (mass_spectrum(*arguments), mass_spectrum(*arguments, raw=torch.rand(50)))
    ]
    assert labels == [["real (100)", "prior samples (100)"], [*labels[0], "not calibrated (50)"]]


def toy(n, seed):
    arrays = toy_shower(n, seed=seed)
    return Jets(torch.from_numpy(arrays.particles), torch.from_numpy(arrays.mask))


@pytest.mark.slow
def test_spectra_are_those_of_the_jets_and_name_their_distances(tmp_path):
    real, drawn = toy(200, 0), toy(150, 1)
    figure = spectra(real, drawn, {"multiplicity_w1": 0.5, "multiplicity_w1_floor": 0.25})
    figure.savefig(tmp_path / "a.png", dpi=40)
    panel = figure.axes[0]
    steps = [patch.get_data() for patch in panel.patches]
    counts = real.mask.sum(1).numpy()
    low = counts.min()
    expected = np.bincount(counts)[low:] / 200
    assert steps[0].values == pytest.approx(expected)
    assert steps[0].edges[0] == low - 0.5
    text = " ".join(t.get_text() for t in panel.texts)
    assert "0.5\n" in text
    assert "real vs real: 0.25" in text
    for panel, logarithmic in zip(figure.axes[1:], (False, True, False), strict=True):
        for patch in panel.patches:
            values, edges, _ = patch.get_data()
            area = float((values * np.diff(np.log(edges) if logarithmic else edges)).sum())
            assert 0.97 < area <= 1.0 + 1e-9
        assert not any("W_1" in t.get_text() for t in panel.texts)


@pytest.mark.slow
def test_spectra_of_one_jet_and_of_absurd_samples_are_drawn(tmp_path):
    one = toy(1, 0)
    absurd = Jets(50.0 * one.particles, one.mask)
    figure = spectra(one, absurd, {})
    figure.savefig(tmp_path / "a.png", dpi=40)
    assert "100.0 % beyond" in " ".join(t.get_text() for t in figure.axes[3].texts)


def test_residuals_are_drawn_beside_those_of_other_jets(tmp_path):
    mine = torch.stack([torch.linspace(-0.5, 0.5, 101), torch.full((101,), torch.nan)], dim=1).double()
    figure = residual_spectra(mine, 2 * mine, ["mass", "pt"])
    figure.savefig(tmp_path / "a.png", dpi=40)
    assert "median +0.000\ninterquartile range 0.500" in figure.axes[0].texts[0].get_text()
    assert not figure.axes[1].axison
