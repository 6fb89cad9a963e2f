"""Which rows of a recording train, validate and test: rows near one another are alike, so that a random split leaks.

A row goes with the `lags` rows before it. Between rows of two splits lie at least `gap` rows that none of them has,
`gap >= lags`, so that no row of one split is part of the window of another's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from stablelit.errors import ConfigurationError, DataError, bad_argument, did_you_mean
from stablelit.families.causal.panel import Ints, SensorPanel
from stablelit.functional.schedules import check_count, check_number

_OWNER = "SensorDataModule"
SPLITS = ("train", "val", "test")
WAYS = ("block", "time", "iid")
# gaps take at most a tenth of a period with all three splits
_ROWS_A_GAP, _FEWEST_ROWS = 30, 20
_SHORT = 10


@dataclass(frozen=True)
class RowSplits:
    """Rows by their place in the panel.

    Args:
        rows: of each split, ascending.
        usable: all rows that have `lags` rows before them in their recording, ascending.
        in_gaps: rows left out between splits.
        unused: rows in no split because the shares add up to less than 1.
        parts: stretches of which each has its own share of every split.
    """

    rows: dict[str, Ints]
    usable: Ints
    in_gaps: int
    unused: int
    parts: int


@dataclass(frozen=True)
class Splitting:
    """How rows are split.

    "time": of each recording the first rows train, later ones validate, the last ones test. "block": the same in each
    of up to `blocks` periods of a recording, so that every split sees all of a slow drift and all seasons; a period is
    no shorter than 20 rows or 30 gaps, which keeps what the gaps take below a tenth. "iid": a random permutation, for
    rows without an order.

    Args:
        shares: of "train", "val" and "test", which add up to at most 1; 0 is an empty split.
        split: "block", "time" or "iid".
        lags: rows before a row that belong to it.
        gap: rows between two splits, at least `lags`; None is `lags`.
        blocks: see above.
        seed: of "iid".

    Raises:
        ConfigurationError: an argument out of range; "iid" with lags.
    """

    shares: Mapping[str, float]
    split: str = "block"
    lags: int = 0
    gap: int | None = None
    blocks: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if self.split not in WAYS:
            raise bad_argument(_OWNER, "split", self.split, ", ".join(WAYS), did_you_mean(str(self.split), WAYS))
        for name, least in (("blocks", 1), ("lags", 0), ("seed", 0)):
            check_count(_OWNER, name, getattr(self, name), least)
        if self.gap is None:
            object.__setattr__(self, "gap", self.lags)
        elif check_count(_OWNER, "gap", self.gap, 0) < self.lags:
            allowed, why = f"at least lags={self.lags}", "Less puts a row into two splits' windows."
            raise bad_argument(_OWNER, "gap", self.gap, allowed, why)
        if self.split == "iid" and self.lags:
            raise ConfigurationError(
                f"{_OWNER}: split=iid with lags={self.lags} puts rows of one split into windows of another. Allowed: "
                f"split=block or split=time."
            )
        for name in SPLITS:
            check_number(_OWNER, name, self.shares[name], at_least=0.0, at_most=1.0)
        if self.shares["train"] == 0:
            raise bad_argument(_OWNER, "train", self.shares["train"], "a share above 0")
        if (total := sum(self.shares.values())) > 1 + 1e-9:
            raise ConfigurationError(f"{_OWNER}: train, val and test add up to {total:g}. Allowed: at most 1.")


def split_rows(panel: SensorPanel, how: Splitting) -> RowSplits:
    """Splits the rows of a panel.

    Raises:
        ConfigurationError: a split that comes out empty although its share is not 0.
        DataError: rows of several environments mixed, with lags and without time; fewer rows than lags.
    """
    shares, lags, gap = how.shares, how.lags, how.gap or 0
    stretches = _stretches(panel, lags)
    usable = [stretch[lags:] for stretch in stretches if len(stretch) > lags]
    if not usable:
        raise DataError(
            f"{_OWNER}: none of the {len(panel)} rows has {lags} rows before it in its recording, as "
            f"lags={lags} asks. Lower lags, or give longer recordings."
        )
    # what rounding has withheld from each split so far, in rows
    owed = dict.fromkeys(SPLITS, 0.0)
    if how.split == "iid":
        order = np.random.Generator(np.random.PCG64(how.seed)).permutation(np.concatenate(usable))
        parts, in_gaps = [_cut(order, shares, [0, 0, 0], owed)], 0
    else:
        parts, in_gaps = [], 0
        for stretch in usable:
            periods = _periods(stretch, len(panel), gap, how.blocks if how.split == "block" else 1)
            for number, period in enumerate(periods, start=1):
                gaps = _gaps(shares, gap, last=number == len(periods))
                parts.append(_cut(period, shares, gaps, owed))
                in_gaps += min(sum(gaps), len(period))
    rows = {name: np.sort(np.concatenate([part[name] for part in parts])) for name in SPLITS}
    for name, share in shares.items():
        if share > 0 and not len(rows[name]):
            raise ConfigurationError(
                f"{_OWNER}: {name}={share:g} of {len(panel)} rows leaves that split without a row "
                f"(lags={lags}, gap={gap}, in {len(parts)} parts). Raise its share, lower gap, or set it to 0."
            )
    together = np.concatenate(usable)
    unused = len(together) - in_gaps - sum(map(len, rows.values()))
    return RowSplits(rows, together, in_gaps, unused, len(parts))


def _stretches(panel: SensorPanel, lags: int) -> list[Ints]:
    numbers = panel.recordings()
    count = int(numbers[-1]) + 1
    if count > 1 and len(panel) / count < max(_SHORT, 2 * lags + 1):
        if lags:
            raise DataError(
                f"{_OWNER}: the {len(panel)} rows change their recording {count - 1} times, which leaves too "
                f"few rows in a row for lags={lags}. Sort the file by environment and time, give time_column, or set "
                f"lags=0."
            )
        # rows of several environments in no order: nothing follows anything, and one cut is as good as another
        return [np.arange(len(panel))]
    edges = np.flatnonzero(np.diff(numbers)) + 1
    return np.split(np.arange(len(panel)), edges)


def _periods(stretch: Ints, rows: int, gap: int, blocks: int) -> list[Ints]:
    fitting = len(stretch) // max(_FEWEST_ROWS, _ROWS_A_GAP * gap)
    wanted = round(blocks * len(stretch) / rows)
    return np.array_split(stretch, max(1, min(fitting, wanted)))


def _gaps(shares: Mapping[str, float], gap: int, last: bool) -> list[int]:
    """Rows left out behind each split: behind the last one of a period another period begins."""
    used = [share > 0 for share in shares.values()]
    if sum(used) == 1:
        return [0, 0, 0]
    gaps = [gap * here for here in used]
    if last:
        gaps[max(place for place, here in enumerate(used) if here)] = 0
    return gaps


def _cut(period: Ints, shares: Mapping[str, float], gaps: list[int], owed: dict[str, float]) -> dict[str, Ints]:
    free = left = max(0, len(period) - sum(gaps))
    last = max((name for name in shares if shares[name] > 0), key=list(shares).index)
    everything = sum(shares.values()) > 1 - 1e-9
    parts, begin = {}, 0
    for (name, share), gap in zip(shares.items(), gaps, strict=True):
        owed[name] += share * free
        size = left if everything and name == last else min(left, max(0, int(owed[name] + 0.5 + 1e-9)))
        parts[name] = period[begin : begin + size]
        owed[name] -= size
        begin, left = begin + size + gap, left - size
    return parts
