"""What an evaluation says: numbers beside what needs no model, and findings where they contradict each other."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from stablelit.families.proteins.evaluation import BoundEvaluation
from stablelit.families.proteins.scoring import SequenceBound


def data(unigram=None, entropy=None, truth=None):
    share = torch.full((20,), 0.05, dtype=torch.float64) if unigram is None else unigram
    return SimpleNamespace(unigram=lambda: share, entropy=entropy, true_nll=lambda split: truth)


def evaluated(nats, source, excess=None, length=10):
    evaluation = BoundEvaluation()
    evaluation.begin(source, "val")
    tokens = torch.randint(20, (len(nats), length), generator=torch.Generator().manual_seed(0))
    batch = {"tokens": tokens, "loss_mask": torch.ones_like(tokens, dtype=torch.bool)}
    evaluation.add(batch, torch.tensor(nats), excess)
    drawn = SequenceBound(torch.tensor(nats), torch.tensor(nats) / 2, torch.full((len(nats),), length // 2))
    evaluation.add_masked(batch["loss_mask"], drawn)
    return evaluation, evaluation.finish()


def test_scores_stand_beside_what_needs_no_model():
    _, scores = evaluated([24.0, 26.0, 25.0], data(entropy=2.3, truth=2.4), torch.tensor([1.0, 2.0, 3.0]))
    assert scores["nll"].item() == pytest.approx(2.5)
    assert scores["nll_baseline"].item() == pytest.approx(math.log(20))
    assert scores["gap_to_unigram"].item() == pytest.approx(math.log(20) - 2.5)
    assert scores["gap_to_truth"].item() == pytest.approx(0.1)
    assert scores["entropy"].item() == pytest.approx(2.3)
    assert scores["score_excess"].item() == pytest.approx(0.2)
    assert scores["perplexity"].item() == pytest.approx(math.exp(2.5))
    # half of each sequence was masked
    assert scores["ce_mask_50"].item() == pytest.approx(75 / 2 / 15)
    assert scores["ce_mask_30"].isnan()


def test_what_is_not_known_is_not_said():
    _, scores = evaluated([24.0, 26.0], data())
    assert not {"entropy", "nll_truth", "gap_to_truth", "score_excess"} & set(scores)


@pytest.mark.parametrize(
    ("nats", "truth", "names"),
    [
        ([24.0, 26.0, 25.0], 2.4, []),
        ([31.0, 31.2, 30.8], 2.4, ["worse-than-unigram"]),
        ([22.0, 22.1, 21.9], 2.4, ["below-the-truth"]),
        ([22.0], 2.4, []),
    ],
)
def test_findings_come_where_numbers_contradict_each_other(nats, truth, names):
    evaluation, _ = evaluated(nats, data(truth=truth))
    assert [finding.name for finding in evaluation.findings] == names


@pytest.mark.filterwarnings("error")
def test_of_a_graph_without_masks_nothing_is_said_by_mask_rate():
    evaluation = BoundEvaluation()
    evaluation.begin(data(), "val")
    mask = torch.ones(2, 10, dtype=torch.bool)
    nats = torch.tensor([24.0, 26.0])
    evaluation.add({"tokens": torch.zeros(2, 10, dtype=torch.long), "loss_mask": mask}, nats)
    evaluation.add_masked(mask, SequenceBound(nats))
    scores = evaluation.finish()
    assert scores["nll"].item() == pytest.approx(2.5)
    assert not [name for name in scores if name.startswith("ce_mask")]
    assert set(evaluation.figures()) == {"residue_frequencies"}


@pytest.mark.slow
def test_an_evaluation_forgets_the_one_before_and_keeps_its_picture():
    evaluation, _ = evaluated([24.0, 26.0], data())
    assert set(evaluation.figures()) == {"residue_frequencies", "cross_entropy_by_mask_rate"}
    evaluation.begin(data(), "val")
    assert evaluation.figures()
    assert evaluation.bound.compute()["nll"].isnan()
