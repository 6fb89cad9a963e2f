from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch

from stablelit.errors import ConfigurationError
from stablelit.families.jets import hyperedges
from stablelit.families.jets.features import knn_hyperedges


def by_hand(batch, row, members):
    particles = [batch["particles"][row, i].tolist() for i in members]
    widest = max(math.dist(a[:2], b[:2]) for a, b in combinations(particles, 2))
    return [math.log(widest), sum(math.log(p[2]) for p in particles)]


def members_of(incidence, row, column):
    return incidence[row, :, column].nonzero().flatten().tolist()


def narrowed(batch, n_particles):
    return {name: values[:, :n_particles] if values.dim() > 1 else values for name, values in batch.items()}


@pytest.mark.slow
def test_the_weightiest_triplets_are_those_of_a_search_through_all(batch):
    # any order of particles, and holes
    order = torch.randperm(30, generator=torch.Generator().manual_seed(3))
    batch = {name: batch[name][:, order] for name in ("particles", "mask")}
    incidence, features, mask = hyperedges.topk_weight_hyperedges(batch["particles"], batch["mask"], n_top=20)
    assert incidence.shape[2] == 20
    for row in range(len(mask)):
        present = batch["mask"][row].nonzero().flatten().tolist()
        triplets = sorted(combinations(present, 3), key=lambda t, row=row: -by_hand(batch, row, t)[1])[:20]
        assert int(mask[row].sum()) == len(triplets)
        for column, triplet in enumerate(triplets):
            assert members_of(incidence, row, column) == sorted(triplet)
            assert features[row, column].tolist() == pytest.approx(by_hand(batch, row, triplet), abs=1e-3)
        assert not incidence[row, :, len(triplets) :].any()
        assert not features[row, len(triplets) :].any()


def test_triplets_are_left_out_only_where_enough_others_weigh_as_much():
    """All weights equal but for the last particle's: the ranks that are kept hold the best, whatever the pT are."""
    assert len(hyperedges._rank_triplets(30, 64)) == 207
    assert hyperedges._rank_triplets(4, 100) == list(combinations(range(4), 3))
    for a, b, c in hyperedges._rank_triplets(9, 12):
        beaten_by = sum(x <= a and y <= b and z <= c for x, y, z in combinations(range(9), 3))
        assert beaten_by <= 12


def test_all_hyperedges_are_listed_once_with_their_features(batch):
    batch = narrowed(batch, 6)
    incidence, features, mask = hyperedges.all_hyperedges(batch["particles"], batch["mask"])
    for row in range(len(mask)):
        present = batch["mask"][row].nonzero().flatten().tolist()
        expected = [*combinations(present, 3), *combinations(present, 4)]
        columns = mask[row].nonzero().flatten().tolist()
        assert [tuple(members_of(incidence, row, column)) for column in columns] == expected
        for column, members in zip(columns, expected, strict=True):
            assert features[row, column].tolist() == pytest.approx(by_hand(batch, row, members), abs=1e-3)
        assert not incidence[row][:, ~mask[row]].any()
        assert not features[row][~mask[row]].any()


@pytest.mark.parametrize("kind", hyperedges.HYPEREDGE_KINDS)
def test_every_kind_is_finite_for_the_smallest_jets_and_empty_below_three_particles(batch, kind):
    batch = narrowed(batch, 7)
    incidence, features, mask = hyperedges.build_hyperedges(kind, batch["particles"], batch["mask"])
    assert features.isfinite().all()
    assert not mask[:2].any()
    assert not incidence[:2].any()
    assert mask[2:].any(dim=1).all()
    assert torch.equal(incidence.any(dim=1), mask)


def test_knn_is_the_function_of_that_name(batch):
    found = hyperedges.build_hyperedges("knn", batch["particles"], batch["mask"], n_neighbours=2)
    for one, other in zip(found, knn_hyperedges(batch["particles"], batch["mask"], 2), strict=True):
        assert torch.equal(one, other)


def test_too_many_hyperedges_are_refused_with_their_number(batch):
    with pytest.raises(ConfigurationError, match=r"31,465 hyperedges of a jet of 30 .*max_hyperedges=5,000"):
        hyperedges.build_hyperedges("all", batch["particles"], batch["mask"])
    with pytest.raises(ConfigurationError, match="Did you mean 'topk_weight'"):
        hyperedges.check_hyperedges("JetVAE", "topk-weight", 30)
    incidence, _, mask = hyperedges.build_hyperedges(
        "all", batch["particles"][-1:], batch["mask"][-1:], max_hyperedges=40_000
    )
    n = int(batch["mask"][-1].sum())
    assert int(mask.sum()) == math.comb(n, 3) + math.comb(n, 4)
    assert int(incidence.sum()) == 3 * math.comb(n, 3) + 4 * math.comb(n, 4)
