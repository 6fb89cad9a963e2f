"""Which classes, or which sketches, are for training, validation and test.

By classes, no class is on two sides: what few-shot recognition is measured on. The order in which they are dealt out
depends on their names alone, so that it is the same on every machine and for every order of the files. By samples,
every class is on all sides.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from stablelit.errors import ConfigurationError, bad_argument, did_you_mean

SPLITS = ("train", "val", "test")
_OWNER = "SketchDataModule"

Indices = NDArray[np.int64]
Three = tuple[Indices, Indices, Indices]
Part = int | float | Sequence[str]


def class_disjoint(
    classes: Sequence[str],
    groups: Sequence[str] | None = None,
    train: Part = 0.6,
    val: Part = 0.2,
    test: Part = 0.2,
    by: str = "class",
) -> Three:
    """Splits classes: none is in two parts, and with ``by="group"`` no group either.

    Classes (or groups) are ordered by the SHA-1 of their names. Training takes those from the beginning, test those
    from the end, validation those before test. All three are numbers, or all three are names.

    Args:
        classes: their names, each once.
        groups: of each class the name of what it belongs to, such as an alphabet.
        train: a share (a float), a number of classes (an int), or names of classes or groups; with ``by="group"``
            shares and numbers are of groups.
        val: likewise; 0 leaves it empty.
        test: likewise.
        by: what is kept together, "class" or "group".

    Returns:
        The places in `classes` of the training, validation and test classes, each ascending.

    Raises:
        ConfigurationError: shares above 1 in all, more classes than there are, an unknown name, a class or group in two
            parts, a part that was asked for and gets none.

    >>> [part.tolist() for part in class_disjoint(["cat", "dog", "cow", "hen", "pig"])]
    [[0, 2, 4], [3], [1]]
    """
    _check_classes(classes, groups, by)
    parts = dict(zip(SPLITS, (train, val, test), strict=True))
    named = [name for name, part in parts.items() if not isinstance(part, int | float)]
    if 0 < len(named) < len(SPLITS):
        number = next(name for name in SPLITS if name not in named)
        raise bad_argument(
            _OWNER, number, parts[number], f"names, since {named[0]} is given by names", "An empty list is none."
        )
    if named:
        chosen = {name: _named(name, part, classes, groups, by) for name, part in parts.items()}
    else:
        units = classes if by == "class" else groups
        assert units is not None
        distinct = sorted(set(units), key=lambda unit: hashlib.sha1(unit.encode()).hexdigest())
        counts = _counts(parts, len(distinct), "classes" if by == "class" else "groups")
        first_test = len(distinct) - counts["test"]
        dealt = {
            "train": set(distinct[: counts["train"]]),
            "val": set(distinct[first_test - counts["val"] : first_test]),
            "test": set(distinct[first_test:]),
        }
        chosen = {name: [i for i, unit in enumerate(units) if unit in some] for name, some in dealt.items()}
    _check_disjoint(chosen, classes, groups if by == "group" else None)
    train_classes, val_classes, test_classes = (np.array(sorted(chosen[name]), dtype=np.int64) for name in SPLITS)
    return train_classes, val_classes, test_classes


def stratified(labels: NDArray[np.int64], shares: Mapping[str, Part], seed: int = 0) -> Three:
    """Splits samples at random, every class in every part, and in each as large a share as in all.

    Args:
        labels: ``(n,)``; samples of -1 are split as one more class.
        shares: of "train", "val" and "test": shares (floats; at least one sample of each class) or numbers of
            samples (ints); 0 leaves a part empty.
        seed: of the choice. What is chosen of a class does not depend on how other samples are ordered.

    Returns:
        The places of the training, validation and test samples, each ascending.

    Raises:
        ConfigurationError: as `class_disjoint`, and classes with fewer samples than there are parts.
    """
    if set(shares) != set(SPLITS):
        raise bad_argument(_OWNER, "shares", dict(shares), f"one for each of {', '.join(SPLITS)}")
    for name, part in shares.items():
        if not isinstance(part, int | float):
            raise bad_argument(_OWNER, name, part, "a share or a number of samples", "Names need data.split=class.")
    kinds, sizes = np.unique(labels, return_counts=True)
    used = [name for name in SPLITS if shares[name]]
    if len(few := np.flatnonzero(sizes < len(used))):
        shown = ", ".join(f"{kinds[i]} ({sizes[i]})" for i in few[:3])
        raise ConfigurationError(
            f"{_OWNER}: {len(few)} classes have fewer than {len(used)} samples, so that they cannot be in each of "
            f"{', '.join(used)}: labels {shown}. Leave them out, or set a share to 0."
        )
    totals = _counts({name: shares[name] for name in SPLITS}, len(labels), "samples", least=len(kinds))
    orders = [
        rng.permutation(np.flatnonzero(labels == kind))
        for kind, rng in ((kind, np.random.default_rng([seed, int(kind) + 1])) for kind in kinds)
    ]
    chosen: dict[str, Indices] = {}
    begin, left = np.zeros_like(sizes), sizes.copy()
    for k, name in enumerate(used):
        # as many must stay as there are parts to come
        taken = _spread(totals[name], left, len(used) - k - 1, name)
        chosen[name] = np.sort(np.concatenate([o[b : b + t] for o, b, t in zip(orders, begin, taken, strict=True)]))
        begin, left = begin + taken, left - taken
    train, val, test = (chosen.get(name, np.zeros(0, dtype=np.int64)) for name in SPLITS)
    return train, val, test


def _spread(total: int, sizes: Indices, spare: int, name: str) -> Indices:
    """So many of classes of these sizes, in proportion, at least one of each and at most all but `spare`."""
    if total < len(sizes):
        raise ConfigurationError(
            f"{_OWNER}: {name} has {total} samples and there are {len(sizes)} classes. Allowed: one of each at least."
        )
    exact = sizes * (total / sizes.sum())
    taken: Indices = np.clip(np.floor(exact + 1e-9).astype(np.int64), 1, sizes - spare)
    # what is missing goes to (what is too much comes from) those that are furthest from their share
    while (missing := total - int(taken.sum())) != 0:
        step = 1 if missing > 0 else -1
        may = taken < sizes - spare if step > 0 else taken > 1
        if not may.any():
            break
        places = np.flatnonzero(may)
        places = places[np.argsort(-step * (exact - taken)[places], kind="stable")][: abs(missing)]
        taken[places] += step
    return taken


def _counts(parts: Mapping[str, Part], n: int, of: str, least: int = 1) -> dict[str, int]:
    """How many of n each part gets: a share is rounded, to `least` or more, and shares of 1 in all leave none over."""
    for name, part in parts.items():
        is_count = isinstance(part, int) and not isinstance(part, bool) and part >= 0
        if not (is_count or (isinstance(part, float) and 0 <= part <= 1)):
            raise bad_argument(_OWNER, name, part, f"an int of 0 or more ({of}) or a float from 0 to 1 (a share)")
    shares = {name: part for name, part in parts.items() if isinstance(part, float)}
    if (total := sum(shares.values())) > 1 + 1e-9:
        raise ConfigurationError(
            f"{_OWNER}: {', '.join(shares)} are shares that add up to {total:g}. Allowed: at most 1."
        )
    counts = {name: max(least, round(part * n)) if shares.get(name) else int(part) for name, part in parts.items()}  # type: ignore[arg-type, operator]
    over = sum(counts.values()) - n
    if total > 1 - 1e-9 and shares.get("train"):
        counts["train"] += max(0, -over)
    if len(shares) == len(parts) or over <= len(shares):
        # shares were rounded up: the largest gives
        for name in sorted(shares, key=lambda share: -counts[share]):
            given = max(0, min(over, counts[name] - least))
            counts[name], over = counts[name] - given, over - given
    if over > 0:
        asked = ", ".join(f"{name}={part}" for name, part in parts.items())
        raise ConfigurationError(
            f"{_OWNER}: {asked} need {sum(counts.values())} {of}, but there are {n}. Ask for fewer, or for shares."
        )
    if not counts["train"]:
        raise ConfigurationError(f"{_OWNER}: train={parts['train']} of {n} {of} is none. Allowed: at least one.")
    return counts


def _named(name: str, part: Part, classes: Sequence[str], groups: Sequence[str] | None, by: str) -> list[int]:
    names = [part] if isinstance(part, str) else part
    if not isinstance(names, Sequence) or not all(isinstance(n, str) for n in names):
        raise bad_argument(_OWNER, name, part, "a share, a number of classes, or a list of names of classes or groups")
    place = {class_name: i for i, class_name in enumerate(classes)}
    chosen: list[int] = []
    for wanted in names:
        members = [i for i, group in enumerate(groups or ()) if group == wanted]
        # where something is both, what is kept together is meant
        if wanted in place and not (members and by == "group"):
            members = [place[wanted]]
        if not members:
            known = [*classes, *sorted(set(groups or ()))]
            raise ConfigurationError(
                f"{_OWNER}: {name} names {wanted!r}, and there is no such class{' or group' * (groups is not None)}. "
                f"{did_you_mean(wanted, known) or 'There are ' + ', '.join(known[:5]) + ', ...'}"
            )
        chosen += members
    return sorted(set(chosen))


def _check_classes(classes: Sequence[str], groups: Sequence[str] | None, by: str) -> None:
    if by not in ("class", "group"):
        raise bad_argument(_OWNER, "split", by, "class, group", did_you_mean(str(by), ("class", "group")))
    if not classes:
        raise ConfigurationError(
            f"{_OWNER}: there are no classes to split by. Give sketches in class folders, "
            f"or split without them: data.split=samples."
        )
    if twice := [name for name, count in Counter(classes).items() if count > 1]:
        raise ConfigurationError(f"{_OWNER}: the class {twice[0]!r} is there twice. Allowed: every name once.")
    if groups is None and by == "group":
        raise ConfigurationError(f"{_OWNER}: split=group, and these classes have no groups. Allowed: split=class.")
    if groups is not None and len(groups) != len(classes):
        raise ConfigurationError(f"{_OWNER}: {len(classes)} classes and {len(groups)} groups. Allowed: one each.")


def _check_disjoint(chosen: Mapping[str, Sequence[int]], classes: Sequence[str], groups: Sequence[str] | None) -> None:
    kinds = [("class", classes)] if groups is None else [("class", classes), ("group", groups)]
    for kind, names in kinds:
        seen: dict[str, str] = {}
        for split in SPLITS:
            for name in {names[i] for i in chosen[split]}:
                if (other := seen.setdefault(name, split)) != split:
                    raise ConfigurationError(
                        f"{_OWNER}: the {kind} {name!r} is in {other} and in {split}. Allowed: one part a {kind}; "
                        f"otherwise what is tested has been trained on."
                    )
