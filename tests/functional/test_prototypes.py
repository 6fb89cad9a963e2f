from __future__ import annotations

import math

import pytest
import torch

from stablelit.errors import ConfigurationError
from stablelit.functional.prototypes import (
    few_shot_accuracy,
    prototypes,
    prototypical_logits,
    queries,
    query_targets,
    simple_shot,
    support_mean,
)

WAY, SHOT, QUERY, D = 3, 2, 4, 5
EPISODE = (WAY, SHOT, QUERY)


def drawn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


H = drawn(WAY * (SHOT + QUERY), D)


def rows_of(c):
    begin = c * (SHOT + QUERY)
    return H[begin : begin + SHOT], H[begin + SHOT : begin + SHOT + QUERY]


def test_a_prototype_is_the_mean_of_its_support_and_the_rest_are_queries():
    for c in range(WAY):
        support, asked = rows_of(c)
        torch.testing.assert_close(prototypes(H, *EPISODE)[c], sum(support) / SHOT)
        torch.testing.assert_close(queries(H, *EPISODE)[query_targets(WAY, QUERY) == c], asked)
    torch.testing.assert_close(support_mean(H, *EPISODE)[0], torch.cat([rows_of(c)[0] for c in range(WAY)]).mean(0))


@pytest.mark.parametrize("distance", ["squared_euclidean", "cosine"])
def test_logits_are_those_of_two_nested_loops(distance):
    q, p = queries(H, *EPISODE), prototypes(H, *EPISODE)
    logits = prototypical_logits(q, p, distance, temperature=0.3)
    for i in range(len(q)):
        for c in range(WAY):
            if distance == "cosine":
                expected = float(q[i] @ p[c]) / math.sqrt(float(q[i] @ q[i]) * float(p[c] @ p[c]))
            else:
                expected = -sum((float(a) - float(b)) ** 2 for a, b in zip(q[i], p[c], strict=True))
            assert float(logits[i, c]) == pytest.approx(expected / 0.3, rel=1e-9)


def test_the_temperature_may_be_learned():
    temperature = torch.tensor(0.5, requires_grad=True)
    prototypical_logits(H, prototypes(H, *EPISODE), "cosine", temperature).square().sum().backward()
    assert temperature.grad is not None
    assert temperature.grad != 0


def test_half_precision_is_left_behind():
    # |q|^2 of 300 numbers of 20 overflows float16, and a bfloat16 product of them is off by far more than 1
    q = (20 + drawn(4, 300, dtype=torch.float32)).half()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = prototypical_logits(q, q)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, -torch.cdist(q.double(), q.double()).square().float(), rtol=1e-3, atol=0.1)


def test_several_episodes_at_once_are_each_by_itself():
    many = drawn(7, WAY * (SHOT + QUERY), D, seed=3)
    together = few_shot_accuracy(many, *EPISODE, mean=support_mean(many, *EPISODE))
    one_by_one = [few_shot_accuracy(h, *EPISODE, mean=support_mean(h, *EPISODE)) for h in many]
    assert together.tolist() == [float(a) for a in one_by_one]
    assert len(set(together.tolist())) > 1


def test_separated_classes_are_all_found_and_random_ones_at_chance():
    apart = torch.eye(WAY).repeat_interleave(SHOT + QUERY, 0) + 0.01 * drawn(WAY * (SHOT + QUERY), WAY, seed=4)
    assert few_shot_accuracy(apart, *EPISODE) == 1.0
    random = few_shot_accuracy(drawn(3000, WAY * (SHOT + QUERY), D, seed=5), *EPISODE)
    assert float(random.mean()) == pytest.approx(1 / WAY, abs=4 * float(random.std()) / math.sqrt(3000))


def test_a_collapsed_encoder_has_the_loss_of_chance():
    h = torch.ones(WAY * (SHOT + QUERY), D)
    logits = prototypical_logits(queries(h, *EPISODE), prototypes(h, *EPISODE))
    loss = torch.nn.functional.cross_entropy(logits, query_targets(WAY, QUERY))
    assert float(loss) == pytest.approx(math.log(WAY), rel=1e-6)


def test_centring_sees_through_a_cone():
    classes = drawn(WAY, D, seed=6).repeat_interleave(SHOT + QUERY, 0)
    cone = 1e3 + classes + 0.3 * drawn(WAY * (SHOT + QUERY), D, seed=7)
    assert few_shot_accuracy(cone, *EPISODE, "cosine", mean=support_mean(cone, *EPISODE)) == 1.0
    centred = simple_shot(cone, support_mean(cone, *EPISODE))
    torch.testing.assert_close(centred.norm(dim=1), torch.ones(len(cone), dtype=torch.float64))
    raw = drawn(WAY * (SHOT + QUERY), D, seed=8)
    shifted = simple_shot(raw + 50, support_mean(raw + 50, *EPISODE))
    torch.testing.assert_close(shifted, simple_shot(raw, support_mean(raw, *EPISODE)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: prototypes(H, 4, SHOT, QUERY), r"h.shape=\(18, 5\) is not allowed. Allowed: \(..., 4 \* \(2 \+ 4\)"),
        (lambda: prototypes(H, 3, 0, 6), "n_shot=0 is not allowed"),
        (lambda: prototypical_logits(H, H, "euclid"), "distance='euclid' is not allowed.*squared_euclidean"),
        (lambda: prototypical_logits(H, H, temperature=0), "temperature=0 is not allowed"),
    ],
)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(ConfigurationError, match=message):
        call()
