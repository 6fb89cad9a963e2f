from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from stablelit.functional.adaptive_clip import (
    BINS_PER_OCTAVE,
    add_to_histogram,
    agc_,
    clip_to_,
    histogram_percentile,
    new_histogram,
    new_z_state,
    zclip_step,
)

BIN = 2.0 ** (1.0 / BINS_PER_OCTAVE) - 1.0


def histogram_of(norms):
    counts = new_histogram()
    for norm in norms:
        add_to_histogram(counts, torch.tensor(norm, dtype=torch.float32))
    return counts


@pytest.mark.parametrize("percentile", [0.5, 10.0, 50.0, 97.3, 100.0])
@pytest.mark.parametrize("n", [1, 2, 7, 400])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_percentile_is_within_a_bin_of_numpys(percentile, n, seed):
    norms = np.exp(3.0 * np.random.default_rng(seed).standard_normal(n)).tolist()
    value = float(histogram_percentile(histogram_of(norms), percentile))
    assert value == pytest.approx(np.percentile(norms, percentile), rel=BIN)


def test_many_equal_norms_and_far_apart_ones_are_interpolated_as_numpy_does():
    for norms in ([1.0] * 10, [1.0, 1000.0], [1e-3, 1.0, 1.0, 1e3]):
        for percentile in (10.0, 50.0, 90.0):
            value = float(histogram_percentile(histogram_of(norms), percentile))
            assert value == pytest.approx(np.percentile(norms, percentile), rel=BIN)


def test_norms_that_are_not_finite_are_not_in_the_histogram_and_extreme_ones_are_at_its_ends():
    counts = histogram_of([math.nan, math.inf, -math.inf])
    assert int(counts.sum()) == 0
    assert math.isinf(float(histogram_percentile(counts, 10.0)))
    counts = histogram_of([0.0, 1e-30, 1e30])
    assert counts[0] == 2
    assert counts[-1] == 1


class PaperZClip:
    """The paper's rule, with Python floats and a list: what the tensors must equal."""

    def __init__(self, z0=2.5, alpha=0.97, warmup=25):
        self.z0, self.alpha, self.warmup, self.norms, self.mean, self.var = z0, alpha, warmup, [], None, None

    def threshold(self, norm):
        if self.mean is None:
            self.norms.append(norm)
            if len(self.norms) == self.warmup:
                self.mean, self.var = float(np.mean(self.norms)), float(np.var(self.norms))
            return math.inf
        z = (norm - self.mean) / math.sqrt(self.var)
        threshold = self.mean + self.z0**2 / z * math.sqrt(self.var) if z > self.z0 else math.inf
        effective = min(norm, threshold)
        self.mean = self.alpha * self.mean + (1 - self.alpha) * effective
        self.var = self.alpha * self.var + (1 - self.alpha) * (effective - self.mean) ** 2
        return threshold


def spiky(n=300, seed=0):
    generator = np.random.default_rng(seed)
    norms = generator.lognormal(0.0, 0.2, n)
    norms[::17] *= 20.0
    return norms.tolist()


def test_zclip_is_the_papers_rule():
    state, paper, clipped = new_z_state(), PaperZClip(), 0
    for norm in spiky():
        threshold, state = zclip_step(state, torch.tensor(norm))
        expected = paper.threshold(norm)
        clipped += expected < norm
        assert float(threshold) == pytest.approx(expected, rel=1e-4)
    assert clipped > 5
    assert float(state[1]) == pytest.approx(paper.mean, rel=1e-4)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("when", [5, 100])
def test_a_norm_that_is_not_finite_leaves_zclip_as_it_was(bad, when):
    state = other = new_z_state()
    for step, norm in enumerate(spiky()):
        if step == when:
            threshold, other = zclip_step(other, torch.tensor(bad))
            assert math.isinf(float(threshold))
        _, state = zclip_step(state, torch.tensor(norm))
        _, other = zclip_step(other, torch.tensor(norm))
        assert torch.equal(state, other)


def test_zclip_survives_norms_that_overflow_when_squared_and_norms_that_are_zero():
    state = new_z_state()
    for norm in [1.0, 2.0, 1e30, 1.5] * 10:
        _, state = zclip_step(state, torch.tensor(norm), warmup_steps=8)
    assert torch.isfinite(state).all()
    threshold, _ = zclip_step(state, torch.tensor(1e3), warmup_steps=8)
    assert float(threshold) < 10.0
    state = new_z_state()
    for _ in range(10):
        _, state = zclip_step(state, torch.tensor(0.0), warmup_steps=4)
    threshold, _ = zclip_step(state, torch.tensor(1.0), warmup_steps=4)
    assert math.isinf(float(threshold)), "gradients that begin to flow are not clipped to nothing"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_clip_to_brings_the_norm_to_the_threshold(dtype):
    gradients = [torch.full((3,), 2.0, dtype=dtype), torch.full((2, 2), -2.0, dtype=dtype)]
    norm = torch.tensor(28.0).sqrt()
    coefficient = clip_to_(gradients, norm, torch.tensor(1.0))
    assert float(coefficient) == pytest.approx(1.0 / 28.0**0.5)
    total = sum(float(g.float().square().sum()) for g in gradients) ** 0.5
    assert total == pytest.approx(1.0, rel=1e-6 if dtype == torch.float32 else 1e-2)


@pytest.mark.parametrize(("norm", "threshold"), [(1.0, 2.0), (1.0, math.inf), (math.nan, 1.0), (math.inf, 1.0)])
def test_clip_to_leaves_small_and_broken_gradients_bit_for_bit(norm, threshold):
    gradients = [torch.tensor([0.1, float("nan")]), torch.tensor([3.0])]
    before = [g.clone() for g in gradients]
    assert float(clip_to_(gradients, torch.tensor(norm), torch.tensor(threshold))) == 1.0
    for a, b in zip(before, gradients, strict=True):
        assert torch.equal(a.nan_to_num(), b.nan_to_num())


def unit_by_unit(weight, gradient, clipping, eps):
    """The paper's equation with a loop over units."""
    result = gradient.clone().double()
    whole = gradient.squeeze().dim() <= 1
    for unit in [...] if whole else range(len(gradient)):
        allowed = clipping * max(float(weight[unit].double().norm()), eps)
        norm = float(gradient[unit].double().norm())
        if norm > allowed:
            result[unit] *= allowed / norm
    return result


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_agc_is_the_papers_equation_unit_by_unit(dtype):
    generator = torch.Generator().manual_seed(0)
    shapes = [(4, 3), (5,), (), (6, 2, 3, 3), (7, 1), (1, 5), (1, 3, 2)]
    weights = [torch.randn(s, generator=generator).to(dtype) for s in shapes]
    weights[0][1] = 0.0
    gradients = [0.02 * torch.randn(s, generator=generator).to(dtype) for s in shapes]
    expected = [unit_by_unit(w, g, 0.01, 1e-3) for w, g in zip(weights, gradients, strict=True)]
    norms = [torch.cat([t.double().flatten() for t in group]).norm() for group in (gradients, expected)]
    before = [g.clone() for g in gradients]
    found = agc_(weights, gradients, 0.01, 1e-3)
    for gradient, right in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient.double(), right, rtol=1e-5, atol=0)
    assert [float(n) for n in found] == pytest.approx([float(n) for n in norms], rel=1e-5)
    changed = [not torch.equal(a, b) for a, b in zip(before, gradients, strict=True)]
    assert any(changed)
    assert float(found[1]) < float(found[0])


def test_agc_leaves_a_unit_that_is_not_finite_and_clips_its_neighbours():
    weight, gradient = torch.ones(3, 2), torch.ones(3, 2)
    gradient[1, 0] = float("inf")
    agc_([weight], [gradient], 0.01)
    assert torch.isinf(gradient[1, 0])
    assert float(gradient[1, 1]) == 1.0
    assert float(gradient[0].norm()) == pytest.approx(0.01 * 2**0.5)
