"""Scores of features, against brute force; and the bank, the untrained twin and the evaluation around them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from stablelit.data import EpisodicSampler
from stablelit.families.sketches import SketchCNN
from stablelit.families.sketches.evaluation import EmbeddingBank, EmbeddingEvaluation
from stablelit.families.sketches.feature_scores import feature_scores, few_shot_accuracies
from stablelit.families.sketches.features import encoded_images
from stablelit.families.sketches.pretrained import untrained_twin


def clusters(n_classes=6, per_class=8, spread=0.1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(n_classes, 12, generator=generator)
    labels = torch.arange(n_classes).repeat_interleave(per_class)
    return centres[labels] + spread * torch.randn(len(labels), 12, generator=generator), labels


def test_few_shot_accuracy_is_that_of_nearest_means_episode_by_episode():
    features, labels = clusters(spread=1.5)
    found = few_shot_accuracies(features, labels, way=3, shot=2, seed=4, episodes=20)
    sampler = EpisodicSampler(labels.numpy(), 3, 2, 6, 20, seed=4, fixed=True)
    for accuracy, episode in zip(found, sampler, strict=True):
        rows = features[episode].view(3, 8, 12)
        right = 0
        for k in range(3):
            for query in rows[k, 2:]:
                distances = [float((query - rows[c, :2].mean(0)).square().sum()) for c in range(3)]
                right += int(np.argmin(distances) == k)
        assert float(accuracy) == pytest.approx(right / 18)


@pytest.mark.slow
def test_rows_that_the_classes_do_not_allow_are_left_out():
    features, labels = clusters(n_classes=4)
    scores = feature_scores(features, labels, [(3, 1), (5, 1), (3, 8)])
    assert {name for name in scores if name.startswith("few_shot")} == {
        "few_shot_3w1s",
        "few_shot_3w1s_interval",
        "few_shot_3w1s_chance",
    }


@pytest.mark.slow
def test_separate_classes_are_told_apart_and_noise_is_at_chance():
    apart = feature_scores(*clusters(spread=0.01), [(5, 1)])
    assert apart["few_shot_5w1s"] == apart["knn_top1"] == apart["linear_top1"] == 1.0
    generator = torch.Generator().manual_seed(1)
    noise, labels = torch.randn(600, 12, generator=generator), torch.arange(6).repeat_interleave(100)
    scores = feature_scores(noise, labels, [(5, 1)])
    for name in ("few_shot_5w1s", "knn_top1", "linear_top1"):
        # three standard errors of 300 judged rows
        assert scores[name] == pytest.approx(scores[f"{name}_chance"], abs=0.07), name
    assert scores["linear_top1_chance"] == pytest.approx(1 / 6)


@pytest.mark.slow
def test_rows_without_a_label_do_not_count():
    features, labels = clusters()
    with_unknown = torch.cat([features, 100 * torch.randn(9, 12)]), torch.cat([labels, torch.full((9,), -1)])
    assert feature_scores(*with_unknown, [(5, 1)]) == feature_scores(features, labels, [(5, 1)])
    assert feature_scores(features, torch.full_like(labels, -1), [(5, 1)]) == {}


def test_a_bank_counts_a_repeated_sketch_once_and_sorts_by_id():
    bank = EmbeddingBank()
    bank.update(torch.tensor([[2.0], [0.0]]), torch.tensor([20, 0]), torch.tensor([2, 0]))
    bank.update(torch.tensor([[1.0], [2.0]]), torch.tensor([10, 20]), torch.tensor([1, 2]))
    features, labels = bank.compute()
    assert features.flatten().tolist() == [0.0, 1.0, 2.0]
    assert labels.tolist() == [0, 10, 20]


def test_features_are_those_of_evaluation_mode_and_the_mode_comes_back():
    encoder = SketchCNN(width=4, n_blocks=2)
    images = torch.rand(300, 1, 16, 16)
    found = encoded_images(encoder, images)
    assert encoder.training
    assert torch.allclose(found, encoder.eval()(images), atol=1e-6)


def test_the_twin_has_new_weights_by_its_seed_alone():
    torch.manual_seed(3)
    encoder = SketchCNN(width=4, n_blocks=2)
    state = torch.get_rng_state()
    one, same, other = untrained_twin(encoder), untrained_twin(encoder), untrained_twin(encoder, seed=5)
    assert torch.equal(torch.get_rng_state(), state)
    first = [next(module.parameters()).flatten() for module in (encoder, one, same, other)]
    assert torch.equal(first[1], first[2])
    for k in (0, 3):
        assert not torch.allclose(first[1], first[k])


def test_the_twin_forgets_what_was_learned_and_takes_statistics_from_the_pictures():
    encoder = SketchCNN(width=4, n_blocks=1)
    for p in encoder.parameters():
        p.data.fill_(7.0)
    for buffer in encoder.buffers():
        buffer.fill_(9)
    images = torch.rand(40, 1, 16, 16)
    twin = untrained_twin(encoder, images=images)
    conv, norm = twin.blocks[0], twin.blocks[1]
    assert not (conv.weight == 7).any()
    expected = conv(images)
    assert torch.allclose(norm.running_mean, expected.mean((0, 2, 3)), atol=1e-6)
    assert torch.allclose(norm.running_var, expected.transpose(0, 1).flatten(1).var(1), rtol=1e-4)
    assert not twin.training


@pytest.mark.slow
def test_an_evaluation_centres_on_training_pictures():
    encoder = nn.Flatten()
    evaluation = EmbeddingEvaluation([(2, 1)])
    evaluation.reset()
    # centred on (4, 0), classes of one direction from the origin are opposite
    training = torch.tensor([4.0, 0.0]).view(1, 1, 1, 2)
    images = torch.tensor([[3.0, 0.0]] * 4 + [[9.0, 0.0]] * 4).view(8, 1, 1, 2)
    batch = {"image": images, "label": torch.tensor([0] * 4 + [1] * 4), "id": torch.arange(8)}

    def scores(training_images):
        evaluation.reset()
        evaluation.compare_with_untrained(encoder, training_images)
        evaluation.add(encoder(images), batch)
        evaluation.add_baselines(batch)
        return evaluation.finish()

    assert scores(training)["few_shot_2w1s"] == 1.0
    # from here both are in one direction, and cannot be told apart
    assert scores(torch.zeros(1, 1, 1, 2))["few_shot_2w1s"] == pytest.approx(0.5)
    assert set(evaluation.figures()) == {"embedding_map"}
    assert evaluation.state_dict() == {}
