from __future__ import annotations

import json
import warnings
from types import SimpleNamespace

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint
from torch.utils.data import DataLoader, TensorDataset

from stablelit.callbacks import FigureWriter, ThresholdSweepValidation
from stablelit.callbacks._threshold_figure import draw_curve
from stablelit.errors import ConfigurationError, ContractError, DataError
from stablelit.findings import FindingError, FindingWarning, read_findings
from stablelit.functional.multilabel_thresholds import in_first_half
from tests.contract.modules import make_trainer

pytestmark = pytest.mark.filterwarnings("ignore")


class Scored(pl.LightningModule):
    """Its data are scores and targets: what it learns does not matter."""

    def __init__(self, keys=("scores", "targets"), buffer=True):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.keys = keys
        if buffer:
            self.register_buffer("decision_threshold", torch.tensor(0.5))

    def training_step(self, batch, batch_idx):
        return self.weight.square()

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.log("val/loss", 1.0, batch_size=1)
        return dict(zip(self.keys, batch, strict=False)) if self.keys else None

    def test_step(self, batch, batch_idx):
        return self.validation_step(batch, batch_idx)

    def predict_step(self, batch, batch_idx):
        return batch[0] >= self.decision_threshold

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class Graph(pl.LightningModule):
    """Learns a graph: nothing but a matrix."""

    def __init__(self, scores, truth=None):
        super().__init__()
        self.scores = torch.nn.Parameter(torch.as_tensor(scores).clone())
        self.truth = truth
        self.decision_threshold = 0.5

    def training_step(self, batch, batch_idx):
        return self.scores.sum()

    def validation_step(self, batch, batch_idx):
        pass

    test_step = validation_step

    def edge_scores(self):
        return self.scores

    def edge_truth(self):
        return self.truth

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.125)


def loader(*tensors, batch_size=7, **kwargs):
    return DataLoader(TensorDataset(*tensors), batch_size=batch_size, **kwargs)


def samples(n=60, seed=0, signal=0.6):
    rng = np.random.default_rng(seed)
    labels = rng.random(n) < 0.3
    return torch.tensor(rng.random(n) + signal * labels, dtype=torch.float32), torch.tensor(labels).long()


def validate(tmp_path, module, data, *callbacks, **kwargs):
    trainer = make_trainer(tmp_path, list(callbacks), **kwargs)
    trainer.validate(module, data, verbose=False)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def f1_at(scores, labels, threshold):
    predicted, labels = scores >= threshold, labels.bool()
    return 2 * float((predicted & labels).sum()) / float(predicted.sum() + labels.sum())


def best_of_all(scores, labels):
    return max(f1_at(scores, labels, t) for t in scores.unique())


def test_it_logs_the_best_of_all_thresholds_and_what_stands_beside_it(tmp_path):
    scores, labels = samples()
    module, callback = Scored(), ThresholdSweepValidation()
    logged = validate(tmp_path, module, loader(scores, labels), callback)
    (threshold,) = callback.thresholds
    assert logged["threshold/oracle_f1"] == pytest.approx(best_of_all(scores, labels))
    assert f1_at(scores, labels, threshold) == pytest.approx(best_of_all(scores, labels))
    assert logged["threshold/best"] == pytest.approx(threshold)
    assert module.decision_threshold.item() == pytest.approx(threshold)
    predicted = scores >= threshold
    assert logged["threshold/precision"] == pytest.approx(labels[predicted].float().mean().item())
    assert logged["threshold/recall"] == pytest.approx(predicted[labels == 1].float().mean().item())
    prevalence = labels.float().mean().item()
    assert logged["threshold/prevalence"] == pytest.approx(prevalence)
    assert logged["threshold/f1_all"] == pytest.approx(2 * prevalence / (1 + prevalence))
    assert logged["threshold/f1_fixed"] == pytest.approx(f1_at(scores, labels, 0.5))
    assert logged["threshold/f1_low"] < logged["threshold/f1"] < logged["threshold/f1_high"]
    assert prevalence < logged["threshold/auprc"] < 1
    assert logged["threshold/f1_null"] < logged["threshold/f1_null_q95"] < logged["threshold/oracle_f1"]


def test_f1_is_cross_fitted_by_sample(tmp_path):
    scores, labels = samples(seed=1)
    logged = validate(tmp_path, Scored(), loader(scores, labels), ThresholdSweepValidation())
    first = torch.from_numpy(in_first_half(np.arange(len(scores))))
    predicted = torch.zeros(len(scores), dtype=torch.bool)
    for fit, judge in ((first, ~first), (~first, first)):
        values = {t: f1_at(scores[fit], labels[fit], t) for t in scores[fit].unique().tolist()}
        best = max(values.values())
        lowest_predicted = max(t for t, v in values.items() if v == best)
        highest_left_out = max(t for t in scores[fit].tolist() if t < lowest_predicted)
        predicted[judge] = scores[judge] >= (lowest_predicted + highest_left_out) / 2
    f1 = 2 * (predicted & labels.bool()).sum() / (predicted.sum() + labels.sum())
    assert logged["threshold/f1"] == pytest.approx(f1.item())
    assert logged["threshold/f1"] < logged["threshold/oracle_f1"]


def test_samples_of_one_group_stay_on_one_side_and_are_drawn_together(tmp_path):
    # each group is one score and one label four times: a sample's own copies would give its label away
    rng = np.random.default_rng(0)
    scores = torch.tensor(rng.random(30), dtype=torch.float32).repeat_interleave(4)
    labels = torch.tensor(rng.random(30) < 0.4).long().repeat_interleave(4)
    group = torch.arange(30).repeat_interleave(4)
    module = Scored(("scores", "targets", "event"))
    grouped = validate(tmp_path, module, loader(scores, labels, group), ThresholdSweepValidation(groups="event"))
    each = validate(tmp_path, Scored(), loader(scores[::4], labels[::4]), ThresholdSweepValidation())
    for name in ("f1", "oracle_f1", "auprc", "f1_low", "f1_high"):
        assert grouped[f"threshold/{name}"] == pytest.approx(each[f"threshold/{name}"], abs=0.02 * ("_" in name[2:]))
    alone = validate(tmp_path, Scored(), loader(scores, labels), ThresholdSweepValidation())
    width = {k: v["threshold/f1_high"] - v["threshold/f1_low"] for k, v in (("g", grouped), ("a", alone))}
    assert width["g"] > 1.5 * width["a"], "copies are no evidence"


def test_no_key_is_added_to_the_modules_state(tmp_path):
    module = Scored(buffer=False)
    before = set(module.state_dict())
    callback = ThresholdSweepValidation()
    validate(tmp_path, module, loader(*samples()), callback)
    assert set(module.state_dict()) == before
    assert callback.thresholds is not None


def test_the_loader_that_counts_is_the_one_that_was_named(tmp_path):
    first, second = samples(seed=2), samples(seed=3)
    logged = validate(tmp_path, Scored(), [loader(*first), loader(*second)], ThresholdSweepValidation(dataloader_idx=1))
    assert logged["threshold/oracle_f1"] == pytest.approx(best_of_all(*second))
    with pytest.raises(ContractError, match="no sample came from loader 2 of 2"):
        validate(tmp_path, Scored(), [loader(*first), loader(*second)], ThresholdSweepValidation(dataloader_idx=2))


class Drifting(Scored):
    """Its scores move up with every epoch, and its ranking is best in the second."""

    def validation_step(self, batch, batch_idx):
        scores, labels, noise = batch
        epoch = self.trainer.current_epoch
        return {"scores": epoch + scores + (0.0 if epoch == 1 else 3.0) * noise, "targets": labels}

    def test_step(self, batch, batch_idx):
        return {"scores": 1 + batch[0], "targets": batch[1]}


def test_the_best_checkpoint_brings_its_own_threshold(tmp_path):
    scores, labels = samples()
    data = loader(scores, labels, torch.rand(60, generator=torch.Generator().manual_seed(0)))
    checkpoint = ModelCheckpoint(tmp_path, monitor="threshold/f1", mode="max", save_top_k=1)
    seen = []

    class Watch(pl.Callback):
        def on_validation_end(self, trainer, pl_module):
            seen.append(float(pl_module.decision_threshold))

    callback, module = ThresholdSweepValidation(), Drifting()
    trainer = make_trainer(
        tmp_path, [checkpoint, callback, Watch()], enable_checkpointing=True, max_epochs=3, num_sanity_val_steps=0
    )
    trainer.fit(module, loader(torch.zeros(1)), data)
    assert len(set(seen)) == 3
    assert "epoch=1" in checkpoint.best_model_path
    trainer.test(module, data, ckpt_path="best", verbose=False)
    assert callback.thresholds == [pytest.approx(seen[1])]
    assert module.decision_threshold.item() == pytest.approx(seen[1])
    logged = trainer.callback_metrics
    assert logged["threshold/test_f1"] == pytest.approx(f1_at(1 + scores, labels, callback.thresholds[0]))
    # another process: a fresh callback takes it from the checkpoint, and a prediction uses it
    fresh, again = ThresholdSweepValidation(), Drifting()
    other = make_trainer(tmp_path, [fresh])
    predicted = other.predict(again, loader(1 + scores), ckpt_path=checkpoint.best_model_path)
    assert fresh.thresholds == callback.thresholds
    assert torch.cat(predicted).equal(1 + scores >= callback.thresholds[0])


def test_testing_never_chooses_anew(tmp_path):
    callback, module = ThresholdSweepValidation(), Scored()
    trainer = make_trainer(tmp_path, [callback])
    trainer.validate(module, loader(*samples()), verbose=False)
    kept = list(callback.thresholds)
    scores, labels = samples(seed=9)
    (logged,) = trainer.test(module, loader(scores - 0.3, labels), verbose=False)
    assert callback.thresholds == kept
    assert logged["threshold/test_f1"] == pytest.approx(f1_at(scores - 0.3, labels, kept[0]))
    assert logged["threshold/test_f1"] < best_of_all(scores, labels)
    assert {"threshold/test_auprc", "threshold/test_prevalence", "threshold/test_f1_all"} <= set(logged)


def test_testing_without_a_threshold_says_what_to_do(tmp_path):
    data = loader(*samples())
    with pytest.raises(ConfigurationError, match=r"ckpt_path='best'.*trainer.validate.*select='fixed'"):
        make_trainer(tmp_path, [ThresholdSweepValidation()]).test(Scored(), data, verbose=False)
    make_trainer(tmp_path, [ThresholdSweepValidation(report_test=False)]).test(Scored(), data, verbose=False)
    (logged,) = make_trainer(tmp_path, [ThresholdSweepValidation(select="fixed", fixed=0.75)]).test(
        Scored(), data, verbose=False
    )
    assert logged["threshold/test_f1"] == pytest.approx(f1_at(*samples(), 0.75))


def test_predicting_without_a_threshold_is_reported(tmp_path):
    make_trainer(tmp_path, [ThresholdSweepValidation()]).predict(Scored(), loader(*samples()))
    (finding,) = read_findings(tmp_path)
    assert finding.name == "threshold-not-chosen"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["samples", "edges"])
def test_two_ranks_measure_what_one_does(name, tmp_path):
    # 13 samples on two ranks: the sampler repeats one of them, and the ranks' batches are of unlike sizes
    data = loader(*samples(13, seed=4), batch_size=3)
    module = {"samples": Scored, "edges": lambda: Graph(*graphs())}[name]
    alone = validate(tmp_path / "one", module(), data, ThresholdSweepValidation(patience=1))

    class Write(pl.Callback):
        def on_validation_end(self, trainer, pl_module):
            logged = {k: float(v) for k, v in trainer.callback_metrics.items()}
            (tmp_path / f"rank{trainer.global_rank}").write_text(json.dumps(logged))

    trainer = make_trainer(tmp_path, [ThresholdSweepValidation(), Write()], devices=2, strategy="ddp_fork")
    trainer.validate(module(), data, verbose=False)
    both = [json.loads((tmp_path / f"rank{rank}").read_text()) for rank in (0, 1)]
    assert both[0] == both[1]
    assert both[0] == pytest.approx(alone, rel=1e-6, nan_ok=True)


@pytest.mark.slow
def test_two_ranks_thin_what_does_not_fit(tmp_path):
    data = loader(*samples(400, seed=5), batch_size=10)
    alone = validate(tmp_path / "one", Scored(), data, ThresholdSweepValidation())

    class Write(pl.Callback):
        def on_validation_end(self, trainer, pl_module):
            logged = {k: float(v) for k, v in trainer.callback_metrics.items()}
            (tmp_path / f"rank{trainer.global_rank}").write_text(json.dumps(logged))

    callback = ThresholdSweepValidation(exact_max=100, bins=128)
    trainer = make_trainer(tmp_path, [callback, Write()], devices=2, strategy="ddp_fork")
    trainer.validate(Scored(), data, verbose=False)
    both = [json.loads((tmp_path / f"rank{rank}").read_text()) for rank in (0, 1)]
    assert both[0] == both[1]
    for value in ("oracle_f1", "auprc", "prevalence", "f1_fixed", "f1_all"):
        assert both[0][f"threshold/{value}"] == pytest.approx(alone[f"threshold/{value}"], abs=0.03)


@pytest.mark.slow
def test_more_scores_than_fit_are_thinned_and_little_is_lost(tmp_path):
    scores, labels = samples(3000, seed=6)
    module, callback = Scored(), ThresholdSweepValidation(exact_max=500, bins=128)
    held = []
    add = callback._evaluation._collector.add

    def watched(*args):
        add(*args)
        held.append(sum(chunk.scores.numel() for chunk in callback._evaluation._collector._chunks))

    callback._evaluation._collector.add = watched
    thinned = validate(tmp_path, module, loader(scores, labels, batch_size=50), callback)
    exact = validate(tmp_path, Scored(), loader(scores, labels, batch_size=500), ThresholdSweepValidation())
    assert max(held) <= 500
    assert thinned["threshold/prevalence"] == exact["threshold/prevalence"]
    for name in ("oracle_f1", "f1", "auprc", "f1_fixed", "f1_null"):
        assert thinned[f"threshold/{name}"] == pytest.approx(exact[f"threshold/{name}"], abs=0.02)
    assert f1_at(scores, labels, callback.thresholds[0]) == pytest.approx(best_of_all(scores, labels), abs=0.02)


@pytest.mark.slow
def test_many_thinned_parts_are_thinned_again(tmp_path, monkeypatch):
    monkeypatch.setattr("stablelit.callbacks._threshold_samples._MOST_PARTS", 2)
    scores, labels = samples(600, seed=6)
    callback = ThresholdSweepValidation(exact_max=50, bins=64)
    thinned = validate(tmp_path, Scored(), loader(scores, labels, batch_size=25), callback)
    assert thinned["threshold/prevalence"] == pytest.approx(labels.float().mean().item())
    assert thinned["threshold/oracle_f1"] == pytest.approx(best_of_all(scores, labels), abs=0.04)
    both = torch.stack([scores, scores], 1), torch.stack([labels, labels], 1)
    twice = validate(tmp_path, Scored(), loader(*both, batch_size=25), ThresholdSweepValidation(exact_max=50, bins=64))
    assert np.isnan(twice["threshold/f1_low"]), "two scores a sample: single scores are no units to draw again"


@pytest.mark.parametrize("average", ["micro", "macro", "per-label"])
def test_several_labels(average, tmp_path):
    rng = np.random.default_rng(0)
    labels = torch.tensor(rng.random((80, 3)) < [0.2, 0.4, 0.1])
    scores = torch.tensor((rng.random((80, 3)) + 0.6 * labels.numpy()) * [1, 0.3, 1], dtype=torch.float32)
    module = Scored()
    module.register_buffer("decision_threshold", torch.full((3,) if average == "per-label" else (), 0.5))
    callback = ThresholdSweepValidation(average=average)
    logged = validate(tmp_path, module, loader(scores, labels), callback)
    thresholds = torch.tensor(callback.thresholds)
    assert torch.equal(module.decision_threshold, thresholds if average == "per-label" else thresholds[0])
    each = [f1_at(scores[:, c], labels[:, c], module.decision_threshold.expand(3)[c]) for c in range(3)]
    pooled = f1_at(scores.ravel(), labels.ravel(), thresholds[0])
    told = logged["threshold/oracle_f1"]
    assert told == pytest.approx(pooled if average == "micro" else np.mean(each))
    if average == "per-label":
        assert told == pytest.approx(np.mean([best_of_all(scores[:, c], labels[:, c]) for c in range(3)]))
        assert logged["threshold/best_min"] == thresholds.min()
    trainer = make_trainer(tmp_path, [callback])
    (tested,) = trainer.test(module, loader(scores, labels), verbose=False)
    assert tested["threshold/test_f1"] == pytest.approx(told)


def test_a_label_without_positives_keeps_its_threshold(tmp_path):
    scores, labels = torch.rand(20, 2), torch.zeros(20, 2)
    labels[:5, 0] = 1
    module = Scored()
    module.register_buffer("decision_threshold", torch.tensor([0.5, 0.25]))
    callback = ThresholdSweepValidation(average="per-label")
    validate(tmp_path, module, loader(scores, labels), callback)
    assert module.decision_threshold[1] == 0.25
    assert module.decision_threshold[0] == pytest.approx(callback.thresholds[0])


def test_places_for_the_threshold_that_do_not_fit(tmp_path):
    scores, labels = torch.rand(20, 2), torch.ones(20, 2)
    for target, average, message in (
        ("decision_threshold", "per-label", r"buffer of shape \(L,\)"),
        ("nowhere", "micro", "nothing at 'nowhere'"),
        ("nowhere", "per-label", "nothing at 'nowhere'"),
    ):
        callback = ThresholdSweepValidation(average=average, target=target)
        with pytest.raises(ContractError, match=message):
            validate(tmp_path, Scored(), loader(scores, labels), callback)
    module = Scored()
    module.register_buffer("decision_threshold", torch.zeros(3))
    with pytest.raises(ContractError, match=r"shape \(3,\) and there are 2 labels"):
        validate(tmp_path, module, loader(scores, labels), ThresholdSweepValidation(average="per-label"))


def test_what_is_applied_to_the_scores_is_said_and_not_guessed(tmp_path):
    scores, labels = samples()
    logits = 8 * (scores - 0.8)
    raw, squashed = ThresholdSweepValidation(), ThresholdSweepValidation(activation="sigmoid")
    a = validate(tmp_path, Scored(), loader(logits, labels), raw)
    b = validate(tmp_path, Scored(), loader(logits, labels), squashed)
    assert a["threshold/oracle_f1"] == b["threshold/oracle_f1"]
    assert (torch.sigmoid(logits) >= squashed.thresholds[0]).equal(logits >= raw.thresholds[0])
    two = ThresholdSweepValidation(activation="softmax")
    pair = torch.stack([torch.zeros_like(logits), logits], -1)
    c = validate(tmp_path, Scored(), loader(pair, labels), two)
    assert c["threshold/oracle_f1"] == b["threshold/oracle_f1"]
    assert c["threshold/f1_fixed"] == b["threshold/f1_fixed"] != a["threshold/f1_fixed"]


@pytest.mark.slow
def test_scores_of_padded_sequences_are_one_pool_and_a_callable_may_pick_them(tmp_path):
    scores, labels = torch.rand(9, 5), (torch.rand(9, 5) < 0.4).long()
    labels[:, 3:] = -100

    def real(which):
        return lambda module, outputs, batch: batch[which][batch[1] >= 0]

    callback = ThresholdSweepValidation(scores=real(0), targets=real(1))
    logged = validate(tmp_path, Scored(keys=()), loader(scores, labels, batch_size=4), callback)
    assert logged["threshold/oracle_f1"] == pytest.approx(best_of_all(scores[:, :3].ravel(), labels[:, :3].ravel()))
    # rows of several scores: a row stays on one side of the cross-fit
    logged = validate(tmp_path, Scored(), loader(scores[:, :3], labels[:, :3]), ThresholdSweepValidation())
    assert logged["threshold/f1_low"] <= logged["threshold/f1"] <= logged["threshold/f1_high"]


@pytest.mark.parametrize(
    ("module", "data", "arguments", "message"),
    [
        (Scored(("logits", "target")), samples(), {}, "returns the keys logits, target, and no tensor at 'scores'"),
        (Scored(()), samples(), {}, "validation_step returns NoneType"),
        (Scored(), (torch.rand(5, 1), torch.ones(5)), {}, r"\(5, 1\) and targets \(5,\).*squeeze"),
        (Scored(), (torch.rand(5, 3), torch.ones(5)), {"activation": "softmax"}, "two classes"),
        (Scored(), samples(), {"average": "macro"}, r"several labels, \(N, L\)"),
        (Scored(), samples(), {"groups": "targets", "scores": lambda m, o, b: b[0][:2, None]}, "targets"),
        (Scored(), samples(), {"scores": lambda m, o, b: None}, "callable for scores returned NoneType"),
        (Scored(), samples(), {"select": "shd"}, "Scored has no edge_scores"),
        (Scored(), samples(), {"kind": "edges"}, "Scored has no edge_scores"),
    ],
)
def test_a_module_that_lacks_something_is_told_what(module, data, arguments, message, tmp_path):
    with pytest.raises(ContractError, match=message):
        validate(tmp_path, module, loader(*data), ThresholdSweepValidation(**arguments))


def test_a_wrong_key_is_told_in_the_sanity_check(tmp_path):
    trainer = make_trainer(tmp_path, [ThresholdSweepValidation(scores="score")])
    with pytest.raises(ContractError, match="Did you mean 'scores'"):
        trainer.fit(Scored(), loader(torch.zeros(1)), loader(*samples()))
    assert trainer.global_step == 0


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        (
            torch.tensor([0.1, float("nan"), 0.3]),
            torch.tensor([0, 1, 1]),
            "1 of 3 scores are NaN, the first at place 1",
        ),
        (torch.tensor([0.1, 0.2]), torch.tensor([0, 2]), "neither 0 nor 1"),
    ],
)
def test_bad_data_are_named(scores, labels, message, tmp_path):
    with pytest.raises(DataError, match=message):
        validate(tmp_path, Scored(), loader(scores, labels), ThresholdSweepValidation())


def test_bad_data_are_named_before_an_epoch_was_trained(tmp_path):
    trainer = make_trainer(tmp_path, [ThresholdSweepValidation()], max_epochs=1)
    with pytest.raises(DataError, match="neither 0 nor 1"):
        trainer.fit(Scored(), loader(torch.zeros(1)), loader(torch.rand(9), torch.full((9,), 2)))
    assert trainer.global_step == 0


def test_a_module_wholly_in_bfloat16_is_measured(tmp_path):
    scores, labels = samples()
    logged = validate(
        tmp_path, Scored(), loader(scores, labels.float()), ThresholdSweepValidation(), precision="bf16-true"
    )
    assert logged["threshold/oracle_f1"] == pytest.approx(best_of_all(scores.bfloat16(), labels))


def test_a_module_may_reuse_its_output(tmp_path):
    class Reusing(Scored):
        def validation_step(self, batch, batch_idx):
            self.out = getattr(self, "out", torch.zeros(7))
            kept = self.out[: len(batch[0])]
            kept.copy_(batch[0])
            return {"scores": kept, "targets": batch[1]}

    scores, labels = samples()
    logged = validate(tmp_path, Reusing(), loader(scores, labels), ThresholdSweepValidation())
    assert logged["threshold/oracle_f1"] == pytest.approx(best_of_all(scores, labels))


def test_loaders_in_a_dict_are_counted_in_their_order():
    collected = ThresholdSweepValidation()._evaluation._collected
    with pytest.raises(ContractError, match="loader 0 of 2"):
        collected(SimpleNamespace(world_size=1), {"a": one, "b": one})


@pytest.mark.parametrize(
    "arguments",
    [
        {"select": "f2"},
        {"average": "weighted"},
        {"activation": "softmax-last"},
        {"kind": "nodes"},
        {"beta": 2.0},
        {"beta": 0.0, "select": "fbeta"},
        {"grid": 1},
        {"grid": 21, "select": "fixed"},
        {"fixed": float("nan")},
        {"target_edges": 3},
        {"select": "target_edges"},
        {"select": "stability"},
        {"select": "stability", "stability_edges": 5, "stability_frequency": 0.5},
        {"reversal_cost": 3},
        {"bic_penalty": 0.0},
        {"exact_max": 1},
        {"bins": 4},
        {"patience": 0},
        {"report_test": "no"},
        {"allow_cyclic_truth": "no"},
        {"dataloader_idx": -1},
        {"scores": 3},
        {"name": ""},
        {"action": "shout"},
        {"select": "shd", "kind": "samples"},
        {"select": "min_dag", "average": "macro"},
    ],
    ids=str,
)
def test_arguments_are_checked(arguments):
    with pytest.raises(ConfigurationError, match="ThresholdSweepValidation"):
        ThresholdSweepValidation(**arguments)


def test_two_that_would_write_or_log_the_same_are_refused(tmp_path):
    data = loader(*samples())
    pair = ThresholdSweepValidation(name="a"), ThresholdSweepValidation(name="a", select="youden")
    with pytest.raises(RuntimeError, match="more than one stateful callback"):
        make_trainer(tmp_path, list(pair))
    pair = ThresholdSweepValidation(), ThresholdSweepValidation(name="b", target="decision_threshold")
    with pytest.raises(ConfigurationError, match=r"writes Scored\.decision_threshold too"):
        validate(tmp_path, Scored(), data, *pair)
    logged = validate(tmp_path, Scored(), data, ThresholdSweepValidation(), ThresholdSweepValidation(name="b"))
    assert logged["threshold/best"] == logged["threshold/b/best"]


def test_a_state_loaded_inside_a_fit_takes_effect(tmp_path):
    module, callback = Scored(), ThresholdSweepValidation()
    validate(tmp_path, module, loader(*samples()), callback)
    state, kept = callback.state_dict(), module.decision_threshold.item()
    trainer = make_trainer(tmp_path, [callback])
    trainer.validate(module, loader(*samples(seed=7)), verbose=False)
    assert module.decision_threshold.item() != kept
    callback.load_state_dict(state)
    callback.on_rollback(trainer, module)
    assert module.decision_threshold.item() == kept


def test_a_threshold_of_other_scores_is_left_behind():
    state = {**ThresholdSweepValidation().state_dict(), "thresholds": [2.5]}
    frequency = {"select": "stability", "stability_edges": 3}
    for other in ({"activation": "sigmoid"}, {"average": "per-label"}, frequency):
        fresh = ThresholdSweepValidation(**other)
        fresh.load_state_dict(state)
        assert fresh.thresholds is None
    state_of_frequency = {**ThresholdSweepValidation(**frequency).state_dict(), "thresholds": [0.75]}
    fresh = ThresholdSweepValidation()
    fresh.load_state_dict(state_of_frequency)
    assert fresh.thresholds is None, "a frequency is no edge score"
    with pytest.raises(ConfigurationError, match="That of the checkpoint is of stability none micro, not of auto"):
        fresh.on_test_epoch_start(None, None)
    given = ThresholdSweepValidation(select="fixed", average="macro", fixed=0.3)
    given.load_state_dict(state)
    assert given.thresholds == [0.3]
    other = ThresholdSweepValidation(select="youden", grid=21, patience=9)
    other.load_state_dict(state)
    assert other.thresholds == [2.5]


@pytest.mark.parametrize(("average", "place"), [("macro", 0.9), ("per-label", [0.9, 0.9])])
def test_a_fixed_threshold_of_several_labels_is_written_without_a_validation(average, place, tmp_path):
    module = Scored(buffer=False)
    module.register_buffer("decision_threshold", torch.tensor(place))
    callback = ThresholdSweepValidation(select="fixed", fixed=0.25, average=average)
    data = loader(torch.rand(9, 2), torch.ones(9, 2))
    make_trainer(tmp_path, [callback]).predict(module, data)
    assert (module.decision_threshold == 0.25).all()
    assert read_findings(tmp_path) == []
    make_trainer(tmp_path, [callback]).validate(module, data, verbose=False)
    assert callback.thresholds == [0.25, 0.25]


def test_another_number_of_labels_begins_anew(tmp_path):
    callback, labels = ThresholdSweepValidation(average="per-label"), torch.tensor([[1, 0, 1], [0, 1, 1], [1, 1, 0]])
    for count in (3, 2):
        validate(tmp_path, Scored(buffer=False), loader(torch.rand(3, 3)[:, :count], labels[:, :count]), callback)
        assert len(callback.thresholds) == count


def test_labels_that_change_between_validation_and_test(tmp_path):
    callback, data = ThresholdSweepValidation(average="macro"), (torch.rand(9, 2), torch.ones(9, 2))
    trainer = make_trainer(tmp_path, [callback])
    trainer.validate(Scored(), loader(*data), verbose=False)
    with pytest.raises(ContractError, match="2 thresholds were chosen.*scores of 1 labels"):
        trainer.test(Scored(), loader(data[0][:, :1], data[1][:, :1]), verbose=False)
    (logged,) = make_trainer(tmp_path, [ThresholdSweepValidation(average="macro", select="fixed")]).test(
        Scored(), loader(*data), verbose=False
    )
    f1 = [f1_at(data[0][:, c], data[1][:, c], 0.5) for c in (0, 1)]
    assert logged["threshold/test_f1"] == pytest.approx(np.mean(f1))


def findings(tmp_path, module, data, epochs=2, callbacks=(), **arguments):
    callback = ThresholdSweepValidation(patience=arguments.pop("patience", 2), **arguments)
    trainer = make_trainer(tmp_path, [*callbacks, callback], max_epochs=epochs, num_sanity_val_steps=0)
    trainer.fit(module, loader(torch.zeros(1)), data)
    return {finding.name: finding for finding in read_findings(tmp_path)}, callback


def test_constant_scores_are_reported(tmp_path):
    _, labels = samples()
    found, _ = findings(tmp_path, Scored(), loader(torch.full((60,), 0.25), labels))
    assert set(found) == {"constant-scores", "not-above-chance"}
    assert "all 60 scores are the same" in found["constant-scores"].message


def test_a_threshold_that_predicts_nearly_all_is_reported(tmp_path):
    scores, labels = samples(signal=-0.3)
    found, _ = findings(tmp_path, Scored(), loader(scores, labels))
    assert f"of 60 where {int(labels.sum())} are positive" in found["nearly-all-predicted"].message


def test_the_end_of_a_grid_is_reported(tmp_path):
    scores, labels = samples()
    found, callback = findings(tmp_path, Scored(), loader(0.003 * scores, labels), grid=21)
    assert "the best of 21 thresholds is 0" in found["threshold-at-the-grids-end"].message
    assert callback.thresholds == [0.0]


def test_noise_is_not_above_chance_and_signal_is(tmp_path):
    scores, labels = samples(signal=0.0)
    found, _ = findings(tmp_path / "noise", Scored(), loader(scores, labels))
    assert "not-above-chance" in found
    scores, labels = samples(signal=0.6)
    found, _ = findings(tmp_path / "signal", Scored(), loader(scores, labels))
    assert not found


@pytest.mark.slow
def test_a_finding_about_scores_waits_for_some_validations(tmp_path):
    scores, labels = samples(signal=0.0)

    class Learns(Scored):
        def validation_step(self, batch, batch_idx):
            return {"scores": batch[0] + (self.trainer.current_epoch > 1) * batch[1], "targets": batch[1]}

    found, _ = findings(tmp_path, Learns(), loader(scores, labels), epochs=4, patience=3)
    assert not found, "two epochs of noise at the beginning are how every model begins"
    found, _ = findings(tmp_path, Scored(), loader(scores, labels), epochs=2, patience=5)
    assert "not-above-chance" in found, "what holds at the end of a short run is told"


def test_a_try_of_one_batch_reports_nothing_about_scores(tmp_path):
    callback = ThresholdSweepValidation(action="raise", patience=1)
    trainer = make_trainer(tmp_path, [callback], fast_dev_run=True)
    trainer.fit(Scored(), loader(torch.zeros(1)), loader(torch.full((9,), 0.5), torch.zeros(9)))
    assert callback.state_dict()["findings"] == {}


def test_labels_without_positives_are_told(tmp_path):
    labels = torch.stack([torch.arange(20) % 2, torch.zeros(20), torch.arange(20) % 3 > 1], 1)
    data = loader(torch.rand(20, 3) + labels, labels)
    found, _ = findings(tmp_path, Scored(buffer=False), data, average="macro")
    assert found["labels-without-positives"].severity == "info"
    assert "1 of 3 labels" in found["labels-without-positives"].message


def test_without_positives_the_threshold_stays(tmp_path):
    callback, module = ThresholdSweepValidation(), Scored()
    trainer = make_trainer(tmp_path, [callback])
    trainer.validate(module, loader(*samples()), verbose=False)
    kept = list(callback.thresholds)
    trainer.validate(module, loader(torch.rand(9), torch.zeros(9)), verbose=False)
    assert callback.thresholds == kept
    assert module.decision_threshold.item() == pytest.approx(kept[0])
    assert np.isnan(float(trainer.callback_metrics["threshold/f1"]))
    (finding,) = read_findings(tmp_path)
    assert (finding.name, finding.evidence["total"]) == ("no-positives", 9)


def test_following_an_oracle_is_reported(tmp_path):
    class Plateau(Scored):
        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), 0.1)
            scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
            return {
                "optimizer": optimizer,
                "lr_scheduler": {"scheduler": scheduler, "monitor": "threshold/precision"},
            }

    stop = EarlyStopping("threshold/oracle_f1", mode="max")
    found, _ = findings(tmp_path, Plateau(), loader(*samples()), callbacks=[stop])
    message = found["oracle-monitored"].message
    assert "EarlyStopping monitors threshold/oracle_f1" in message
    assert "ReduceLROnPlateau monitors threshold/precision" in message
    found, _ = findings(tmp_path / "b", Scored(), loader(*samples()), callbacks=[EarlyStopping("threshold/f1")])
    assert "oracle-monitored" not in found
    with pytest.raises(FindingError):
        findings(tmp_path / "c", Plateau(), loader(*samples()), action="raise")


def graphs(count=1, nodes=6, seed=0, noise=0.25):
    rng = np.random.default_rng(seed)
    truth = np.triu(rng.random((count, nodes, nodes)) < 0.4, 1)
    scores = noise * rng.random(truth.shape) + 0.3 * truth * rng.random(truth.shape)
    pair = torch.tensor(scores, dtype=torch.float32), torch.tensor(truth).float()
    return pair if count > 1 else (pair[0][0], pair[1][0])


def shd(predicted, truth):
    predicted, truth = predicted.bool(), truth.bool()
    return int((predicted | predicted.T).ne(truth | truth.T).sum() / 2 + (predicted & truth.T & ~truth).sum())


one = loader(torch.zeros(1))


def test_the_numbers_of_a_learned_graph(tmp_path):
    scores, truth = graphs()
    module, callback = Graph(scores, truth), ThresholdSweepValidation()
    logged = validate(tmp_path, module, one, callback)
    off = ~torch.eye(6, dtype=torch.bool)
    assert logged["threshold/oracle_f1"] == pytest.approx(best_of_all(scores[off], truth[off]))
    assert "threshold/f1" not in logged, "one graph, on which the threshold was chosen"
    predicted = (scores >= callback.thresholds[0]) & off
    assert logged["threshold/edge_count"] == predicted.sum()
    assert logged["threshold/shd"] == shd(predicted, truth)
    assert logged["threshold/shd_empty"] == truth.sum()
    assert logged["threshold/prevalence"] == pytest.approx(truth.sum().item() / 30)
    assert module.decision_threshold == callback.thresholds[0]


@pytest.mark.parametrize("select", ["shd", "min_dag", "target_edges", "fixed", "bic", "youden"])
def test_the_choices_among_edges(select, tmp_path):
    scores, truth = graphs(seed=1)
    module = Graph(scores, truth if select in ("shd", "youden") else None)
    module.edge_statistics = lambda: (torch.eye(6) + 0.4 * (truth + truth.T), 50.0)
    arguments = {"target_edges": 7} if select == "target_edges" else {"fixed": 0.125}
    callback = ThresholdSweepValidation(select=select, **arguments)
    logged = validate(tmp_path, module, one, callback)
    off = ~torch.eye(6, dtype=torch.bool)
    predicted = {t: (scores >= t) & off for t in scores[off].tolist()}
    count = logged["threshold/edge_count"]
    assert count == ((scores >= callback.thresholds[0]) & off).sum()
    if select == "shd":
        assert logged["threshold/shd"] == min([int(truth.sum()), *(shd(p, truth) for p in predicted.values())])
    elif select == "min_dag":
        nilpotent = [int(p.sum()) for p in predicted.values() if not torch.linalg.matrix_power(p.float(), 6).any()]
        assert count == max(nilpotent)
        assert logged["threshold/is_dag"] == 1.0
    elif select == "target_edges":
        assert count == 7
    elif select == "fixed":
        assert callback.thresholds == [0.125]
    assert ("threshold/oracle_f1" in logged) == (select in ("shd", "youden"))
    if select not in ("shd", "youden"):
        assert "threshold/shd" not in logged, "nobody knows the truth"


def test_a_choice_without_truth_reports_a_plain_f1(tmp_path):
    scores, truth = graphs(seed=2)
    logged = validate(
        tmp_path, Graph(scores, truth), one, ThresholdSweepValidation(select="target_edges", target_edges=4)
    )
    assert "threshold/oracle_f1" not in logged
    chance = 2 * (4 * truth.sum().item() / 30) / (4 + truth.sum().item())
    assert logged["threshold/f1_null"] == pytest.approx(chance)


def test_stability_selection_writes_no_frequency_into_the_module(tmp_path):
    scores, truth = graphs(seed=3)
    module = Graph(scores, truth)
    halves = scores + 0.05 * torch.rand(20, 6, 6)
    module.half_sample_scores = lambda: halves
    callback = ThresholdSweepValidation(select="stability", stability_edges=5, stability_frequency=0.8)
    logged = validate(tmp_path, module, one, callback)
    off = ~torch.eye(6, dtype=torch.bool)
    often = torch.zeros(6, 6)
    for graph in halves:
        often += ((graph >= graph[off].sort(descending=True).values[4]) & off) / 20
    assert logged["threshold/edge_count"] == (often >= 0.8 - 1e-6).sum()
    assert logged["threshold/false_edges_bound"] == pytest.approx(25 / (0.6 * 30))
    assert module.decision_threshold == 0.5
    assert torch.from_numpy(callback.outcome.graphs[0]).equal(often >= 0.8 - 1e-6)


def test_several_graphs_are_cross_fitted_and_have_an_interval(tmp_path):
    scores, truth = graphs(8, seed=4)
    logged = validate(tmp_path, Graph(scores, truth), one, ThresholdSweepValidation())
    off = ~torch.eye(6, dtype=torch.bool).expand(8, 6, 6)
    predicted = torch.zeros_like(off)
    for fit, judge in ((slice(0, 8, 2), slice(1, 8, 2)), (slice(1, 8, 2), slice(0, 8, 2))):
        s, t = scores[fit][off[fit]], truth[fit][off[fit]]
        best = max(s.unique().tolist(), key=lambda threshold: (f1_at(s, t, threshold), threshold))
        below = s[s < best].max()
        predicted[judge] = (scores[judge] >= (best + below) / 2) & off[judge]
    f1 = 2 * (predicted & truth.bool()).sum() / (predicted.sum() + truth.sum())
    assert logged["threshold/f1"] == pytest.approx(f1.item())
    assert logged["threshold/f1_low"] < logged["threshold/oracle_f1"] < logged["threshold/f1_high"]
    assert logged["threshold/shd_empty"] == truth.sum() / 8


def test_on_the_graph_it_was_chosen_on_a_test_is_an_oracle_too(tmp_path):
    scores, truth = graphs(seed=5)
    module, callback = Graph(scores, truth), ThresholdSweepValidation()
    trainer = make_trainer(tmp_path, [callback])
    trainer.validate(module, one, verbose=False)
    (same,) = trainer.test(module, one, verbose=False)
    assert "threshold/test_oracle_f1" in same
    assert "threshold/test_f1" not in same
    module.truth = graphs(seed=6)[1]
    (other,) = trainer.test(module, one, verbose=False)
    off = ~torch.eye(6, dtype=torch.bool)
    assert other["threshold/test_f1"] == pytest.approx(f1_at(scores[off], module.truth[off], callback.thresholds[0]))


@pytest.mark.parametrize(
    ("truth", "arguments", "error", "message"),
    [
        (None, {}, ContractError, "fixed, target_edges, min_dag, bic, stability"),
        (torch.eye(6), {}, DataError, "6 self-loops"),
        (torch.ones(6, 6) - torch.eye(6), {}, DataError, "has a cycle in 1 of 1 graphs"),
        (torch.zeros(5, 5), {}, DataError, "the same shape"),
        (None, {"select": "bic"}, ContractError, r"needs Graph.edge_statistics\(\)"),
        (None, {"select": "stability", "stability_edges": 3}, ContractError, r"needs Graph.half_sample_scores\(\)"),
    ],
)
def test_graphs_that_lack_something(truth, arguments, error, message, tmp_path):
    with pytest.raises(error, match=message):
        validate(tmp_path, Graph(graphs()[0], truth), one, ThresholdSweepValidation(**arguments))


@pytest.mark.parametrize(
    "arguments",
    [{"activation": "sigmoid"}, {"groups": "event"}, {"scores": "logits"}, {"average": "macro"}],
    ids=str,
)
def test_what_has_no_effect_on_edges_is_refused(arguments, tmp_path):
    with pytest.raises(ConfigurationError, match=f"{next(iter(arguments))} would have no effect"):
        validate(tmp_path, Graph(*graphs()), one, ThresholdSweepValidation(**arguments))


def test_weights_exchanged_in_place_do_not_change_what_was_read():
    scores, truth = graphs()
    module, callback = Graph(scores.double(), truth), ThresholdSweepValidation()
    seen = callback._evaluation._edge_reader.read(SimpleNamespace(world_size=1), module)
    told = seen.measure().values
    module.scores.data.zero_()
    assert seen.measure().values == told


def test_a_module_without_edge_truth_is_told_which_choices_need_none(tmp_path):
    class Untold(Graph):
        edge_truth = None

    with pytest.raises(ContractError, match="Untold has no edge_truth.*target_edges"):
        validate(tmp_path, Untold(graphs()[0]), one, ThresholdSweepValidation())
    logged = validate(tmp_path, Untold(graphs()[0]), one, ThresholdSweepValidation(select="min_dag"))
    assert logged["threshold/is_dag"] == 1.0


def test_a_meant_cycle_may_be_let_through(tmp_path):
    both_ways = torch.ones(6, 6) - torch.eye(6)
    logged = validate(tmp_path, Graph(graphs()[0], both_ways), one, ThresholdSweepValidation(allow_cyclic_truth=True))
    assert logged["threshold/oracle_f1"] == 1.0


def test_noise_that_is_tuned_for_shd_predicts_nothing_and_says_so(tmp_path):
    rng = np.random.default_rng(0)
    truth = torch.zeros(13, 13)
    truth[:2, 2:8] = 1.0
    module = Graph(torch.tensor(rng.random((13, 13)), dtype=torch.float32) * (1 - truth), truth)
    found, callback = findings(tmp_path, module, one, select="shd")
    assert "nothing-predicted" in found
    assert callback.outcome.values["shd"] == callback.outcome.values["shd_empty"] == 12
    # F1 of a threshold that is tuned for SHD, by 2000 permutations: 0.016; tuned for F1 it would be 0.19
    assert callback.outcome.values["f1_null"] < 0.04


@pytest.mark.parametrize("averaging_first", [False, True])
def test_with_averaged_weights_the_averaged_graph_is_judged(averaging_first, tmp_path):
    scores, truth = graphs(seed=7)
    module, callback = Graph(scores, truth), ThresholdSweepValidation(select="target_edges", target_edges=5)
    del module.decision_threshold
    module.register_buffer("decision_threshold", torch.tensor(0.5))
    average = EMAWeightAveraging(decay=0.5)
    seen = []

    class Watch(pl.Callback):
        def on_validation_epoch_start(self, trainer, pl_module):
            seen.append(pl_module.scores.detach().clone())

    # after the averaging callback has put its weights in place
    callbacks = [average, callback, Watch()] if averaging_first else [callback, average, Watch()]
    checkpoint = ModelCheckpoint(tmp_path, save_last=True)
    trainer = make_trainer(
        tmp_path, [*callbacks, checkpoint], enable_checkpointing=True, max_epochs=3, num_sanity_val_steps=0
    )
    trainer.fit(module, loader(torch.zeros(1)), one)
    averaged = seen[-1]
    off = ~torch.eye(6, dtype=torch.bool)
    assert ((averaged >= callback.thresholds[0]) & off).sum() == 5
    ranked = averaged[off].sort(descending=True).values
    assert callback.thresholds[0] == pytest.approx(float(ranked[4] + ranked[5]) / 2)
    saved = torch.load(checkpoint.last_model_path, weights_only=True)
    kept = saved["callbacks"]["ThresholdSweepValidation"]["thresholds"]
    assert kept == callback.thresholds
    names = {finding.name for finding in read_findings(tmp_path)}
    assert ("listed-after-averaging" in names) == averaging_first
    if not averaging_first:
        assert saved["state_dict"]["decision_threshold"] == pytest.approx(kept[0])
        assert saved["current_model_state"]["decision_threshold"] == pytest.approx(kept[0])


@pytest.mark.slow
def test_the_picture_shows_the_choice(tmp_path):
    callback = ThresholdSweepValidation()
    assert callback.figures() == {}
    validate(tmp_path, Scored(), loader(*samples()), callback)
    figure = callback.figures()["threshold"]
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert max(lines["F1"].get_ydata()) == pytest.approx(callback.outcome.values["oracle_f1"])
    trainer = make_trainer(tmp_path, [callback, FigureWriter(module_figures=False)], max_epochs=1)
    trainer.fit(Scored(), loader(torch.zeros(1)), loader(*samples()))
    assert (tmp_path / "figures" / "threshold.png").is_file()
    edges = ThresholdSweepValidation(select="min_dag")
    validate(tmp_path, Graph(graphs()[0]), one, edges)
    # without the truth there is nothing but how many are predicted
    assert [axis.get_ylabel() for axis in draw_curve(edges.outcome, edges.choice).axes] == ["edges"]


def test_it_works_for_a_module_that_logs_nothing_and_has_no_place(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", FindingWarning)
        logged = validate(tmp_path, Scored(buffer=False), loader(*samples()), ThresholdSweepValidation())
    assert "threshold/f1" in logged
