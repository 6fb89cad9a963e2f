from __future__ import annotations

import pytest
import torch

from stablelit.families.jets.evaluation import SHOWN_JETS, JetEvaluation
from stablelit.families.jets.metrics import JetResiduals, jet_mass, wasserstein_1d


def part(batch, rows):
    return {name: values[rows] for name, values in batch.items()}


@pytest.mark.slow
def test_two_batches_are_one_evaluation(batch):
    made = JetEvaluation(latent_dim=3)
    assert made.figures() == {}
    made.begin("val")
    kl, mean = torch.rand(12, 3), torch.randn(12, 3) * torch.tensor([1.0, 0.5, 1e-3])
    for rows in (slice(0, 5), slice(5, 12)):
        made.add(part(batch, rows), mean[rows], kl[rows])
    assert made.n_real == 12
    raw = part(batch, slice(3, None))
    scores = made.finish(part(batch, slice(0, 7)), raw, ["q", "g", "t"])
    mass = jet_mass(batch["particles"], batch["mask"])
    torch.testing.assert_close(scores["mass_w1"], wasserstein_1d(mass[:7], mass).float())
    torch.testing.assert_close(scores["mass_w1_raw"], wasserstein_1d(mass[3:], mass).float())
    assert float(scores["active_units"]) == 2
    figures = made.figures()
    assert set(figures) == {"mass_spectrum", "spectra", "kl_per_dimension", "jets", "latent"}
    heights = sorted(bar.get_height() for bar in figures["kl_per_dimension"].axes[0].patches)
    torch.testing.assert_close(torch.tensor(heights), kl.mean(0).sort().values.double(), atol=1e-6, rtol=1e-5)
    assert made.n_real == 0
    made.begin("test")
    assert made.figures()


@pytest.mark.slow
def test_pictures_show_the_first_jets_with_their_classes_and_reconstructions(batch):
    made = JetEvaluation(latent_dim=3)
    made.begin("val")
    batch["label"] = torch.arange(12) % 3
    assert made.n_to_reconstruct(12) == SHOWN_JETS
    other = batch["particles"].flip(0), batch["mask"].flip(0)
    made.add(batch, torch.randn(12, 3), torch.rand(12, 3), {"particles": other[0][:5], "mask": other[1][:5]})
    assert made.n_to_reconstruct(12) == 0
    made.finish(batch, classes=["q", "g", "t"])
    axes = made.figures()["jets"].axes
    assert [panel.get_title()[:2] for panel in axes[:SHOWN_JETS]] == ["q:", "g:", "t:", "q:", "g:"]
    for row, (particles, mask) in enumerate([(batch["particles"], batch["mask"]), other]):
        for jet in range(SHOWN_JETS):
            drawn = torch.tensor(axes[row * SHOWN_JETS + jet].collections[0].get_offsets().data).float()
            torch.testing.assert_close(drawn, particles[jet][mask[jet]][:, :2])


@pytest.mark.slow
def test_a_test_holds_reconstructions_against_their_jets(batch):
    made = JetEvaluation(latent_dim=3)
    made.begin("test")
    assert made.n_to_reconstruct(12) == 12
    louder = batch["particles"] * torch.tensor([1.0, 1.0, 1.25])
    made.add(batch, torch.randn(12, 3), torch.rand(12, 3), {"particles": louder, "mask": batch["mask"]})
    scores = made.finish(batch)
    alone = JetResiduals()
    alone.update(batch["particles"], batch["mask"], louder, batch["mask"])
    expected = {name: float(value) for name, value in alone.compute().items()}
    found = {name: float(value) for name, value in scores.items() if "residual" in name or "massless" in name}
    assert found == pytest.approx({name: value for name, value in expected.items() if name in found})
    assert found["pt_residual_median"] == pytest.approx(0.25, rel=1e-5)
    assert found["multiplicity_residual_iqr_baseline"] > 0
    assert found["massless_jets"] == 1
    assert "residuals" in made.figures()


@pytest.mark.slow
def test_a_single_jet_is_evaluated_without_what_needs_two(batch):
    made = JetEvaluation(latent_dim=3)
    made.begin("test")
    one = part(batch, slice(5, 6))
    made.add(one, torch.randn(1, 3), torch.rand(1, 3), one)
    scores = made.finish(one)
    assert scores["mass_w1"] == 0
    assert scores["active_units"].isnan()
    assert scores["mass_residual_iqr_baseline"].isnan()
    assert {"mass_spectrum", "jets"} <= set(made.figures())
    assert "latent" not in made.figures()
