"""What a person would change who believes a finding: from its name and its first `key=value`, not from the truth."""

from __future__ import annotations

import re

from benchmarks.doctor_healthy import HEALTHY
from benchmarks.doctor_projects import full_config
from benchmarks.doctor_settings import Config
from stablelit.findings import Finding

_ASSIGNMENT = re.compile(r"([A-Za-z_][\w.]*)=([-+]?[\d.]+(?:e[-+]?\d+)?)\b")
_KEYS = {"learning_rate": "lr", "gradient_clip_val": "clip", "clip_value": "clip", "max_norm": "clip"}

_SCALE: Config = {
    "input_scale": 1.0,
    "input_offset": 0.0,
    "one_feature_scale": 1.0,
    "raw": False,
}
_ROWS: Config = {"bad_rows": 0.0, "input_constant": False, "views": "right"}
_TARGETS: Config = {"target_scale": 1.0, "target_offset": 0.0, "bad_targets": 0.0, **_SCALE}
_ALL_PARAMETERS: Config = {"optimizer_takes": "all", "encoder": "live"}
_PAIRS: Config = {"views": "right"}
_INITIAL: Config = {"init": "default"}
_SCHEDULE: Config = {"schedule": "none"}

# the lines that a person would mend, where a finding names no number
LINES: dict[str, Config] = {
    "parameters-missing-from-optimizer": _ALL_PARAMETERS,
    "encoder-not-optimised": _ALL_PARAMETERS,
    "parameters-without-gradient": {"encoder": "live"},
    "loss-detached-part": {"encoder": "live"},
    "parameters-do-not-move": {**_ALL_PARAMETERS, "steps": True, "steps_generator": True, "precision": "32-true"},
    "gradients-not-zeroed": {"zero_grad": True, "zeroes": True},
    "parameter-in-two-optimizers": {"optimizers_overlap": False},
    "gradient-ascent": {"maximize": False},
    "units-interchangeable": _INITIAL,
    "weight-decay-too-strong": {"weight_decay": 0.0},
    "eval-mode-in-training": {"training_mode": "train"},
    "train-mode-in-validation": {"validation_mode": "eval", "dropout_always": 0.0},
    "batch-norm-statistics-off": {"momentum_of_norm": 0.1},
    "input-unscaled": _SCALE,
    "input-not-finite": _ROWS,
    "target-not-finite": {"bad_targets": 0.0},
    "input-constant": _ROWS,
    "blank-input": _ROWS,
    "embeddings-collapsed": _PAIRS,
    "contrastive-at-chance": _PAIRS,
    "mispaired-views": _PAIRS,
    "labels-sorted": {"sort_rows": False},
    "labels-unrelated-to-input": {"labels_shuffled": False},
    "validation-rows-in-training": {"validation_overlap": 0.0},
    "validation-input-differs": {"validation_scale": 1.0, "validation_offset": 0.0},
    "same-batch-every-step": {"repeat_batch": False},
    "labels-missing-in-training": {"missing_class": None},
    "target-unscaled": _TARGETS,
    "graph-without-edges": {"edges": "right"},
    "softmax-before-cross-entropy": {"output": "logits"},
    "sigmoid-before-bce-with-logits": {"output": "logits"},
    "activation-before-loss": {"output": "logits"},
    "loss-broadcasts": {"squeezed": True},
    "loss-summed": {"reduction": "mean"},
    "infinite-derivative": {"distance": "sqrt_safe"},
    "dead-units": _INITIAL,
    "initial-loss-far-from-chance": _INITIAL,
    "saturated-units": _INITIAL,
    "vanishing-gradients": {"norm": "batch", **_INITIAL},
    "exploding-gradients": {"recurrent_gain": None, "clip": 1.0},
    "output-constant": {"pool": "sample"},
    "schedule-ends-early": _SCHEDULE,
    "schedule-steps-wrong": _SCHEDULE,
    "schedule-restarts-too-often": _SCHEDULE,
    "warmup-longer-than-run": _SCHEDULE,
    "clip-too-tight": {"clip": 1.0},
    "dropout-too-strong": {"dropout": 0.1},
    # more data
    "overfitting": {"n_train": 960, "epochs": 16, "batch_size": 64},
    "posterior-collapse": {"kl_weight": 1.0},
    "kl-weight-too-large": {"kl_weight": 1.0},
    "graph-empty": {"lambda_sparse": 0.05},
    "graph-full": {"lambda_sparse": 0.05, "threshold": 0.3},
    "worse-than-empty-graph": {"lambda_sparse": 0.05, "threshold": 0.3},
}


def repaired(finding: Finding, base: str, config: Config) -> Config | None:
    """The configuration with what the finding names applied; None where it names nothing that this project has."""
    known = full_config(config)
    change: Config = {}
    match = _ASSIGNMENT.search(finding.remedy)
    # a line to change that is named before a setting is what a person does
    if match and (match.start() == 0 or finding.name not in LINES):
        key = match[1].rsplit(".", 1)[-1]
        key = _KEYS.get(key, key)
        if key in known and not isinstance(known[key], str):
            change = {key: type(known[key] or 1.0)(float(match[2]))}
    for key, value in LINES.get(finding.name, {}).items():
        if key in known and key not in change:
            change[key] = value
    if config["project"] == "numbers" and change.get("output") == "logits":
        change["output"] = "linear"
    # a schedule that is mended is the one that the project had
    for key in set(_SCHEDULE) & set(change):
        change[key] = HEALTHY[base].config.get(key, change[key])
    changed = config | change
    return changed if full_config(changed) != known else None
