"""The five post-mortems' own numbers as logs: what the doctor says of them, and what it no longer believes.

Between the values that a post-mortem gives, straight lines are drawn; a little noise is added.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

from stablelit.doctor.log_verdict import LogVerdict, judge
from stablelit.findings import Finding
from tests.doctor.log_files import write_csv, write_lines

RISE_OF_THE_LOSS = {"loss-diverges", "learning-rate-too-high", "loss-spike", "loss-oscillates", "curriculum-too-fast"}


def told(verdict: LogVerdict) -> set[str]:
    return {finding.name for finding in verdict.findings}


def noted(verdict: LogVerdict, name: str) -> Finding:
    return next(finding for finding in (*verdict.findings, *verdict.notes) if finding.name == name)


def between(points: dict[int, float], at: np.ndarray, noise: float, seed: int = 0) -> np.ndarray:
    line = np.interp(at, list(points), list(points.values()))
    return line * (1 + noise * np.random.default_rng(seed).standard_normal(len(at)))


# 000: jets


def jets(directory: Path, loss: dict[int, float], kl: dict[int, float], weight: dict[int, float]) -> LogVerdict:
    epochs = np.arange(1, max(loss) + 1)
    columns = [between(loss, epochs, 0.01, 1), between(kl, epochs, 0.01, 2), between(weight, epochs, 0.0)]
    rows = [
        {"epoch": e, "step": 50 * e, "Loss/train_total": a, "Loss/train_kl": b, "KL/weight": c}
        for e, a, b, c in zip(epochs.tolist(), *(column.tolist() for column in columns), strict=True)
    ]
    return judge(write_csv(directory, rows, latent_dim=128, batch_size=4, lr=1e-4))


KL_OF_73 = {1: 5.0, 23: 8.19, 89: 12.9, 108: 42.8, 193: 72.9, 200: 73.0}
WEIGHT = {1: 0.0, 50: 1e-3, 200: 1e-3}


def test_a_kl_of_73_in_128_dimensions_is_no_explosion(tmp_path):
    loss = {1: 1000.0, 50: 700.0, 100: 500.0, 200: 400.0}
    verdict = jets(tmp_path, loss, KL_OF_73, WEIGHT)
    assert told(verdict) == set()
    note = noted(verdict, "kl-weight-too-small")
    assert note.evidence["kl_per_dim"] == pytest.approx(73 / 128, rel=0.03)
    assert re.search(r"0\.5[67] nats in each of 128 dimensions", note.message)
    # the smaller weight and cap that the post-mortem gave would have let it rise further
    assert "A smaller one would let it rise further" in note.message
    assert "a larger weight" in note.remedy


def test_a_loss_that_rose_from_8e8_to_10e8_did_not_do_so_by_its_kl(tmp_path):
    verdict = jets(tmp_path, {1: 8.18e8, 100: 8.46e8, 200: 9.89e8}, KL_OF_73, WEIGHT)
    finding = verdict.findings[0]
    assert (finding.name, finding.severity) == ("kl-weight-too-small", "warning")
    assert finding.evidence["share"] < 1e-9
    assert "average the reconstruction over what it sums" in finding.remedy


def test_what_the_post_mortem_hoped_for_is_healthy(tmp_path):
    loss = {1: 1000.0, 50: 500.0, 100: 200.0, 150: 150.0, 200: 120.0, 300: 100.0}
    kl = {1: 5.0, 50: 8.0, 100: 10.0, 150: 10.5, 200: 10.8, 300: 11.0}
    verdict = jets(tmp_path, loss, kl, {1: 1e-5, 50: 5e-5, 100: 1e-4, 300: 1e-4})
    assert told(verdict) == set()


def test_a_kl_above_20_alone_is_no_alarm(tmp_path):
    loss = {1: 1000.0, 50: 500.0, 100: 200.0, 150: 150.0, 200: 120.0, 300: 100.0}
    verdict = jets(tmp_path, loss, {1: 5.0, 100: 25.0, 300: 27.0}, {1: 1e-5, 50: 5e-5, 100: 1e-4, 300: 1e-4})
    assert told(verdict) == set()


# 001: score entropy under a curriculum

BEFORE = {0: 0.2584, 500: 0.7816, 1000: 1.1741, 2500: 2.0618, 5000: 2.3268}
STABLE = {0: 0.3, 5000: 0.8, 10_000: 1.2, 15_000: 1.5, 20_000: 1.8, 25_000: 1.6, 50_000: 1.2}


def proteins(directory: Path, loss: dict[int, float], ramp: int, validation: dict[int, float]) -> LogVerdict:
    last, every = max(loss), max(loss) // 200
    steps = np.arange(0, last + 1, every)
    values = between(loss, steps, 0.02)
    rows: list[dict[str, object]] = [
        {"step": s, "train_loss": v, "curriculum/difficulty": min(1.0, s / ramp)}
        for s, v in zip(steps.tolist(), values.tolist(), strict=True)
    ]
    rows.extend({"step": step, "val_loss": value} for step, value in validation.items())
    return judge(write_csv(directory, rows, lr=1e-4, batch_size=32))


def test_a_loss_that_rises_with_the_difficulty_does_not_diverge(tmp_path):
    verdict = proteins(tmp_path, BEFORE, 5000, {})
    assert told(verdict) & RISE_OF_THE_LOSS == set()


def test_the_untrained_model_at_full_difficulty_decides(tmp_path):
    verdict = proteins(tmp_path, BEFORE, 5000, {0: 2.2315})
    assert told(verdict) == {"curriculum-too-fast"}
    assert noted(verdict, "curriculum-too-fast").evidence["untrained"] == 2.2315


def test_the_slow_curriculum_is_healthy(tmp_path):
    validation = {0: 2.2315, 10_000: 2.0, 20_000: 1.8, 30_000: 1.5, 50_000: 1.25}
    assert told(proteins(tmp_path, STABLE, 20_000, validation)) == set()


# 002: causal graphs


def causal(directory: Path, edges: int = 0, shd: float = 27.0, truth: int = 13, threshold: float = 0.0) -> LogVerdict:
    loss = {1: 0.11, 2: 0.06, 5: 0.006, 20: 0.003}
    clip = {1: 0.964, 2: 0.388, 3: 0.04, 4: 0.007, 5: 0.002, 20: 0.001}
    epochs = np.arange(1, 21)
    rows = [
        {
            "epoch": e, "train_loss": a, "val_f1": 0.069, "val_shd": shd, "edge_count": edges,
            "grad_clip_ratio": c, "learning_rate": 5e-4, "best_threshold": threshold, "epoch_time": 13.94,
        }
        for e, a, c in zip(
            epochs.tolist(), between(loss, epochs, 0.01).tolist(), between(clip, epochs, 0.0).tolist(), strict=True
        )
    ]  # fmt: skip
    write_lines(directory, [{**row} for row in rows])
    return judge(write_csv(directory, [], name="unused.csv", true_edges=truth, lambda_sparse=1e-4))


def test_an_empty_graph_is_named_and_its_consequences_are_not(tmp_path):
    verdict = causal(tmp_path)
    assert told(verdict) == {"graph-empty"}
    assert {finding.name for finding in verdict.consequences} == {
        "worse-than-empty-graph", "threshold-at-the-grids-end",
    }  # fmt: skip
    finding = noted(verdict, "graph-empty")
    assert finding.remedy.startswith("lambda_sparse=1e-05")
    # an F1 above 0 cannot be that of no edges: it was measured at another threshold
    assert "An F1 of 0.069 beside it belongs to another threshold" in finding.message


def test_a_distance_of_27_with_13_true_edges_is_worse_than_nothing(tmp_path):
    verdict = causal(tmp_path, edges=16, threshold=0.2)
    assert told(verdict) == {"worse-than-empty-graph"}
    assert noted(verdict, "worse-than-empty-graph").evidence == {
        "shd": 27.0,
        "best": 27.0,
        "empty": 13.0,
        "evaluations": 5,
    }


def test_a_graph_that_beats_the_empty_one_is_healthy(tmp_path):
    assert told(causal(tmp_path, edges=12, shd=6.0, threshold=0.3)) == set()


def test_a_clip_ratio_that_falls_from_96_percent_is_no_alarm(tmp_path):
    assert not [name for name in told(causal(tmp_path, 12, 6.0, threshold=0.3)) if name.startswith("clip")]


def test_the_best_threshold_at_the_end_of_its_grid_is_named(tmp_path):
    assert told(causal(tmp_path, edges=14, shd=10.0, threshold=0.0)) == {"threshold-at-the-grids-end"}


# 003: contrastive sketches


def sketches(directory: Path, loss: dict[int, float], batch: int, noise: float = 0.0005, **more: object) -> LogVerdict:
    epochs = np.arange(1, max(loss) + 1)
    rows = [
        {"epoch": e, "train_loss": v}
        for e, v in zip(epochs.tolist(), between(loss, epochs, noise).tolist(), strict=True)
    ]
    return judge(write_csv(directory, rows, batch_size=batch, lr=1e-3, **more))


def test_a_constant_4_14_with_32_pairs_is_chance(tmp_path):
    verdict = sketches(tmp_path, {1: 4.14, 100: 4.14}, 32, temperature=0.5)
    assert [finding.name for finding in verdict.findings] == ["contrastive-at-chance"]
    finding = verdict.findings[0]
    assert finding.evidence["chance"] == pytest.approx(math.log(63))
    assert "no batch size and no temperature mends this" in finding.remedy


def test_it_is_chance_without_a_word_that_says_contrastive(tmp_path):
    assert "contrastive-at-chance" in told(sketches(tmp_path, {1: 4.143, 100: 4.143}, 32))


@pytest.mark.parametrize("name", ["simclr", "moco", "NT-Xent", "InfoNCE"])
def test_words_that_say_contrastive_are_known(tmp_path, name):
    assert "contrastive-at-chance" in told(sketches(tmp_path, {1: 4.10, 100: 4.10}, 32, ssl_method=name))


def test_the_same_number_at_another_batch_is_no_chance_level(tmp_path):
    assert "contrastive-at-chance" not in told(sketches(tmp_path, {1: 4.14, 100: 4.14}, 128, temperature=0.5))


def test_what_the_post_mortem_hoped_for_learns(tmp_path):
    loss = {1: 5.54, 10: 5.0, 50: 3.6, 100: 3.2}
    assert told(sketches(tmp_path, loss, 128, noise=0.005, temperature=0.07)) == set()


# 004: neutrinos


def test_a_loss_that_falls_from_chance_is_healthy(tmp_path):
    """1.48 to 0.12 rad over 500 steps of one batch; chance of two directions is pi/2."""
    steps = np.arange(500)
    loss = 0.12 + 1.36 * np.exp(-steps / 90) * (1 + 0.02 * np.random.default_rng(0).standard_normal(500))
    rows = [{"step": s, "loss": v} for s, v in zip(steps.tolist(), loss.tolist(), strict=True)]
    assert told(judge(write_csv(tmp_path, rows, batch_size=256))) == set()
