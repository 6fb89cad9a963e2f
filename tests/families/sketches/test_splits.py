from __future__ import annotations

import hashlib

import numpy as np
import pytest

from stablelit.errors import ConfigurationError
from stablelit.families.sketches.splits import class_disjoint, stratified

NAMES = [f"class {i}" for i in range(50)]
ALPHABETS = {"Greek": 24, "Latin": 26, "Korean": 40, "Tagalog": 17, "Balinese": 24}
CHARACTERS = [f"{a}/character{i:02d}" for a, n in sorted(ALPHABETS.items()) for i in range(1, n + 1)]
GROUPS = [name.split("/")[0] for name in CHARACTERS]
SHARES = {"train": 0.6, "val": 0.2, "test": 0.2}


def names_of(parts, classes):
    return [{classes[i] for i in part} for part in parts]


def test_training_classes_come_first_in_the_order_of_their_sha1_and_test_classes_last():
    order = sorted(NAMES, key=lambda name: hashlib.sha1(name.encode()).hexdigest())
    train, val, test = names_of(class_disjoint(NAMES, train=0.5, val=0.1, test=0.2), NAMES)
    assert (train, val, test) == (set(order[:25]), set(order[35:40]), set(order[40:]))


def test_the_order_of_the_classes_does_not_matter():
    turned = NAMES[::-1]
    assert names_of(class_disjoint(turned), turned) == names_of(class_disjoint(NAMES), NAMES)


@pytest.mark.parametrize("n", range(3, 40))
def test_shares_of_one_leave_no_class_over_and_no_part_empty(n):
    parts = class_disjoint(NAMES[:n])
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(n))
    assert all(len(part) >= 1 for part in parts)
    assert all((np.diff(part) > 0).all() for part in parts)


def test_counts_are_taken_as_they_are():
    classes = [f"{i}" for i in range(250)]
    assert [len(part) for part in class_disjoint(classes, None, 150, 50, 50)] == [150, 50, 50]
    assert [len(part) for part in class_disjoint(classes, None, 10, 0, 20)] == [10, 0, 20]
    assert [len(part) for part in class_disjoint(classes, None, 0.5, 100, 20)] == [125, 100, 20]


def test_whole_groups_are_dealt_out():
    parts = class_disjoint(CHARACTERS, GROUPS, by="group")
    alphabets = [{GROUPS[i] for i in part} for part in parts]
    assert [len(part) for part in alphabets] == [3, 1, 1]
    assert set.union(*alphabets) == set(ALPHABETS)
    assert [len(part) for part in parts] == [sum(ALPHABETS[a] for a in part) for part in alphabets]


def test_classes_and_groups_can_be_named():
    train, val, test = class_disjoint(CHARACTERS, GROUPS, ["Greek", "Latin"], "Korean/character03", ["Tagalog"])
    assert {GROUPS[i] for i in train} == {"Greek", "Latin"}
    assert len(train) == 50
    assert [CHARACTERS[i] for i in val] == ["Korean/character03"]
    assert len(test) == ALPHABETS["Tagalog"]


@pytest.mark.parametrize(("by", "expected"), [("class", [[0], [2], [3]]), ("group", [[0, 1], [2], [3]])])
def test_a_name_of_both_a_class_and_a_group_is_what_is_kept_together(by, expected):
    classes, groups = ["Greek", "alpha", "aleph", "ka"], ["Greek", "Greek", "Hebrew", "Katakana"]
    parts = class_disjoint(classes, groups, ["Greek"], ["aleph"], ["ka"], by=by)
    assert [part.tolist() for part in parts] == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train": 0.8, "val": 0.2, "test": 0.2}, "train, val, test are shares that add up to 1.2. Allowed: at most 1"),
        ({"train": 30, "val": 10, "test": 20}, "train=30, val=10, test=20 need 60 classes, but there are 50"),
        ({"train": 0.9, "val": 10, "test": 5}, "need 60 classes, but there are 50"),
        ({"train": 0, "val": 10, "test": 5}, "train=0 of 50 classes is none"),
        ({"train": -0.1}, "train=-0.1 is not allowed. Allowed: an int of 0 or more (classes) or a float from 0 to 1"),
        ({"val": True}, "val=True is not allowed"),
        ({"test": float("nan")}, "test=nan is not allowed"),
        ({"train": ["class 1"], "val": ["class 2"]}, "test=0.2 is not allowed. Allowed: names, since train is given"),
        (
            {"train": ["class 1"], "val": ["clas 2"], "test": []},
            "val names 'clas 2', and there is no such class. Did you mean 'class 2'",
        ),
        (
            {"train": ["class 1", "class 2"], "val": ["class 2"], "test": []},
            "the class 'class 2' is in train and in val. Allowed: one part a class",
        ),
        ({"train": [1, 2], "val": [], "test": []}, "train=[1, 2] is not allowed"),
        ({"by": "groups"}, "split='groups' is not allowed. Allowed: class, group. Did you mean 'group'"),
        ({"by": "group"}, "split=group, and these classes have no groups"),
    ],
)
def test_what_cannot_be_split_is_said(arguments, message):
    with pytest.raises(ConfigurationError) as error:
        class_disjoint(NAMES, **arguments)
    assert message in str(error.value)


def test_a_group_that_names_would_split_is_said_where_groups_are_kept_together():
    named = {"train": ["Greek"], "val": ["Latin/character01"], "test": ["Latin/character02"]}
    assert [len(part) for part in class_disjoint(CHARACTERS, GROUPS, **named)] == [24, 1, 1]
    with pytest.raises(ConfigurationError, match="the group 'Latin' is in val and in test"):
        class_disjoint(CHARACTERS, GROUPS, **named, by="group")


@pytest.mark.parametrize(
    ("classes", "groups", "message"),
    [
        ([], None, "there are no classes"),
        (["a", "b", "a"], None, "the class 'a' is there twice"),
        (["a", "b"], ["x"], "2 classes and 1 groups"),
        (["a", "b"], None, "need 3 classes, but there are 2"),
    ],
)
def test_classes_that_cannot_be_split_are_said(classes, groups, message):
    with pytest.raises(ConfigurationError, match=message):
        class_disjoint(classes, groups)


LABELS = np.random.default_rng(3).permutation(np.repeat(np.arange(8), [3, 3, 4, 7, 20, 21, 40, 100]))


@pytest.mark.parametrize(
    "shares", [SHARES, {"train": 0.1, "val": 0.45, "test": 0.45}, {"train": 100, "val": 30, "test": 9}]
)
def test_every_class_is_in_every_part_and_no_sample_in_two(shares):
    parts = stratified(LABELS, shares, seed=1)
    assert all(set(LABELS[part]) == set(range(8)) for part in parts)
    together = np.concatenate(parts)
    assert len(np.unique(together)) == len(together)
    if isinstance(shares["train"], int):
        assert [len(part) for part in parts] == [100, 30, 9]
    else:
        assert len(together) == len(LABELS)


def test_a_class_has_the_share_of_all_in_each_part_to_a_sample():
    for part, share in zip(stratified(LABELS, SHARES), SHARES.values(), strict=True):
        counts = np.bincount(LABELS[part], minlength=8)
        wanted = np.maximum(1, share * np.bincount(LABELS))
        assert (np.abs(counts - wanted) <= 1.5).all()


def test_a_balanced_set_is_split_exactly():
    labels = np.repeat(np.arange(100), 20)
    for part, count in zip(stratified(labels, SHARES), (12, 4, 4), strict=True):
        assert (np.bincount(labels[part]) == count).all()


def test_a_share_of_less_than_a_sample_of_each_class_is_one_of_each():
    labels = np.repeat(np.arange(30), 4)
    parts = stratified(labels, {"train": 0.8, "val": 0.1, "test": 0.1})
    assert [np.bincount(labels[part]).tolist() for part in parts] == [[2] * 30, [1] * 30, [1] * 30]


def test_the_seed_is_all_that_chance_depends_on():
    one, same, other = (stratified(LABELS, SHARES, seed)[0] for seed in (0, 0, 1))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_samples_without_a_class_are_split_too():
    parts = stratified(np.full(100, -1), SHARES)
    assert [len(part) for part in parts] == [60, 20, 20]


def test_a_part_can_be_left_empty():
    assert [len(part) for part in stratified(np.zeros(10, dtype=int), {"train": 0.5, "val": 0, "test": 0.5})] == [
        5,
        0,
        5,
    ]


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"train": 0.9, "val": 0.2, "test": 0.2}, "add up to 1.3"),
        ({"train": 150, "val": 40, "test": 30}, "need 220 samples, but there are 198"),
        ({"train": 100, "val": 5, "test": 50}, "val has 5 samples and there are 8 classes"),
        ({"train": ["a"], "val": 0.1, "test": 0.1}, "Names need data.split=class"),
        ({"train": 0.9}, "one for each of train, val, test"),
    ],
)
def test_shares_of_samples_that_cannot_be_are_said(shares, message):
    with pytest.raises(ConfigurationError, match=message):
        stratified(LABELS, shares)


def test_classes_too_small_for_every_part_are_named():
    with pytest.raises(ConfigurationError, match=r"1 classes have fewer than 3 samples.*labels 1 \(2\)"):
        stratified(np.array([0, 0, 0, 1, 1]), SHARES)
