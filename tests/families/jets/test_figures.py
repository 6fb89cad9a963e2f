from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch

from stablelit.families.jets import figures
from stablelit.families.jets.figures import kl_per_dimension, mass_spectrum


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


def test_dimensions_are_ordered_by_information():
    figure = kl_per_dimension(torch.tensor([0.1, 2.0, 0.5]))
    assert [bar.get_height() for bar in figure.axes[0].patches] == pytest.approx([2.0, 0.5, 0.1])


def test_optional_packages_are_imported_inside_functions_only():
    for path in Path(figures.__file__).parent.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
                assert not {name.split(".")[0] for name in names} & {"matplotlib", "h5py", "hydra", "omegaconf"}, path
