from __future__ import annotations

import math

import pytest
import torch

from stablelit.errors import ConfigurationError
from stablelit.families.proteins.diffusion.bounds import t_weight
from stablelit.families.proteins.diffusion.noise import CosineNoise, HalfCosineNoise, LogLinearNoise
from stablelit.families.proteins.diffusion.noise_curriculum import (
    MODES,
    NoiseCurriculum,
    build_noise_curriculum,
)

LOGLINEAR = LogLinearNoise()
U = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
REVERSIBLE = ("truncate", "mixture", "power", "beta")


def drawn(curriculum, difficulty, noise=LOGLINEAR, u=U):
    return curriculum.draw(difficulty, u, noise, torch.Generator().manual_seed(0))


def integral(draw, cost):
    """The mean of the t form over a batch whose masked residues cost `cost(mask rate)`."""
    mask_rate = -torch.expm1(-draw.corruption_sigma)
    return float((draw.weight * t_weight(draw.sigma, draw.rate) * mask_rate * cost(mask_rate)).mean())


@pytest.mark.parametrize("mode", MODES)
def test_full_difficulty_is_plain_training(mode):
    found = drawn(NoiseCurriculum(mode=mode), 1.0)
    assert torch.equal(found.corruption_sigma, found.sigma)
    assert found.weight.numpy() == pytest.approx(1.0)
    t = 1e-3 + (1 - 1e-3) * U
    torch.testing.assert_close(
        t_weight(found.sigma, found.rate).sort().values, t_weight(LOGLINEAR.sigma(t), LOGLINEAR.rate(t)).sort().values
    )
    torch.testing.assert_close(found.t, t, rtol=0, atol=2e-6)


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "corrupt_only"])
@pytest.mark.parametrize("noise", [LOGLINEAR, CosineNoise(), HalfCosineNoise()], ids=repr)
def test_corruption_conditioning_and_weight_have_one_sigma_whose_rate_it_is(mode, noise):
    found = drawn(NoiseCurriculum(mode=mode), 0.4, noise)
    assert torch.equal(found.corruption_sigma, found.sigma)
    if mode == "beta":
        # the mask rate is the clock: d lambda = e^-sigma d sigma over the width of its range
        width = noise.mask_probability(torch.tensor([1e-3, 1.0], dtype=torch.float64)).diff()
        torch.testing.assert_close(found.rate, width / (1 - 1e-3) * found.sigma.exp())
    else:
        factor = 0.4 if mode == "sigma_scale" else 1.0
        torch.testing.assert_close(found.sigma, factor * noise.sigma(found.t))
        torch.testing.assert_close(found.rate, factor * noise.rate(found.t))


def test_truncation_is_the_integral_up_to_the_share():
    found = drawn(NoiseCurriculum(mode="truncate", eps=0.0), 0.4)
    assert float(found.t.max()) == pytest.approx(0.4, abs=1e-4)
    # with log-linear masks a cost of 1 is d times (1 - eps), a cost of the mask rate half its square
    assert integral(found, torch.ones_like) == pytest.approx(0.4 * 0.999)
    assert integral(found, lambda rate: rate) == pytest.approx((0.4 * 0.999) ** 2 / 2)


def test_truncation_from_the_hard_end_is_the_rest_of_the_integral():
    easy = drawn(NoiseCurriculum(mode="truncate", eps=0.0), 0.4)
    hard = drawn(NoiseCurriculum(mode="truncate", eps=0.0, order="hard_first"), 0.6)
    full = drawn(NoiseCurriculum(eps=0.0), 1.0)
    assert float(hard.t.min()) == pytest.approx(0.4, abs=1e-4)
    cost = lambda rate: 1 + rate**2  # noqa: E731
    assert integral(easy, cost) + integral(hard, cost) == pytest.approx(integral(full, cost), rel=1e-6)


@pytest.mark.parametrize("order", ["easy_first", "hard_first"])
@pytest.mark.parametrize(
    ("mode", "arguments"),
    [("mixture", {}), ("power", {"importance_weights": True}), ("beta", {"importance_weights": True})],
)
def test_importance_weights_leave_the_objective_as_it_is(mode, arguments, order):
    curriculum = NoiseCurriculum(mode=mode, order=order, **arguments)
    cost = lambda rate: 1 + rate**2  # noqa: E731
    full = integral(drawn(curriculum, 1.0), cost)
    for difficulty in (0.2, 0.7):
        assert integral(drawn(curriculum, difficulty), cost) == pytest.approx(full, rel=2e-3)


def test_a_mixture_draws_the_share_of_easy_times_that_it_says():
    found = drawn(NoiseCurriculum(mode="mixture", t_easy=0.25, eps=0.0), 0.4)
    assert float((found.t < 0.25).double().mean()) == pytest.approx(0.6 + 0.4 * 0.25, abs=1e-4)
    nothing_else = drawn(NoiseCurriculum(mode="mixture", t_easy=0.25, eps=0.0), 0.0)
    assert float(nothing_else.t.max()) < 0.25
    assert nothing_else.weight.numpy() == pytest.approx(0.25)


def test_a_power_draws_small_times_more_often():
    found = drawn(NoiseCurriculum(mode="power", bias=2.0, eps=0.0), 0.5)
    torch.testing.assert_close(found.t, U**2)
    assert (found.weight == 1).all()


def test_mask_rates_follow_the_beta_law_and_its_mixture_with_the_uniform():
    curriculum = NoiseCurriculum(mode="beta", a=3.0, b=9.0, eps=0.0)
    for difficulty in (0.0, 0.2, 0.7):
        found = drawn(curriculum, difficulty)
        rate = -torch.expm1(-found.sigma) / 0.999
        # of 11 uniform numbers at least 3 are below: the incomplete beta function of whole a and b
        beta = sum(math.comb(11, j) * rate**j * (1 - rate) ** (11 - j) for j in range(3, 12))
        cumulative = (1 - difficulty) * beta + difficulty * rate
        # u by which a number was drawn is its place in the law
        torch.testing.assert_close(cumulative, U, rtol=0, atol=2e-6)


def test_the_post_mortems_noise_scales_the_corruption_alone():
    found = drawn(NoiseCurriculum(mode="corrupt_only"), 0.3)
    torch.testing.assert_close(found.corruption_sigma, 0.3 * found.sigma)
    torch.testing.assert_close(found.sigma, LOGLINEAR.sigma(found.t))
    torch.testing.assert_close(found.rate, LOGLINEAR.rate(found.t))


@pytest.mark.parametrize("mode", MODES)
def test_replayed_sequences_are_plain_training_at_every_difficulty(mode):
    found = drawn(NoiseCurriculum(mode=mode, replay=0.3), 0.2)
    there = found.replayed
    assert float(there.double().mean()) == pytest.approx(0.3, abs=4 * (0.21 / len(U)) ** 0.5)
    plain = drawn(NoiseCurriculum(mode=mode), 1.0)
    for name in ("t", "corruption_sigma", "sigma", "weight"):
        torch.testing.assert_close(getattr(found, name)[there], getattr(plain, name)[there], rtol=2e-5, atol=2e-6)
    # which are replayed does not depend on the time they would have had
    assert float(U[there].mean()) == pytest.approx(0.5, abs=4 * (1 / 12 / 30_000) ** 0.5)


def test_nothing_is_replayed_and_no_number_is_drawn_where_none_is_wanted():
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert not NoiseCurriculum().draw(0.5, U, LOGLINEAR, generator).replayed.any()
    assert torch.equal(before, generator.get_state())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("difficulty", [1e-3, 0.5, 1.0])
def test_float32_draws_are_finite_at_both_ends(mode, difficulty):
    for order in ("easy_first", "hard_first") if mode in REVERSIBLE else ("easy_first",):
        curriculum = NoiseCurriculum(mode=mode, order=order)
        u = torch.tensor([0.0, 1e-7, 0.5, 1 - 2.0**-24])
        for noise in (LOGLINEAR, CosineNoise(), HalfCosineNoise()):
            found = curriculum.draw(difficulty, u, noise, None)
            for name in ("t", "corruption_sigma", "sigma", "rate", "weight"):
                assert getattr(found, name).isfinite().all(), name
                assert getattr(found, name).dtype == torch.float32
            assert t_weight(found.sigma, found.rate).isfinite().all()


@pytest.mark.parametrize("mode", MODES)
def test_a_difficulty_in_a_tensor_gives_the_same_noise(mode):
    curriculum = NoiseCurriculum(mode=mode)
    a, b = (curriculum.draw(d, U, LOGLINEAR, None) for d in (0.25, torch.tensor(0.25, dtype=torch.float64)))
    for name in ("t", "corruption_sigma", "sigma", "rate", "weight"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=2e-6, atol=2e-6)


def test_a_curriculum_is_built_from_a_name_or_a_mapping():
    assert build_noise_curriculum(None) == NoiseCurriculum()
    assert build_noise_curriculum("power") == NoiseCurriculum(mode="power")
    assert build_noise_curriculum({"mode": "beta", "a": 2.0}) == NoiseCurriculum(mode="beta", a=2.0)
    own = NoiseCurriculum(replay=0.1)
    assert build_noise_curriculum(own) is own


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "trucate"}, "Did you mean 'truncate'"),
        ({"order": "easy"}, "order='easy'.*easy_first"),
        ({"raplay": 0.1}, "no setting 'raplay'.*Did you mean 'replay'"),
        ({"replay": 1.5}, "replay=1.5"),
        ({"eps": 1.0}, "eps=1.0"),
        ({"t_easy": 0.0}, "t_easy=0.0"),
        ({"bias": -1.0}, "bias=-1.0"),
        ({"a": 0.5}, "a=0.5"),
        ({"b": "9"}, "b='9'"),
        ({"mode": "corrupt_only", "order": "hard_first"}, "easy_first with mode=corrupt_only"),
        ({"mode": "mixture", "importance_weights": True}, "importance_weights=True.*mode=mixture"),
        ({"importance_weights": "yes", "mode": "power"}, "importance_weights='yes'"),
    ],
)
def test_a_curriculum_that_cannot_be_is_refused(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        build_noise_curriculum(settings)


@pytest.mark.parametrize(("mode", "difficulty"), [("truncate", 1.1), ("truncate", -0.1), ("sigma_scale", 0.0)])
def test_a_difficulty_outside_its_range_is_refused(mode, difficulty):
    with pytest.raises(ConfigurationError, match=f"difficulty={difficulty}"):
        NoiseCurriculum(mode=mode).draw(difficulty, U, LOGLINEAR, None)
