from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from stablelit.errors import DataError
from stablelit.families.jets.metrics import JetMassW1, JetMetrics, jet_mass, wasserstein_1d
from stablelit.families.jets.metrics.two_samples import flat
from stablelit.families.jets.metrics.wasserstein import Estimate


def test_metric_adds_batches_up(toy_jets):
    particles, mask = torch.from_numpy(toy_jets.particles), torch.from_numpy(toy_jets.mask)
    metric = JetMassW1()
    for part in (slice(0, 70), slice(70, 150)):
        metric.update(particles[part], mask[part], real=True)
    metric.update(particles[150:], mask[150:], real=False)
    scores = metric.compute()
    masses = jet_mass(particles, mask)
    assert float(scores["mass_w1"]) == pytest.approx(float(wasserstein_1d(masses[:150], masses[150:])))
    assert 0 < float(scores["mass_w1_floor"]) < 0.05
    assert scores["mass_w1_std"] > 0


def test_what_is_masked_out_is_not_looked_at(real, generated):
    clean, dirty = JetMassW1(), JetMassW1()
    junk = torch.where(real.mask[..., None], real.particles, torch.nan)
    clean.update(*real, real=True)
    dirty.update(junk, real.mask, real=True)
    for metric in (clean, dirty):
        metric.update(*generated, real=False)
    assert clean.compute() == dirty.compute()


def test_states_gathered_from_ranks_are_taken(real, generated):
    apart, gathered = JetMassW1(), JetMassW1()
    for metric in (apart, gathered):
        metric.update(*real, real=True)
        metric.update(*generated, real=False)
    # what torchmetrics leaves behind after a gathering: one tensor in place of the list
    gathered.real, gathered.generated = torch.cat(gathered.real), torch.cat(gathered.generated)
    assert apart.compute() == gathered.compute()


def test_unusable_jets_are_refused_with_their_place(real):
    metric = JetMassW1()
    metric.update(*real, real=True)
    with pytest.raises(DataError, match="generated jets: there are none"):
        metric.compute()
    broken = real.particles.clone()
    broken[7, 0, 2] = torch.inf
    metric.update(broken, real.mask, real=False)
    with pytest.raises(DataError, match=r"generated jets: particle 0 of jet 7 .* \(1 of 400 jets"):
        metric.compute()


def test_what_is_not_known_is_left_out():
    assert flat({"a": Estimate(1.0), "b": Estimate(2.0, 0.5, 0.1)}) == {
        "a": 1.0,
        "b": 2.0,
        "b_std": 0.5,
        "b_floor": 0.1,
    }


def _score_a_share(rank, directory, jets):
    dist.init_process_group("gloo", init_method=f"file://{directory}/store", rank=rank, world_size=2)
    metric = JetMetrics(["w1", "kpd"])
    for whole, is_real in zip(jets, (True, False), strict=True):
        share = (torch.arange(170), torch.arange(170, whole.n_jets))[rank]
        metric.update(*whole.take(share), real=is_real)
    torch.save({name: float(value) for name, value in metric.compute().items()}, f"{directory}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_with_unequal_shares_score_as_one(real, generated, tmp_path):
    torch.multiprocessing.start_processes(
        _score_a_share, (str(tmp_path), (real, generated)), nprocs=2, start_method="fork"
    )
    alone = JetMetrics(["w1", "kpd"])
    alone.update(*real, real=True)
    alone.update(*generated, real=False)
    expected = {name: float(value) for name, value in alone.compute().items()}
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt") == expected
