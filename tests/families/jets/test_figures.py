from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch

from stablelit.families.jets import figures
from stablelit.families.jets.figures import (
    AREA_OF_ALL_PT,
    jets_in_eta_phi,
    kl_per_dimension,
    latent_code,
    principal_plane,
)
from stablelit.families.jets.metrics import Jets, jet_mass


@pytest.fixture
def jets(batch):
    return Jets(batch["particles"], batch["mask"])


def texts(axes):
    return " ".join(text.get_text() for text in axes.texts)


def test_dimensions_are_ordered_by_information():
    figure = kl_per_dimension(torch.tensor([0.1, 2.0, 0.5]))
    assert [bar.get_height() for bar in figure.axes[0].patches] == pytest.approx([2.0, 0.5, 0.1])
    assert "2.60 nats in all\n3 of 3 above" in texts(figure.axes[0])
    assert "1 of 2 above" in texts(kl_per_dimension(torch.tensor([0.009, 0.011])).axes[0])


@pytest.mark.slow
def test_a_marker_lies_where_its_particle_does_and_its_area_is_the_particles_pt(jets, tmp_path):
    figure = jets_in_eta_phi({"real": jets.take(torch.tensor([0, 5]))}, ["q", "t"])
    figure.savefig(tmp_path / "a.png", dpi=40)
    for place, jet in enumerate((0, 5)):
        there = jets.mask[jet]
        axes = figure.axes[place]
        # the first panel has the legend's empty marks behind
        marks = axes.collections[0]
        torch.testing.assert_close(torch.tensor(marks.get_offsets()).float(), jets.particles[jet][there][:, :2])
        area = AREA_OF_ALL_PT * jets.particles[jet][there][:, 2]
        torch.testing.assert_close(torch.tensor(marks.get_sizes()).float(), area)
    mass = float(jet_mass(*jets)[5])
    assert figure.axes[1].get_title() == f"t: n = {int(jets.mask[5].sum())}, m/pT = {mass:.2f}"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["0.3", "0.1", "0.01"]


def test_kinds_of_jets_are_rows_on_the_scale_of_the_real_ones(jets):
    far = Jets(jets.particles[:2].clone(), jets.mask[:2])
    far.particles[1, 0, 0] = 9.0
    figure = jets_in_eta_phi({"real": jets.take(torch.arange(3)), "prior sample": far})
    assert len(figure.axes) == 6
    half = 1.1 * float(jets.particles[:3, :, :2].abs().max())
    assert all(axes.get_xlim() == pytest.approx((-half, half)) for axes in figure.axes)
    assert [axes.get_ylabel().split("\n")[0] for axes in figure.axes[::3]] == ["real", "prior sample"]
    assert texts(figure.axes[4]) == "1 beyond"
    assert texts(figure.axes[3]) == ""
    assert not figure.axes[5].axison


def test_the_plane_is_that_of_the_largest_variance_and_has_no_mirror_image():
    points = torch.randn(300, 4, dtype=torch.float64) @ torch.diag(torch.tensor([0.1, 3.0, 1.0, 0.2])).double()
    rotation = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64)).Q
    plane, share = principal_plane(points @ rotation)
    centred = points - points.mean(0)
    expected = torch.linalg.svdvals(centred).square()
    torch.testing.assert_close(share, expected[:2] / expected.sum())
    torch.testing.assert_close(plane.var(dim=0), expected[:2] / 299)
    # distances within the plane are those of the projection
    assert plane.norm(dim=1).max() <= points.norm(dim=1).max() + 1e-9
    again, _ = principal_plane(points @ rotation)
    assert torch.equal(plane, again)
    mirrored, _ = principal_plane(-points @ rotation)
    torch.testing.assert_close(mirrored, -plane)


def test_a_code_of_one_dimension_and_one_of_none_have_a_plane():
    plane, share = principal_plane(torch.tensor([[1.0], [2.0], [4.0]]))
    assert plane.tolist() == [[1.0, 0.0], [2.0, 0.0], [4.0, 0.0]]
    assert share.tolist() == [1.0, 0.0]
    assert principal_plane(torch.zeros(5, 3))[1].tolist() == [0.0, 0.0]


@pytest.mark.slow
def test_codes_are_coloured_by_class_where_there_are_some_and_by_mass(tmp_path):
    mean, mass, label = torch.randn(50, 3), torch.rand(50), torch.arange(50) % 2
    figure = latent_code(mean, mass, label, ["q", "g"])
    figure.savefig(tmp_path / "a.png", dpi=40)
    by_class, by_mass = figure.axes[:2]
    assert [text.get_text() for text in by_class.get_legend().get_texts()] == ["q (25)", "g (25)"]
    plane, _ = principal_plane(mean)
    torch.testing.assert_close(torch.tensor(by_class.collections[1].get_offsets().data), plane[label == 1])
    # colours go with their own points
    order = mass.argsort()
    torch.testing.assert_close(torch.tensor(by_mass.collections[0].get_offsets().data), plane[order])
    torch.testing.assert_close(torch.tensor(by_mass.collections[0].get_array().data).float(), mass[order])
    for some in (None, torch.zeros(50, dtype=torch.long), torch.arange(50)):
        assert len(latent_code(mean, mass, some).axes) == 2  # one panel and its scale


def test_a_collapsed_code_is_seen_inside_the_prior():
    axes = latent_code(1e-4 * torch.randn(20, 3), torch.rand(20)).axes[0]
    assert axes.get_xlim() == pytest.approx((-2.2, 2.2))
    assert latent_code(9.0 * torch.randn(20, 3), torch.rand(20)).axes[0].get_xlim()[1] > 9


def test_optional_packages_are_imported_inside_functions_only():
    for path in Path(figures.__file__).parent.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
                assert not {name.split(".")[0] for name in names} & {"matplotlib", "h5py", "hydra", "omegaconf"}, path
