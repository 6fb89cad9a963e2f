"""How a stranger's project is set up: the settings that every one has, and their optimizer, schedule and Trainer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

Config = dict[str, Any]
COMMON: Config = {
    "n_train": 1920,
    "n_val": 512,
    "batch_size": 64,
    "epochs": 8,
    "lr": 3e-3,
    "optimizer": "adam",
    "weight_decay": 0.0,
    "maximize": False,
    "schedule": "none",
    "schedule_share": 1.0,
    "clip": None,
    "clip_algorithm": "norm",
    "accumulate": 1,
    "precision": "32-true",
    "stream": False,
    "shuffle": True,
    "repeat_batch": False,
    # which parameters the optimizer has: all, head (the encoder forgotten), stale (of a copy), trainable
    "optimizer_takes": "all",
    "zero_grad": True,
    # live, detached, no_grad (mistakes), or frozen (requires_grad off, on purpose)
    "encoder": "live",
    "training_mode": "train",
    "validation_mode": "eval",
    "activation": "relu",
    "norm": "none",
    "dropout": 0.0,
    "dropout_always": 0.0,
    "momentum_of_norm": 0.1,
    "width": 48,
    "depth": 2,
    "init": "default",
    "init_scale": 1.0,
    "pool": "sample",
}


def optimizer_of(c: Config, parameters: Any) -> torch.optim.Optimizer:
    shared = {"lr": c["lr"], "weight_decay": c["weight_decay"], "maximize": c["maximize"]}
    if c["optimizer"] == "sgd":
        return torch.optim.SGD(parameters, momentum=0.9, **shared)
    if c["optimizer"] == "adam_of_gans":
        return torch.optim.Adam(parameters, betas=(0.5, 0.9), **shared)
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "rmsprop": torch.optim.RMSprop}
    return kinds[c["optimizer"]](parameters, **shared)


def steps_of(c: Config) -> int:
    return c["epochs"] * -(-c["n_train"] // (c["batch_size"] * c["accumulate"]))


def schedule_of(c: Config) -> Callable[[int], float] | None:
    """The factor of the learning rate by optimizer step; `schedule_share` is a share of the run."""
    span = max(1.0, c["schedule_share"] * steps_of(c))
    warm = 0.1 * span
    return {
        "none": None,
        "cosine": lambda t: 0.5 * (1 + math.cos(math.pi * min(t / span, 1.0))),
        "cosine_restarting": lambda t: 0.5 * (1 + math.cos(math.pi * t / span)),
        "warmup_cosine": lambda t: min((t + 1) / warm, 0.5 * (1 + math.cos(math.pi * min(t / span, 1.0)))),
        "warmup": lambda t: min(1.0, (t + 1) / span),
        "linear": lambda t: max(0.0, 1 - t / span),
        "one_cycle": lambda t: max(0.02, min(t / span / 0.3, (1 - t / span) / 0.7)),
        "drop": lambda t: 1.0 if t < 0.6 * span else 0.1,
        "drops": lambda t: 0.1 ** (t // span),
    }[c["schedule"]]


def trainer_arguments(c: Config) -> Config:
    arguments = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_progress_bar": False,
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "precision": c["precision"],
        "accumulate_grad_batches": c["accumulate"],
        "max_epochs": c["epochs"],
    }
    if c["clip"] is not None:
        arguments |= {"gradient_clip_val": c["clip"], "gradient_clip_algorithm": c["clip_algorithm"]}
    return arguments
