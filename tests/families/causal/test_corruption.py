from __future__ import annotations

import numpy as np
import pytest

from stablelit.errors import ConfigurationError
from stablelit.families.causal.corruption import Corrupted, check_corruption, corrupt


def signal(rows: int = 4000, columns: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, columns)) * np.array([1.0, 10.0, 0.1, 1.0])[:columns]


def of(clean: np.ndarray, seed: int = 1, **corruption) -> Corrupted:
    return corrupt(clean, check_corruption("t", corruption), np.random.default_rng(seed))


def test_nothing_asked_is_nothing_done():
    clean = signal()
    done = of(clean)
    assert (done.values == clean).all()
    assert done.mask.all()
    assert done.shares == {}
    assert check_corruption("t", None) == {}


@pytest.mark.parametrize("name", ["drift", "noise", "spikes", "clip", "stuck", "mcar", "mar", "mnar"])
def test_the_clean_signal_is_never_written_into(name):
    clean = signal()
    before = clean.copy()
    done = of(clean, **{name: 0.2})
    assert (clean == before).all()
    assert (done.values != clean).any() or not done.mask.all()


@pytest.mark.parametrize("name", ["drift", "noise", "spikes", "clip", "stuck"])
def test_a_corruption_of_values_loses_no_cell(name):
    assert of(signal(), **{name: 0.2}).mask.all()


@pytest.mark.parametrize("name", ["mcar", "mar", "mnar"])
def test_a_loss_of_cells_changes_no_value(name):
    clean = signal()
    assert (of(clean, **{name: 0.2}).values == clean).all()


def test_noise_and_drift_are_in_standard_deviations_of_their_column():
    clean = signal()
    noise = of(clean, noise=0.5).values - clean
    assert noise.std(axis=0) / clean.std(axis=0) == pytest.approx(np.full(4, 0.5), rel=0.05)
    ends = [
        (of(signal(300), seed, drift=2.0).values - signal(300))[-1] / signal(300).std(axis=0) for seed in range(200)
    ]
    assert np.sqrt(np.square(ends).mean()) == pytest.approx(2.0, rel=0.1)
    # a walk: what it adds to one row is nearly what it adds to the next
    added = of(clean, drift=1.0).values - clean
    assert np.corrcoef(added[1:, 0], added[:-1, 0])[0, 1] > 0.99


def test_spikes_are_as_many_and_as_large_as_asked():
    clean = signal()
    done = of(clean, spikes={"rate": 0.02, "size": 5.0})
    hit = done.values != clean
    assert hit.mean() == pytest.approx(0.02, rel=0.2)
    assert done.shares["spikes"] == hit.mean()
    size = np.abs(done.values - clean)[hit] / np.broadcast_to(clean.std(axis=0), clean.shape)[hit]
    assert size == pytest.approx(np.full(hit.sum(), 5.0))


def test_clip_cuts_both_ends():
    clean = signal()
    done = of(clean, clip=0.1)
    assert done.shares["clip"] == pytest.approx(0.1, abs=0.001)
    for column in range(4):
        low, high = np.quantile(clean[:, column], (0.05, 0.95))
        assert done.values[:, column].min() == low
        assert done.values[:, column].max() == high


def test_stuck_sensors_repeat_their_last_value():
    clean = signal()
    done = of(clean, stuck={"rate": 0.2, "length": 10})
    stuck = done.values != clean
    assert stuck.mean() == pytest.approx(0.2, rel=0.15)
    rows, columns = np.nonzero(stuck)
    assert (done.values[rows, columns] == done.values[rows - 1, columns]).all()


@pytest.mark.parametrize("length", [1, 8])
def test_mcar_loses_its_rate_in_stretches_of_its_length(length):
    lost = ~of(signal(30_000), mcar={"rate": 0.15, "length": length}).mask
    assert lost.mean() == pytest.approx(0.15, rel=0.1)
    # how likely the next cell of a lost one is lost
    following = lost[1:][lost[:-1]].mean()
    # overlapping stretches lengthen one another a little
    assert following == pytest.approx(max(0.15, 1 - 1 / length), abs=0.03)


def test_mar_depends_on_a_column_that_is_never_missing():
    clean = signal(20_000)
    done = of(clean, mar=0.3)
    rates = (~done.mask).mean(axis=0)
    driver = int(np.flatnonzero(rates == 0)[0])
    others = [c for c in range(4) if c != driver]
    assert rates[others] == pytest.approx(np.full(3, 0.3), abs=0.02)
    above = clean[:, driver] > np.median(clean[:, driver])
    assert (~done.mask)[above][:, others].mean() > 3 * (~done.mask)[~above][:, others].mean()
    # given the driver, the value itself says nothing: within a narrow band of it, lost and kept cells are alike
    band = np.abs(clean[:, driver] - np.median(clean[:, driver])) < 0.1 * clean[:, driver].std()
    column = others[0]
    lost, kept = (clean[band & sign, column] for sign in (~done.mask[:, column], done.mask[:, column]))
    assert abs(lost.mean() - kept.mean()) < 4 * clean[:, column].std() * np.sqrt(1 / len(lost) + 1 / len(kept))


def test_mnar_loses_large_values():
    clean = signal(20_000)
    done = of(clean, mnar=0.2)
    assert (~done.mask).mean(axis=0) == pytest.approx(np.full(4, 0.2), abs=0.02)
    for column in range(4):
        assert clean[~done.mask[:, column], column].mean() > clean[:, column].mean() + 0.5 * clean[:, column].std()


def test_another_corruption_leaves_the_others_as_they_are():
    clean = signal()
    alone, beside = of(clean, mcar=0.1), of(clean, mcar=0.1, spikes=0.01, noise=0.1)
    assert (alone.mask == beside.mask).all()
    assert (of(clean, noise=0.1, spikes=0.01).values == of(clean, spikes=0.01, noise=0.1).values).all()


def test_the_order_is_that_of_the_chain_from_sensor_to_file():
    # what is added before the end of the range is cut by it
    clean = signal()
    done = of(clean, clip=0.1, spikes={"rate": 0.05, "size": 50.0})
    assert np.abs(done.values).max() < 50 * clean.std(axis=0).max()


@pytest.mark.parametrize(
    ("corruption", "message"),
    [
        ({"mcra": 0.1}, "corruption='mcra'.*Did you mean 'mcar'"),
        ({"mcar": 1.0}, r"corruption\.mcar\.rate=1\.0"),
        ({"mcar": {"length": 3}}, r"corruption\.mcar\.rate=None"),
        ({"mcar": {"rate": 0.1, "length": 0.5}}, r"corruption\.mcar\.length=0\.5"),
        ({"spikes": {"rate": 0.1, "sise": 3}}, r"corruption\.spikes='sise'.*rate, size.*Did you mean 'size'"),
        ({"noise": "much"}, r"corruption\.noise\.size='much'"),
        ([{"mcar": 0.1}], "a mapping, e.g."),
    ],
)
def test_what_is_no_corruption_is_refused(corruption, message):
    with pytest.raises(ConfigurationError, match=message):
        check_corruption("t", corruption)
