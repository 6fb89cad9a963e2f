"""What a training step calls, as it would be called: nothing in it may wait for the device."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from stablelit.families.proteins.diffusion.bounds import (
    draw_k,
    mask_by_sigma,
    mask_k,
    masked_sum,
    per_residue,
    weighted_score_entropy,
)
from stablelit.families.proteins.diffusion.graphs import AbsorbingGraph, UniformGraph
from stablelit.families.proteins.diffusion.noise import NOISES
from stablelit.families.proteins.diffusion.noise_curriculum import MODES, NoiseCurriculum
from stablelit.families.proteins.diffusion.randomness import SampleKeys
from stablelit.families.proteins.diffusion.score_entropy import (
    cross_entropy,
    denoising_cost,
    log_probabilities,
    log_score_from,
)
from stablelit.families.proteins.diffusion.time_sampling import TIME_SAMPLERS, sample_uniform

N = 5


def score_step(graph, noise, curriculum, method, x0, loss_mask, head, generator=None):
    u = sample_uniform(method, len(x0), generator, x0.device)
    drawn = curriculum.draw(0.4, u, noise, generator)
    xt = graph.corrupt(x0, drawn.corruption_sigma, generator, loss_mask)
    h = head[xt.clamp(max=head.shape[0] - 1)]
    log_s = log_score_from(h, drawn.sigma) if isinstance(graph, AbsorbingGraph) else h.float()
    bound = weighted_score_entropy(graph, log_s, drawn.sigma, drawn.rate, xt, x0, loss_mask)
    nats, residues = per_residue(drawn.weight * bound, loss_mask)
    return nats / residues


def probability_step(graph, noise, x0, loss_mask, head, keys):
    masking = mask_k(graph, x0, loss_mask, draw_k(loss_mask, keys), keys, noise.sigma_at_end)
    bound = masked_sum(cross_entropy(log_probabilities(head[masking.xt.clamp(max=N)]), x0), masking)
    t = sample_uniform("iid", len(x0), None, x0.device)
    masking = mask_by_sigma(graph, x0, loss_mask, noise.sigma(t), noise.rate(t), None)
    bound = bound + masked_sum(denoising_cost(head[masking.xt.clamp(max=N)], x0), masking)
    nats, residues = per_residue(bound, loss_mask)
    return nats / residues


def batch():
    x0 = torch.randint(0, N, (60, 9), generator=torch.Generator().manual_seed(0))
    loss_mask = torch.arange(9) < torch.tensor([9, 7, 1, 4, 0, 8]).repeat(10)[:, None]
    x0 = torch.where(loss_mask, x0, 21)
    return x0, loss_mask, torch.zeros(N + 1, N, requires_grad=True)


@pytest.mark.slow
@pytest.mark.parametrize("graph", [AbsorbingGraph(N), UniformGraph(N)], ids=["absorb", "uniform"])
@pytest.mark.parametrize("mode", MODES)
def test_a_step_of_scores_reads_no_value_back_and_its_gradient_is_finite(graph, mode):
    curriculum = NoiseCurriculum(mode=mode, replay=0.2)
    for noise in (kind() for kind in NOISES.values()):
        x0, loss_mask, head = batch()
        generator = torch.Generator().manual_seed(1)
        loss = score_step(graph, noise, curriculum, "stratified", x0, loss_mask, head, generator)
        loss.backward()
        assert loss.isfinite()
        assert head.grad.isfinite().all()
        assert head.grad.any()
    # fake tensors have no values: whatever asks for one raises. A fresh one each, or the table of `beta` is real
    with FakeTensorMode(allow_non_fake_inputs=True) as mode_without_values:
        fake = [mode_without_values.from_tensor(x) for x in batch()]
        for method in TIME_SAMPLERS:
            score_step(graph, noise, curriculum, method, *fake)


def test_a_step_of_probabilities_reads_no_value_back_and_its_gradient_is_finite():
    graph = AbsorbingGraph(N)
    x0, loss_mask, head = batch()
    keys = SampleKeys(torch.arange(60), 1)
    loss = probability_step(graph, NOISES["loglinear"](), x0, loss_mask, head, keys)
    loss.backward()
    assert head.grad.isfinite().all()
    assert head.grad.any()
    with FakeTensorMode() as mode_without_values:
        fake = [mode_without_values.from_tensor(x) for x in batch()]
        keys = SampleKeys(mode_without_values.from_tensor(torch.arange(60)), 1)
        probability_step(graph, NOISES["loglinear"](), *fake, keys)


def test_micro_batches_add_up_to_the_batch():
    x0, loss_mask, head = (x[:6] for x in batch())
    graph, noise = AbsorbingGraph(N), NOISES["loglinear"]()
    ids = torch.arange(6)

    def sums(rows):
        keys = SampleKeys(ids[rows], 3)
        masking = mask_k(graph, x0[rows], loss_mask[rows], draw_k(loss_mask[rows], keys), keys, noise.sigma_at_end)
        logits = torch.linspace(-1, 1, (N + 1) * N).reshape(N + 1, N)[masking.xt.clamp(max=N)]
        return per_residue(masked_sum(cross_entropy(log_probabilities(logits), x0[rows]), masking), loss_mask[rows])

    whole = sums(torch.arange(6))
    parts = [sums(rows) for rows in (torch.tensor([4, 0]), torch.tensor([1, 5, 2]), torch.tensor([3]))]
    for i in range(2):
        assert float(sum(part[i] for part in parts)) == pytest.approx(float(whole[i]), rel=1e-6)
