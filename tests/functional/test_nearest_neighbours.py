from __future__ import annotations

import math
from collections import defaultdict

import pytest
import torch

from stablelit.errors import ConfigurationError
from stablelit.functional.nearest_neighbours import chance_of_vote, weighted_vote


def drawn(n, d=4, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


BANK, QUERY = drawn(30), drawn(17, seed=1)
LABELS = torch.randint(-1, 4, (30,), generator=torch.Generator().manual_seed(2)) * 10


def elected(query, bank, labels, k, temperature, myself=None):
    """The vote by loops over rows, in double."""
    scored = []
    for i, (row, label) in enumerate(zip(bank.double(), labels.tolist(), strict=True)):
        if label >= 0 and i != myself:
            q = query.double()
            scored.append((float(q @ row) / math.sqrt(float(q @ q) * float(row @ row)), label))
    votes = defaultdict(float)
    for cosine, label in sorted(scored, reverse=True)[:k]:
        votes[label] += math.exp(cosine / temperature)
    return max(votes, key=votes.get)


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (5, 0.07), (5, 10.0), (100, 0.5)])
def test_the_vote_is_that_of_loops(k, temperature):
    expected = [elected(q, BANK, LABELS, k, temperature) for q in QUERY]
    assert weighted_vote(QUERY, BANK, LABELS, k, temperature).tolist() == expected
    assert len(set(expected)) > 1


def test_the_weights_matter():
    assert weighted_vote(QUERY, BANK, LABELS, 9, 0.02).tolist() != weighted_vote(QUERY, BANK, LABELS, 9, 100.0).tolist()


@pytest.mark.parametrize("chunk_size", [1, 7, 1000])
def test_leaving_one_out_is_asking_the_others_in_chunks_of_any_size(chunk_size):
    expected = [elected(q, BANK, LABELS, 5, 0.07, myself=i) for i, q in enumerate(BANK)]
    assert weighted_vote(BANK, BANK, LABELS, 5, leave_one_out=True, chunk_size=chunk_size).tolist() == expected


def test_a_small_temperature_does_not_overflow():
    voted = weighted_vote(QUERY, BANK, LABELS, 20, temperature=1e-4)
    assert voted.tolist() == weighted_vote(QUERY, BANK, LABELS, 1).tolist()


def test_a_bank_that_knows_nothing_elects_nobody():
    assert weighted_vote(QUERY, BANK, torch.full((30,), -1)).tolist() == [-1] * 17


def test_chance_is_the_score_of_a_random_row():
    asked = torch.tensor([0, 0, 1, 5, -1])
    pairs = [float(a == b) for a in asked[asked >= 0] for b in LABELS[LABELS >= 0]]
    assert float(chance_of_vote(asked, LABELS)) == pytest.approx(sum(pairs) / len(pairs))
    known = LABELS[LABELS >= 0].tolist()
    others = [float(a == b) for i, a in enumerate(known) for j, b in enumerate(known) if i != j]
    assert float(chance_of_vote(LABELS, LABELS, leave_one_out=True)) == pytest.approx(sum(others) / len(others))


def test_of_classes_of_one_size_chance_is_one_of_their_number():
    labels = torch.arange(6).repeat(4)
    assert float(chance_of_vote(labels, labels.repeat(3))) == pytest.approx(1 / 6)


def test_without_a_known_label_there_is_no_chance():
    assert chance_of_vote(torch.tensor([-1]), LABELS).isnan()
    assert chance_of_vote(torch.tensor([3]), torch.tensor([3]), leave_one_out=True).isnan()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k=0 is not allowed"),
        ({"temperature": 0.0}, "temperature=0.0 is not allowed"),
        ({"bank": drawn(30, 3)}, r"'\(17, 4\) and \(30, 3\)' is not allowed"),
        ({"bank_labels": LABELS[:9]}, r"one label for each of 30 rows"),
        ({"bank": BANK[:0], "bank_labels": LABELS[:0]}, "'0 rows' is not allowed. Allowed: at least 1"),
        ({"leave_one_out": True}, "'17 rows' is not allowed. Allowed: the bank's 30 rows"),
    ],
)
def test_what_cannot_be_is_refused(change, message):
    with pytest.raises(ConfigurationError, match=message):
        weighted_vote(**{"query": QUERY, "bank": BANK, "bank_labels": LABELS, **change})
