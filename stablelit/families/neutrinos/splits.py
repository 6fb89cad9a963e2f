"""Which events are for training, validation and test: whole files, so that no file is on two sides.

Events of a file share what it was made under; events of one file on both sides would make validation look too good.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stablelit.errors import ConfigurationError, bad_argument

SPLITS = ("train", "val", "test")
_OWNER = "NeutrinoDataModule"

Share = int | float


@dataclass(frozen=True)
class Splits:
    """Places of events in a table, ascending, for each of `SPLITS`.

    Args:
        indices: the places.
        note: how they were made.
    """

    indices: dict[str, NDArray[np.int64]]
    note: str


def check_shares(shares: Mapping[str, Share]) -> None:
    """Refuses what is neither a number of events nor a share.

    Raises:
        ConfigurationError: with what is allowed.
    """
    for name, share in shares.items():
        number = isinstance(share, int | float) and not isinstance(share, bool)
        if not number or not (share >= 1 if isinstance(share, int) else 0 < share <= 1):
            raise bad_argument(_OWNER, name, share, "an int of at least 1 (events) or a float in (0, 1] (a share)")
    if (total := sum(s for s in shares.values() if isinstance(s, float))) > 1 + 1e-9:
        raise ConfigurationError(
            f"{_OWNER}: train, val and test are shares that add up to {total:g}. Allowed: at most 1."
        )


def check_batch_ids(batch_ids: Mapping[str, Sequence[int] | None]) -> dict[str, list[int]] | None:
    """The batch ids of each split as lists; None where none is given.

    Raises:
        ConfigurationError: some are given and some are not, an empty list, one that is no int, one in two splits.
    """
    given = {name: ids for name, ids in batch_ids.items() if ids is not None}
    if not given:
        return None
    if len(given) < len(SPLITS):
        missing = next(name for name in SPLITS if name not in given)
        raise ConfigurationError(
            f"{_OWNER}: batch_ids_{next(iter(given))} is given and batch_ids_{missing} is not. Give all of "
            f"{', '.join(f'batch_ids_{name}' for name in SPLITS)}, or none (files are then split by the shares)."
        )
    lists: dict[str, list[int]] = {}
    for name, ids in given.items():
        good = isinstance(ids, Sequence) and not isinstance(ids, str) and len(ids) > 0
        if not good or any(isinstance(b, bool) or not isinstance(b, int) or b < 0 for b in ids):
            raise bad_argument(_OWNER, f"batch_ids_{name}", ids, "a list of one or more ints of at least 0")
        lists[name] = [int(b) for b in ids]
    for i, one in enumerate(SPLITS):
        for other in SPLITS[i + 1 :]:
            if both := sorted(set(lists[one]) & set(lists[other])):
                raise ConfigurationError(
                    f"{_OWNER}: batch {both[0]} is in batch_ids_{one} and in batch_ids_{other}. Allowed: one split a "
                    f"batch; otherwise what is tested has been trained on."
                )
    return lists


def split_events(
    batch: NDArray[np.int64],
    shares: Mapping[str, Share],
    batch_ids: Mapping[str, Sequence[int]] | None = None,
    max_events: int | None = None,
    seed: int = 0,
) -> Splits:
    """Splits events.

    With `batch_ids`, by them. Otherwise test takes whole files from the end, validation those before, training those
    from the beginning: a share is one of the files (at least one), a number of events as many files as hold them, cut
    to that number by leaving out events evenly. Of two files the second is halved between validation and test. One file
    is split at random, as `JetDataModule` does.

    `max_events` cuts training to so many events: the first files that hold them, and of these events spread evenly.

    Args:
        batch: ``(E,)``, the batch id of each event's file.
        shares: of each split, a number of events or a share.
        batch_ids: of each split.
        max_events: of the training split.
        seed: of the split of one file.

    Raises:
        ConfigurationError: more is asked for than there is.
    """
    ids = np.unique(batch)
    if batch_ids is not None:
        indices = {name: np.flatnonzero(np.isin(batch, batch_ids[name])) for name in SPLITS}
        note = "split by the batch ids given"
    elif len(ids) == 1:
        indices = _at_random(len(batch), shares, seed)
        note = "there is one file, so that its events are split at random"
    else:
        indices, note = _by_files(batch, ids, shares)
    for name, places in indices.items():
        if not len(places):
            raise ConfigurationError(
                f"{_OWNER}: {name}={shares[name]} of {len(batch)} events leaves the split without an event. Allowed: "
                f"at least 1. Raise it."
            )
    indices["train"] = first_events(batch, indices["train"], max_events)
    taken = np.concatenate([indices[name] for name in SPLITS])
    if len(np.unique(taken)) < len(taken):
        raise ConfigurationError(f"{_OWNER}: the splits share events; this is a defect, please report it.")
    return Splits(indices, note)


def first_events(batch: NDArray[np.int64], places: NDArray[np.int64], most: int | None) -> NDArray[np.int64]:
    """At most so many of some events: of the first files that hold them, spread evenly over these.

    Args:
        batch: ``(E,)``, the batch id of each event's file.
        places: ascending, which events.
        most: how many; None is all.
    """
    if most is None or most >= len(places):
        return places
    ids, counts = np.unique(batch[places], return_counts=True)
    needed = int(np.searchsorted(np.cumsum(counts), most)) + 1
    inside = places[np.isin(batch[places], ids[:needed])]
    return np.asarray(inside[np.arange(most) * len(inside) // most])


def _by_files(
    batch: NDArray[np.int64], ids: NDArray[np.int64], shares: Mapping[str, Share]
) -> tuple[dict[str, NDArray[np.int64]], str]:
    n_files = len(ids)
    counts = np.unique(batch, return_counts=True)[1]
    if n_files == 2:
        last = np.flatnonzero(batch == ids[1])
        chosen = {"train": np.flatnonzero(batch == ids[0]), "val": last[::2], "test": last[1::2]}
        note = f"of two files, {ids[0]} is for training, and events of {ids[1]} in turn for validation and test"
    else:
        # from the end: test, then validation; what is left, from the beginning, is training
        n_test = _files_for(shares["test"], counts[::-1], n_files)
        n_val = _files_for(shares["val"], counts[::-1][n_test:], n_files)
        left = n_files - n_test - n_val
        n_train = _files_for(shares["train"], counts[: max(left, 0)], n_files)
        if isinstance(shares["train"], float) and left >= 1:
            # each of three shares may have been rounded up
            n_train = min(n_train, left)
        if n_train > left:
            asked = ", ".join(f"{name}={shares[name]}" for name in SPLITS)
            raise ConfigurationError(
                f"{_OWNER}: {asked} need {n_train} + {n_val} + {n_test} files, but there are {n_files} of "
                f"{int(counts.min())} to {int(counts.max())} events. Ask for less, or name batch ids."
            )
        of = {"train": ids[:n_train], "val": ids[left : left + n_val], "test": ids[left + n_val :]}
        chosen = {name: np.flatnonzero(np.isin(batch, of[name])) for name in SPLITS}
        note = "split by files: " + ", ".join(
            f"{name} {of[name][0]} to {of[name][-1]}" if len(of[name]) > 1 else f"{name} {of[name][0]}"
            for name in SPLITS
        )
    for name, share in shares.items():
        if isinstance(share, int):
            if share > len(chosen[name]):
                raise ConfigurationError(
                    f"{_OWNER}: {name}={share} events, but its files hold {len(chosen[name])}. Ask for fewer."
                )
            chosen[name] = chosen[name][np.arange(share) * len(chosen[name]) // share]
    return chosen, note


def _files_for(share: Share, counts: NDArray[np.int64], n_files: int) -> int:
    """Files that a share of all, or a number of events in files of these sizes, needs."""
    if isinstance(share, float):
        return max(1, round(share * n_files))
    return int(np.searchsorted(np.cumsum(counts), share)) + 1


def _at_random(n_events: int, shares: Mapping[str, Share], seed: int) -> dict[str, NDArray[np.int64]]:
    # round before the floor: 0.15 * 1000 is 150, whatever binary fractions say
    counts = {k: s if isinstance(s, int) else int(round(s * n_events, 6)) for k, s in shares.items()}
    if (total := sum(counts.values())) > n_events:
        asked = ", ".join(f"{name}={share} ({counts[name]} events)" for name, share in shares.items())
        raise ConfigurationError(f"{_OWNER}: {asked} need {total} events, but there are {n_events}. Ask for fewer.")
    order = np.random.Generator(np.random.PCG64(seed)).permutation(n_events)
    first_test = n_events - counts["test"]
    first_val = first_test - counts["val"]
    parts = {"train": order[: counts["train"]], "val": order[first_val:first_test], "test": order[first_test:]}
    return {name: np.sort(places) for name, places in parts.items()}
