"""What a person should know of the rows before they train on them, in words and numbers."""

from __future__ import annotations

import numpy as np

from stablelit.families.causal.panel import SensorPanel
from stablelit.families.causal.readers.clock import irregularity
from stablelit.families.causal.sortability import r2_sortability, varsortability
from stablelit.families.causal.splits import RowSplits, Splitting

# a column of which float32 keeps fewer levels in a standard deviation than this loses what there is to learn
_FEWEST_LEVELS = 1000
_MOSTLY_MISSING = 0.5
_FEWEST_FOR_A_CLOCK = 10


def sortabilities(panel: SensorPanel) -> dict[str, float]:
    """Varsortability and R2-sortability of the observed rows; empty where the truth is not known or has no edge."""
    if panel.truth is None or not panel.truth.any():
        return {}
    return {
        "varsortability": varsortability(panel.values, panel.truth, panel.mask),
        "r2_sortability": r2_sortability(panel.values, panel.truth, panel.mask),
    }


def told_of_panel(panel: SensorPanel, source: str, sortability: dict[str, float]) -> list[str]:
    """What is there, and how much the scale of the data gives away of a known graph."""
    told = [f"{source}: {len(panel)} rows, {panel.n_columns} columns, {_percent(panel.missing_share)} missing"]
    if panel.truth is not None:
        told[0] += f", {int(panel.truth.sum())} true edges"
    if sortability:
        told.append(
            "varsortability {varsortability:.2f}, R2-sortability {r2_sortability:.2f} (near 1 or 0 the scale of the "
            "data gives the order away, 0.5 says nothing)".format(**sortability)
        )
    missing = 1.0 - panel.mask.mean(axis=0)
    mostly = [f"{panel.names[i]} ({_percent(missing[i])})" for i in np.flatnonzero(missing > _MOSTLY_MISSING)]
    if mostly:
        told.append(f"mostly missing: {', '.join(mostly)}")
    if panel.time is None and (clocks := _even_columns(panel)):
        told.append(f"{', '.join(clocks)} rises by the same step in every row: if it is time, name it as time_column")
    if panel.environment is not None:
        counts = np.bincount(panel.environment, minlength=len(panel.environment_names))
        each = zip(panel.environment_names, counts, strict=True)
        told.append("environments: " + ", ".join(f"{name} ({count} rows)" for name, count in each))
    if panel.intervened is not None and panel.intervened.any():
        told.append(f"{int(panel.intervened.sum())} cells were set from outside and are not scored")
    return told


def told_of_splits(panel: SensorPanel, splits: RowSplits, how: Splitting) -> list[str]:
    """How many rows went where, and what about them needs care."""
    counts = {name: len(rows) for name, rows in splits.rows.items()}
    parts = "" if splits.parts == 1 else f" in {splits.parts} periods"
    told = [
        f"split={how.split}: {counts['train']} training, {counts['val']} validation, {counts['test']} test rows{parts}"
    ]
    if splits.in_gaps:
        told.append(f"{splits.in_gaps} rows are in no split, for gaps of {how.gap} between them")
    if splits.unused:
        told.append(f"{splits.unused} rows are in no split, since train, val and test add up to less than 1")
    if only_history := len(panel) - len(splits.usable):
        told.append(f"rows at the beginning of a recording that are only history (lags={how.lags}): {only_history}")
    if counts["train"] < panel.n_columns:
        told.append(
            f"fewer training rows ({counts['train']}) than columns ({panel.n_columns}): regressions are not "
            f"determined, and a graph found here is one of many that fit. Give more rows, or fewer columns"
        )
    if how.lags and panel.time is not None and (uneven := irregularity(panel.time, panel.recordings())):
        told.append(f"{uneven}: a lag of one row is no fixed time (lags={how.lags}). Resample, or set lags=0")
    return told + _coarse_columns(panel)


def _even_columns(panel: SensorPanel) -> list[str]:
    if len(panel) < _FEWEST_FOR_A_CLOCK:
        return []
    steps = np.diff(panel.values, axis=0)
    even = (np.abs(steps - steps[0]) <= 1e-6 * np.abs(steps[0])).all(axis=0) & (steps[0] > 0) & panel.mask.all(axis=0)
    return [panel.names[i] for i in np.flatnonzero(even)]


def _coarse_columns(panel: SensorPanel) -> list[str]:
    values = np.where(panel.mask, panel.values, np.nan)
    largest = np.nanmax(np.abs(values), axis=0).astype(np.float32)
    levels = np.nanstd(values, axis=0) / np.spacing(largest)
    coarse = [f"{panel.names[i]} ({levels[i]:.0f})" for i in np.flatnonzero(levels < _FEWEST_LEVELS)]
    if not coarse:
        return []
    return [
        f"levels that float32 keeps in a standard deviation are few: {', '.join(coarse)}. Subtract a constant from "
        f"these columns in the file"
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
