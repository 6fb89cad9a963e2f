"""Configurations that learn: plain ones of every kind, and traps, each of which looks like a fault from one side."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.doctor_settings import Config


@dataclass(frozen=True)
class Healthy:
    """A configuration, and the true score that it has to reach to count as one that learns.

    Args:
        config: overrides of the project's defaults.
        learns: the least true score.
        held_out: whether it is kept from tuning.
    """

    config: Config
    learns: float = 0.5
    held_out: bool = False


def _of(project: str, learns: float = 0.5, held_out: bool = False, **config: object) -> Healthy:
    return Healthy({"project": project, **config}, learns, held_out)


PLAIN: dict[str, Healthy] = {
    "table-mlp": _of("table", 0.6),
    "table-sgd": _of("table", 0.6, optimizer="sgd", lr=0.03),
    "table-tanh": _of("table", 0.6, activation="tanh", depth=3),
    "table-binary": _of("table", classes=2),
    "table-dropout": _of("table", dropout=0.5, width=96, n_train=480, epochs=32),
    "table-batch-norm": _of("table", 0.6, norm="batch"),
    "deep-sigmoid": _of("table", 0.4, activation="sigmoid", depth=3, norm="batch", lr=5e-3),
    "table-close": _of("table", 0.3, spread=0.5, n_train=960, epochs=16, lr=1e-3, width=96),
    "pictures-sgd": _of("pictures", width=24, optimizer="sgd", lr=0.03),
    "pictures": _of("pictures", width=12, lr=6e-3),
    "pictures-batch-norm": _of("pictures", width=12, norm="batch"),
    "numbers": _of("numbers", 0.6),
    "numbers-sgd": _of("numbers", 0.4, optimizer="sgd", lr=0.02),
    "points": _of("points", 0.5),
    "autoencoder": _of("autoencoder", 0.4),
    "vae": _of("vae", 0.4, epochs=10),
    "contrast": _of("contrast", 0.3, epochs=10),
    "gan": _of("gan", 0.4, lr=3e-3, epochs=12, optimizer="adam_of_gans", activation="gelu"),
    "by-hand": _of("by_hand", 0.5),
    "tokens-gru": _of("tokens", lr=1e-2, n_train=960, epochs=16),
    "tokens-transformer": _of("tokens", network="transformer", width=32, n_train=960, epochs=14),
    "memory": _of("memory", 0.3, lr=3e-3, epochs=10, length=16),
    "graph": _of("graph", 0.5, n_train=640, batch_size=16, epochs=5),
    "graph-dict": _of("graph", 0.5, n_train=640, batch_size=16, epochs=5, as_dict=True),
    "dag": _of("dag", 0.55, lr=2e-2, epochs=10),
}

TRAPS: dict[str, Healthy] = {
    "noisy-labels": _of("table", 0.4, label_noise=0.35),
    "batch-of-four": _of("table", 0.4, batch_size=4, n_train=600, epochs=2, lr=1e-3),
    "tight-clip-adam": _of("table", 0.5, clip=0.01),
    "tight-clip-sgd": _of("table", 0.4, clip=0.1, optimizer="sgd", lr=0.1),
    "negative-loss": _of("numbers", 0.5, objective="gaussian_nll", noise=0.05, lr=5e-3),
    "frozen-encoder": _of("table", 0.3, encoder="frozen", optimizer_takes="trainable", width=128, lr=1e-2),
    "head-alone-under-no-grad": _of("table", 0.3, encoder="no_grad", optimizer_takes="head", width=128, lr=1e-2),
    "converged-long-ago": _of("table", 0.6, spread=3.0, epochs=14, lr=1e-2, schedule="cosine"),
    "plateau-before-a-drop": _of("numbers", 0.5, optimizer="sgd", lr=0.1, schedule="drop", noise=0.5),
    "imbalanced": _of("table", 0.3, classes=2, rare=0.05, spread=1.5),
    "easy": _of("table", 0.9, spread=6.0, epochs=10),
    "patient": _of("table", 0.5, spread=6.0, lr=1e-4),
    "warmup-cosine": _of(
        "tokens", network="transformer", width=32, schedule="warmup_cosine", lr=6e-3, n_train=960, epochs=14
    ),
    "one-cycle": _of("pictures", norm="batch", schedule="one_cycle", width=12, lr=1e-2),
    "accumulation": _of("table", 0.4, accumulate=4, batch_size=16, epochs=4, lr=6e-3),
    "stream": _of("table", 0.5, stream=True),
    "vae-kl-warmup": _of("vae", 0.4, kl_warmup=0.5, epochs=10),
    "rare-tokens": _of("tokens", 0.5, rare_tokens=True, vocabulary=60, lr=1e-2, n_train=960, epochs=14),
    "zero-residual": _of("tokens", network="transformer", width=32, residual="zero", n_train=960, epochs=14),
    "tied": _of("tokens", network="transformer", width=32, tied=True, n_train=960, epochs=14),
    "counts": _of("table", 0.3, counts=True, spread=0.8, lr=1e-3),
    "mostly-noise": _of("numbers", 0.02, noise=3.0, width=8, lr=2e-3, n_train=3840, epochs=5),
    "bf16": _of("table", 0.5, precision="bf16-mixed"),
}

HELD_OUT: dict[str, Healthy] = {
    "rmsprop": _of("table", 0.5, True, optimizer="rmsprop", lr=1e-3),
    "decoupled-decay": _of("pictures", 0.4, True, optimizer="adamw", weight_decay=0.1, width=12, lr=6e-3),
    "gelu-layer-norm": _of("numbers", 0.5, True, activation="gelu", norm="layer", depth=3),
    "warm-restarts": _of("table", 0.5, True, schedule="cosine_restarting", schedule_share=0.25),
    "quiet-target": _of("numbers", 0.4, True, quiet_target=True),
    "whole-batch": _of("table", 0.4, True, n_train=256, batch_size=256, epochs=150, lr=3e-3),
    "sgd-on-pictures": _of("pictures", 0.4, True, optimizer="sgd", norm="batch", lr=0.05, width=12),
    "wide-autoencoder": _of("autoencoder", 0.4, True, activation="tanh", width=96, lr=2e-3),
    "binary-noise": _of("table", 0.1, True, classes=2, label_noise=0.4, n_train=3840, epochs=5),
    "points-tanh": _of("points", 0.5, True, activation="tanh", lr=5e-3),
    "more-patient": _of("table", 0.5, True, spread=6.0, lr=5e-5, epochs=12),
    "contrast-warm": _of("contrast", 0.3, True, temperature=0.5, batch_size=48, norm="batch"),
    "gan-relu": _of("gan", 0.3, True, lr=1e-3, epochs=20, optimizer="adam_of_gans"),
    "by-hand-sgd": _of("by_hand", 0.4, True, activation="tanh", norm="layer", optimizer="sgd", lr=0.05),
}

HEALTHY: dict[str, Healthy] = PLAIN | TRAPS | HELD_OUT
