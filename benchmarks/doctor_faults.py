"""Faults: each is a healthy configuration with one override, so that the reference and the repair are known."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.doctor_healthy import HEALTHY
from benchmarks.doctor_settings import Config


@dataclass(frozen=True)
class Variant:
    """A fault as it is met: the name of a healthy configuration, and what is changed in it."""

    base: str
    override: Config

    @property
    def config(self) -> Config:
        return HEALTHY[self.base].config | self.override


@dataclass(frozen=True)
class Fault:
    """A fault in the variant that may be looked at in tuning, and in the one that is only reported.

    Args:
        accepted: names of findings that are this cause.
        mild: for tuning; None: the fault is kept for the report.
        strong: for the report: more or less of it, or another project.
        visible: the optimizer step at which it can first be seen by looking inside; None where only time tells.
    """

    accepted: tuple[str, ...]
    mild: Variant | None
    strong: Variant
    visible: int | None = 0

    def variant(self, tune: bool) -> Variant | None:
        return self.mild if tune else self.strong


def _both(accepted: str, mild: str, strong: str, visible: int | None = 0, **override: object) -> Fault:
    """The same override in two projects."""
    return Fault(tuple(accepted.split()), Variant(mild, dict(override)), Variant(strong, dict(override)), visible)


def _by(accepted: str, base: str, mild: Config, strong: Config, visible: int | None = 0, other: str = "") -> Fault:
    """Two severities, in one project or in two."""
    return Fault(tuple(accepted.split()), Variant(base, mild), Variant(other or base, strong), visible)


def _held(accepted: str, base: str, visible: int | None = 0, **override: object) -> Fault:
    """Only for the report."""
    return Fault(tuple(accepted.split()), None, Variant(base, dict(override)), visible)


MISSING = "parameters-missing-from-optimizer"
TOO_HIGH = "learning-rate-too-high"

PARAMETERS: dict[str, Fault] = {
    "optimizer-without-encoder": _both(MISSING, "table-mlp", "pictures", optimizer_takes="head"),
    "optimizer-without-encoder-contrast": _both(
        f"{MISSING} encoder-not-optimised", "contrast", "memory", optimizer_takes="head"
    ),
    "optimizer-of-a-copy": _both(
        f"{MISSING} parameters-do-not-move", "table-mlp", "autoencoder", optimizer_takes="stale"
    ),
    "detached": _both("parameters-without-gradient loss-detached-part", "table-mlp", "graph", encoder="detached"),
    "no-grad-encoder": _both("parameters-without-gradient", "pictures", "contrast", encoder="no_grad"),
    "never-zeroed": _both("gradients-not-zeroed", "table-mlp", "pictures", zero_grad=False, visible=1),
    "never-zeroed-sgd": _both("gradients-not-zeroed", "numbers-sgd", "table-sgd", zero_grad=False, visible=1),
    "by-hand-not-zeroed": _both("gradients-not-zeroed", "by-hand", "by-hand-sgd", zeroes=False, visible=1),
    "by-hand-without-step": _both("parameters-do-not-move", "by-hand", "by-hand-sgd", steps=False, visible=1),
    "generator-without-step": _both("parameters-do-not-move", "gan", "gan-relu", steps_generator=False, visible=1),
    "two-optimizers": _both("parameter-in-two-optimizers", "gan", "by-hand-sgd", optimizers_overlap=True),
    "uphill": _both("gradient-ascent", "table-mlp", "numbers-sgd", maximize=True),
    "rate-zero": _by("learning-rate-zero", "table-mlp", {"lr": 0.0}, {"lr": 0.0}, other="vae"),
    "all-weights-alike": _by(
        "units-interchangeable",
        "table-tanh",
        {"init": "constant", "init_scale": 0.1},
        {"init": "constant", "init_scale": 0.05},
        2,
        "numbers",
    ),
    "decay-too-strong": _by(
        "weight-decay-too-strong", "table-mlp", {"weight_decay": 3.0}, {"weight_decay": 10.0}, None, "pictures"
    ),
    "bf16-weights-tiny-steps": _both(
        "parameters-do-not-move learning-rate-too-low", "patient", "more-patient", 2, precision="bf16-true"
    ),
}

MODES: dict[str, Fault] = {
    "eval-in-training": _both("eval-mode-in-training", "deep-sigmoid", "sgd-on-pictures", training_mode="eval"),
    "train-in-validation": _both(
        "train-mode-in-validation", "table-dropout", "table-batch-norm", validation_mode="train"
    ),
    "dropout-always": _by(
        "train-mode-in-validation", "table-mlp", {"dropout_always": 0.5}, {"dropout_always": 0.7}, other="numbers"
    ),
    "norm-hardly-follows": _by(
        "batch-norm-statistics-off",
        "table-batch-norm",
        {"momentum_of_norm": 1e-4},
        {"momentum_of_norm": 1e-5},
        None,
        "pictures-batch-norm",
    ),
}

DATA: dict[str, Fault] = {
    "input-times-1000": _by(
        "input-unscaled", "table-mlp", {"input_scale": 1e3}, {"input_scale": 300.0}, other="numbers"
    ),
    "input-times-30-sgd": _by(
        "input-unscaled", "numbers-sgd", {"input_scale": 40.0}, {"input_scale": 60.0}, other="table-sgd"
    ),
    "one-feature-1e4": _by(
        "input-unscaled", "table-mlp", {"one_feature_scale": 1e4}, {"one_feature_scale": 3e3}, other="numbers"
    ),
    "grey-values": _both("input-unscaled", "pictures-sgd", "pictures", raw=True),
    "nan-in-rows": _by("input-not-finite", "table-mlp", {"bad_rows": 0.003}, {"bad_rows": 0.002}, 30, "autoencoder"),
    "nan-in-targets": _by("target-not-finite", "numbers", {"bad_targets": 0.003}, {"bad_targets": 0.002}, 30, "points"),
    "constant-input": _both("input-constant", "table-mlp", "pictures", input_constant=True),
    "sorted-labels": _both("labels-sorted", "table-sgd", "pictures", 10, sort_rows=True),
    # a network too small to learn its rows by heart stands at chance: from inside that is the same as any target that
    # has no signal, and `not-learning`, which asks whether labels belong to their rows, is all that can be said
    "shuffled-labels": _both(
        "labels-unrelated-to-input not-learning", "table-mlp", "pictures", None, labels_shuffled=True
    ),
    "rows-in-both": _by(
        "validation-rows-in-training", "table-close", {"validation_overlap": 0.5}, {"validation_overlap": 0.3}, None
    ),
    "validation-not-scaled": _by(
        "validation-input-differs", "table-mlp", {"validation_offset": 3.0}, {"validation_scale": 10.0}, None, "numbers"
    ),
    "same-batch": _both("same-batch-every-step", "table-mlp", "points", 2, repeat_batch=True),
    "class-only-in-validation": _by(
        "labels-missing-in-training", "table-mlp", {"missing_class": 4}, {"missing_class": 1}, None, "pictures"
    ),
    "targets-times-1e4": _by("target-unscaled", "numbers", {"target_scale": 1e4}, {"target_offset": 1e3}),
    "graph-without-edges": _by(
        "graph-without-edges", "graph", {"edges": "none"}, {"edges": "loops"}, other="graph-dict"
    ),
}

LOSSES: dict[str, Fault] = {
    "softmax-twice": _both("softmax-before-cross-entropy", "table-sgd", "tokens-transformer", output="softmax"),
    "sigmoid-twice": _by(
        "sigmoid-before-bce-with-logits",
        "table-binary",
        {"output": "sigmoid"},
        {"output": "sigmoid"},
        other="imbalanced",
    ),
    "relu-on-logits": _both("activation-before-loss", "table-mlp", "numbers", output="relu"),
    "column-against-row": _both("loss-broadcasts", "numbers", "numbers-sgd", squeezed=False),
    "summed": _both("loss-summed", "numbers-sgd", "table-sgd", reduction="sum"),
    "acos-at-its-edge": _by(
        "infinite-derivative", "points", {"distance": "acos"}, {"distance": "acos_clamped"}, other="points-tanh"
    ),
    "root-of-zero": _both("infinite-derivative", "points", "points-tanh", distance="sqrt"),
}

LAYERS: dict[str, Fault] = {
    "born-dead": _by(
        "dead-units",
        "table-mlp",
        {"init": "bias", "init_scale": -10.0},
        {"init": "bias", "init_scale": -30.0},
        other="pictures",
    ),
    "killed": _by(f"dead-units {TOO_HIGH}", "table-mlp", {"lr": 1.0}, {"lr": 0.5}, None, "pictures"),
    "huge-weights": _by(
        "initial-loss-far-from-chance saturated-units",
        "table-mlp",
        {"init": "scaled", "init_scale": 10.0},
        {"init": "scaled", "init_scale": 30.0},
        other="numbers",
    ),
    "vanishing": _by(
        "vanishing-gradients",
        "deep-sigmoid",
        {"norm": "none", "depth": 8, "lr": 1e-3},
        {"norm": "none", "depth": 6, "init": "scaled", "init_scale": 0.3},
    ),
    "pooled-over-the-batch": _both("output-constant", "table-mlp", "pictures", pool="batch"),
}

SETTINGS: dict[str, Fault] = {
    "rate-x30-adam": _by(TOO_HIGH, "table-mlp", {"lr": 0.2}, {"lr": 0.3}, None, "tokens-transformer"),
    "rate-x300-adam": _by(TOO_HIGH, "numbers", {"lr": 1.0}, {"lr": 1.0}, None, "autoencoder"),
    "rate-x30-sgd": _by(TOO_HIGH, "table-sgd", {"lr": 1.0}, {"lr": 0.6}, None, "numbers-sgd"),
    "rate-x300-sgd": _by(TOO_HIGH, "table-sgd", {"lr": 10.0}, {"lr": 6.0}, None, "numbers-sgd"),
    "rate-over-1000": _by("learning-rate-too-low", "table-mlp", {"lr": 3e-6}, {"lr": 6e-6}, None, "pictures"),
    "rate-over-1000-sgd": _by("learning-rate-too-low", "numbers-sgd", {"lr": 2e-5}, {"lr": 3e-5}, None, "table-sgd"),
    "clip-1e-6": _by("clip-too-tight", "table-sgd", {"clip": 1e-5}, {"clip": 1e-6}, 1, "numbers-sgd"),
    "cosine-in-epochs": _by(
        "schedule-restarts-too-often schedule-steps-wrong",
        "table-mlp",
        {"schedule": "cosine_restarting", "schedule_share": 8 / 240},
        {"schedule": "cosine_restarting", "schedule_share": 10 / 300},
        20,
        "vae",
    ),
    "ends-at-a-tenth": _by(
        "schedule-ends-early schedule-steps-wrong",
        "table-mlp",
        {"schedule": "linear", "schedule_share": 0.1},
        {"schedule": "linear", "schedule_share": 0.07},
        24,
        "vae",
    ),
    "drops-per-step": _by(
        "schedule-ends-early schedule-steps-wrong",
        "table-mlp",
        {"schedule": "drops", "schedule_share": 0.03},
        {"schedule": "drops", "schedule_share": 0.02},
        24,
        "pictures",
    ),
    "warmup-beyond-the-end": _by(
        "warmup-longer-than-run",
        "table-sgd",
        {"schedule": "warmup", "schedule_share": 30.0},
        {"schedule": "warmup", "schedule_share": 50.0},
        None,
        "numbers",
    ),
    "dropout-nearly-all": _by("dropout-too-strong", "table-mlp", {"dropout": 0.95}, {"dropout": 0.97}, 0, "numbers"),
    "overfits": _by(
        "overfitting",
        "table-close",
        {"n_train": 64, "epochs": 200, "batch_size": 32},
        {"n_train": 96, "epochs": 120, "batch_size": 32},
        None,
    ),
}

FAMILIES: dict[str, Fault] = {
    "kl-weight-100": _by(
        "posterior-collapse kl-weight-too-large",
        "vae",
        {"kl_weight": 100.0},
        {"kl_weight": 30.0},
        None,
        "vae-kl-warmup",
    ),
    "blank-views": _both("input-constant embeddings-collapsed blank-input", "contrast", "contrast-warm", views="blank"),
    "mispaired-views": _both(
        "contrastive-at-chance mispaired-views", "contrast", "contrast-warm", None, views="mispaired"
    ),
    "sparsity-x1000": _by("graph-empty", "dag", {"lambda_sparse": 20.0}, {"lambda_sparse": 50.0}, None),
    "no-threshold": _by("graph-full worse-than-empty-graph", "dag", {"threshold": 0.0}, {"threshold": 0.005}, None),
}

ONLY_REPORTED: dict[str, Fault] = {
    "detached-in-a-transformer": _held("parameters-without-gradient", "tokens-transformer", encoder="detached"),
    "encoder-in-eval": _held("eval-mode-in-training", "deep-sigmoid", training_mode="encoder_eval"),
    "offset-of-1000": _held("input-unscaled", "numbers", input_offset=1e3),
    "decay-in-a-gru": _held("weight-decay-too-strong", "tokens-gru", None, weight_decay=5.0),
    "summed-sgd-pictures": _held("loss-summed", "sgd-on-pictures", reduction="sum"),
    "sigmoid-on-classes": _held("activation-before-loss", "pictures", output="sigmoid"),
    "recurrence-explodes": _held("exploding-gradients", "memory", recurrent_gain=3.0),
    "saturated": _held("saturated-units initial-loss-far-from-chance", "table-tanh", init="scaled", init_scale=40.0),
    "validation-of-training-alone": _held("validation-rows-in-training", "tokens-gru", None, validation_overlap=1.0),
    "sorted-targets": _held("labels-sorted", "numbers", 10, sort_rows=True),
    "uphill-by-hand": _held("gradient-ascent", "by-hand", maximize=True),
    "unscaled-graph": _held("input-unscaled", "graph", input_scale=1e3),
    "rate-over-1000-tokens": _held("learning-rate-too-low", "tokens-transformer", None, lr=3e-6),
    "rmsprop-x100": _held(TOO_HIGH, "rmsprop", None, lr=0.3),
}

FAULTS: dict[str, Fault] = PARAMETERS | MODES | DATA | LOSSES | LAYERS | SETTINGS | FAMILIES | ONLY_REPORTED
