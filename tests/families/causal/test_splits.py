from __future__ import annotations

import numpy as np
import pytest

from stablelit.errors import ConfigurationError, DataError
from stablelit.families.causal.panel import SensorPanel
from stablelit.families.causal.splits import SPLITS, RowSplits, Splitting
from stablelit.families.causal.splits import split_rows as split_by

SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}


def panel(rows: int, environment: list[int] | None = None, time: np.ndarray | None = None) -> SensorPanel:
    values = np.random.default_rng(0).standard_normal((rows, 2))
    labels = None if environment is None else np.array(environment)
    names = () if environment is None else tuple(f"e{i}" for i in range(max(environment) + 1))
    return SensorPanel.from_values(values, time=time, environment=labels, environment_names=names)


def split_rows(rows: SensorPanel, shares: dict[str, float], split: str, **others) -> RowSplits:
    return split_by(rows, Splitting(shares, split, **others))


def windows(rows: np.ndarray, lags: int) -> set[int]:
    return {int(row) - lag for row in rows for lag in range(lags + 1)}


@pytest.mark.parametrize("split", ["block", "time"])
@pytest.mark.parametrize("lags", [0, 1, 3])
@pytest.mark.parametrize("extra", [0, 4])
@pytest.mark.parametrize("rows", [97, 1000])
def test_no_row_of_one_split_is_in_a_window_of_another_and_gaps_are_kept(split, lags, extra, rows):
    gap = lags + extra
    made = split_rows(panel(rows), SHARES, split, lags=lags, gap=gap)
    for one in SPLITS:
        for other in SPLITS:
            if one != other:
                assert not windows(made.rows[one], lags) & windows(made.rows[other], lags)
                distance = np.abs(made.rows[one][:, None] - made.rows[other][None, :]).min()
                assert distance > gap
    used = sum(len(made.rows[name]) for name in SPLITS)
    assert used + made.in_gaps == len(made.usable) == rows - lags
    assert made.unused == 0


@pytest.mark.parametrize("split", ["block", "time", "iid"])
def test_shares_are_met_and_every_row_is_used_once(split):
    made = split_rows(panel(1003), SHARES, split)
    counts = {name: len(rows) for name, rows in made.rows.items()}
    assert counts["train"] == pytest.approx(702, abs=1)
    assert counts["val"] == pytest.approx(150.5, abs=1)
    everything = np.concatenate(list(made.rows.values()))
    assert sorted(everything.tolist()) == list(range(1003))
    for rows in made.rows.values():
        assert (np.diff(rows) > 0).all()


def test_blocks_put_every_split_into_every_tenth_of_the_time():
    made = split_rows(panel(1000), SHARES, "block")
    assert made.parts == 10
    for name in SPLITS:
        tenths = np.bincount(made.rows[name] // 100, minlength=10)
        assert tenths.min() >= 0.9 * tenths.mean()


def test_time_trains_on_the_past():
    made = split_rows(panel(1000), SHARES, "time")
    assert made.parts == 1
    assert made.rows["train"].max() < made.rows["val"].min()
    assert made.rows["val"].max() < made.rows["test"].min()


def test_gaps_never_take_more_than_a_tenth():
    for gap in (1, 5, 24):
        made = split_rows(panel(3000), SHARES, "block", gap=gap)
        assert made.in_gaps <= 300
        assert made.parts >= 3


def test_iid_depends_on_its_seed_alone_and_the_others_on_nothing():
    first, again, other = (split_rows(panel(100), SHARES, "iid", seed=seed).rows for seed in (0, 0, 1))
    assert all((first[name] == again[name]).all() for name in SPLITS)
    assert not np.array_equal(first["train"], other["train"])
    assert np.array_equal(*(split_rows(panel(100), SHARES, "block", seed=s).rows["train"] for s in (0, 1)))


@pytest.mark.parametrize("split", ["block", "time", "iid"])
def test_rows_that_no_share_asks_for_are_counted(split):
    made = split_rows(panel(1000), {"train": 0.5, "val": 0.2, "test": 0.1}, split)
    assert {name: len(rows) for name, rows in made.rows.items()} == {"train": 500, "val": 200, "test": 100}
    assert made.unused == 200


def test_empty_splits_take_no_gaps():
    made = split_rows(panel(100), {"train": 1.0, "val": 0.0, "test": 0.0}, "block", lags=2, gap=5)
    assert len(made.rows["train"]) == 98
    assert made.in_gaps == 0
    two = split_rows(panel(100), {"train": 0.8, "val": 0.2, "test": 0.0}, "time", gap=5)
    assert len(two.rows["test"]) == 0
    assert two.in_gaps == 5
    assert two.rows["val"].min() - two.rows["train"].max() == 6
    assert two.rows["val"].max() == 99


def test_windows_do_not_reach_into_another_recording():
    made = split_rows(panel(300, environment=[0] * 100 + [1] * 200), SHARES, "block", lags=3, gap=3)
    assert len(made.usable) == 294
    for rows in made.rows.values():
        assert not set(rows.tolist()) & {0, 1, 2, 100, 101, 102}
        # every recording gives to every split
        assert (rows < 100).any()
        assert (rows >= 100).any()


def test_under_one_clock_a_change_of_conditions_interrupts_nothing():
    made = split_rows(panel(100, environment=[0, 1] * 50, time=np.arange(100.0)), SHARES, "time", lags=2, gap=2)
    assert made.usable.tolist() == list(range(2, 100))


def test_rows_of_environments_in_no_order_have_no_lags_and_are_split_all_the_same():
    mixed = panel(60, environment=[0, 1, 2] * 20)
    made = split_rows(mixed, SHARES, "block")
    assert sum(map(len, made.rows.values())) == 60
    with pytest.raises(DataError, match="change their recording 59 times.*lags=1.*Sort the file by environment"):
        split_rows(mixed, SHARES, "block", lags=1, gap=1)


def test_a_split_without_a_row_is_named():
    with pytest.raises(ConfigurationError, match=r"val=0\.01 of 30 rows leaves that split without a row"):
        split_rows(panel(30), {"train": 0.9, "val": 0.01, "test": 0.09}, "time")
    with pytest.raises(ConfigurationError, match=r"leaves that split without a row.*gap=20.*lower gap"):
        split_rows(panel(30), SHARES, "time", gap=20)


def test_more_lags_than_rows_are_named():
    with pytest.raises(DataError, match="none of the 30 rows has 40 rows before it"):
        split_rows(panel(30), SHARES, "time", lags=40, gap=40)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split": "blocks"}, "split='blocks'.*Did you mean 'block'"),
        ({"split": "iid", "lags": 1}, "split=iid with lags=1.*split=block"),
        ({"lags": 2, "gap": 1}, "gap=1 is not allowed. Allowed: at least lags=2"),
        ({"lags": -1}, "lags=-1"),
        ({"blocks": 0}, "blocks=0"),
        ({"shares": {"train": 0.0, "val": 0.5, "test": 0.5}}, "train=0.0 is not allowed. Allowed: a share above 0"),
        ({"shares": {"train": 0.8, "val": 0.3, "test": 0.0}}, "add up to 1.1"),
        ({"shares": {"train": 0.8, "val": -0.1, "test": 0.0}}, "val=-0.1"),
        ({"shares": {"train": 100, "val": 0, "test": 0}}, "train=100"),
    ],
)
def test_what_cannot_be_split_is_refused(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        Splitting(**{"shares": SHARES, **settings})


def test_a_gap_is_the_lags_where_nothing_is_said():
    assert Splitting(SHARES, lags=3).gap == 3
    assert Splitting(SHARES, lags=3, gap=8).gap == 8
