from __future__ import annotations

import math

import pytest
import torch

from stablelit.callbacks._contrastive_geometry import measure, pages_of
from stablelit.callbacks._contrastive_reader import Pairs
from stablelit.functional.embeddings import rankme, std_ratio, unit_rows


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pairs(n=64, d=16, noise=0.5, seed=0, away=0.0):
    """Rows of two views that share their signal, in a cone about one direction where `away` is large."""
    signal, cone = normal(n, d, seed=seed), torch.zeros(d)
    cone[0] = away
    z0, z1 = (signal + noise * normal(n, d, seed=seed + k) + cone for k in (1, 2))
    return Pairs(z0, z1)


def numbers(collected, seen=None, page=None, max_rows=512, rank_rows=4096):
    return measure(collected, seen, page, max_rows, rank_rows)


def shuffled(batch):
    return Pairs(batch.z0, batch.z1.roll(1, dims=0), batch.h)


def test_agreement_does_not_fade_in_a_cone_where_the_gap_does():
    wide, narrow = numbers([pairs()]), numbers([pairs(away=1000.0)])
    assert narrow["pos_cos"] - narrow["neg_cos"] < 1e-4 < wide["pos_cos"] - wide["neg_cos"]
    # signal 1, noise 0.5 squared in each view: a correlation of 1 / 1.25
    assert narrow["agreement"] == pytest.approx(1 / 1.25, abs=0.05)
    assert wide["agreement"] == pytest.approx(1 / 1.25, abs=0.05)


@pytest.mark.parametrize("away", [0.0, 1000.0])
def test_agreement_of_wrong_pairs_is_about_zero(away):
    collected = [shuffled(pairs(seed=10 * k, away=away)) for k in range(4)]
    assert abs(numbers(collected)["agreement"]) < 0.05


def test_agreement_is_of_the_features_where_they_are_of_both_views():
    batch = pairs()
    wrong = shuffled(batch)
    features = Pairs(wrong.z0, wrong.z1, torch.cat([batch.z0, batch.z1]))
    assert numbers([features])["agreement"] == pytest.approx(numbers([batch])["agreement"], abs=1e-6)
    of_one_view = Pairs(batch.z0, batch.z1, normal(64, 5))
    assert numbers([of_one_view])["agreement"] == pytest.approx(numbers([batch])["agreement"], abs=1e-6)


def test_one_point_has_no_agreement():
    point = torch.ones(8, 4)
    found = numbers([Pairs(point, point.clone())])
    assert math.isnan(found["agreement"])
    assert found["std_ratio"] == 0.0


def test_the_rank_is_of_all_collected_rows_and_the_spread_of_the_last():
    collected = [pairs(n=6, seed=10 * k) for k in range(3)]
    found = numbers(collected)
    rows = torch.cat([torch.cat([p.z0, p.z1]) for p in collected])
    assert found["rank_rows"] == 36
    assert found["rankme"] == pytest.approx(float(rankme(unit_rows(rows))), rel=1e-5)
    assert found["rankme_frac"] == pytest.approx(found["rankme"] / 16)
    last = torch.cat([collected[-1].z0, collected[-1].z1])
    assert found["std_ratio"] == pytest.approx(float(std_ratio(last)), rel=1e-5)


def test_rows_beyond_the_limits_are_left_out_evenly_and_in_pairs():
    batch = pairs(n=64)
    batch.z1[1::2] = -batch.z0[1::2]  # half of the pairs are wrong, and none of those that are looked at
    found = numbers([batch], max_rows=64, rank_rows=10)
    assert found["pos_cos"] > 0.5
    assert found["rank_rows"] == 10


def test_rows_that_are_not_finite_are_counted_and_raise_nothing():
    batch = pairs(n=8)
    batch.z0[0, 0], batch.z1[3] = math.nan, math.inf
    found = numbers([batch])
    assert found["bad_rows"] == pytest.approx(2 / 16)
    assert all(math.isfinite(value) for value in found.values())


def test_the_page_stands_in_for_an_input_that_is_not_known():
    page, seen = normal(10, 1, 4, 4), 255.0 * normal(20, 1, 4, 4, seed=1)
    both, alone = numbers([pairs()], seen, page), numbers([pairs()], None, page)
    assert (both["input_min"], both["input_max"]) == (
        pytest.approx(float(seen.min())),
        pytest.approx(float(seen.max())),
    )
    assert both["input_std"] == pytest.approx(float(seen.std(dim=0, correction=0).mean()))
    assert both["page_std"] == alone["page_std"] == alone["input_std"]
    assert alone["page_std"] == pytest.approx(float(page.std(dim=0, correction=0).mean()))
    assert "input_std" not in numbers([pairs()])


def test_pages_are_the_first_rows_of_a_batch_that_are_no_labels():
    image = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)
    assert pages_of({"label": torch.zeros(4, 2, dtype=torch.int64), "image": image}) is image
    assert pages_of([torch.zeros(4)]) is None
