from __future__ import annotations

import torch

from stablelit.families.jets.evaluation import JetEvaluation
from stablelit.families.jets.metrics import jet_mass, wasserstein_1d


def test_two_batches_are_one_evaluation(batch):
    made = JetEvaluation()
    assert made.figures() == {}
    made.begin("val")
    kl = torch.rand(12, 3)
    for rows in (slice(0, 5), slice(5, 12)):
        made.add("val", batch["particles"][rows], batch["mask"][rows], kl[rows])
    assert made.n_real("val") == 12
    drawn = {"particles": batch["particles"][:7], "mask": batch["mask"][:7]}
    raw = {"particles": batch["particles"][3:], "mask": batch["mask"][3:]}
    scores = made.finish("val", drawn, raw)
    mass = jet_mass(batch["particles"], batch["mask"])
    torch.testing.assert_close(scores["mass_w1"], wasserstein_1d(mass[:7], mass).float())
    torch.testing.assert_close(scores["mass_w1_raw"], wasserstein_1d(mass[3:], mass).float())
    figures = made.figures()
    assert set(figures) == {"mass_spectrum", "kl_per_dimension"}
    heights = sorted(bar.get_height() for bar in figures["kl_per_dimension"].axes[0].patches)
    torch.testing.assert_close(torch.tensor(heights), kl.mean(0).sort().values.double(), atol=1e-6, rtol=1e-5)
    assert not made.jet_metrics["val"].real
    made.begin("val")
    assert made.figures()
