"""At which dose of a fault the doctor speaks, beside the dose at which it begins to hurt.

    python -m benchmarks.doctor_doses [--only input-scale,..] [--seeds N]

A ladder of doses of one setting in one healthy configuration, from none to plenty. What is wanted: silence at the
doses that healthy projects have (marked), speech before most of the score is lost, and a factor of three and more
between the largest dose of the healthy kind and the smallest at which something is said.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.doctor_healthy import HEALTHY
from benchmarks.doctor_runs import harm, new_doctor, reference, train
from benchmarks.doctor_settings import Config
from benchmarks.rows import quiet


@dataclass(frozen=True)
class Ladder:
    """Doses of one setting, in the order in which they get worse.

    Args:
        base: the healthy configuration.
        key: the setting.
        doses: its values.
        usual: how many of the first ones somebody would use on purpose.
        also: what else a dose sets.
    """

    base: str
    key: str
    doses: Sequence[float]
    usual: int
    also: Callable[[float], Config] = lambda dose: {}


LADDERS: dict[str, Ladder] = {
    "input-scale": Ladder("numbers", "input_scale", (1, 3, 10, 30, 100, 300, 1000), 3),
    "input-scale-sgd": Ladder("table-sgd", "input_scale", (1, 3, 10, 30, 100), 2),
    "input-offset": Ladder("numbers", "input_offset", (0, 1, 3, 10, 30, 100), 3),
    "one-feature": Ladder("table-mlp", "one_feature_scale", (1, 3, 10, 100, 1000, 1e4), 3),
    "target-scale": Ladder("numbers", "target_scale", (1, 5, 20, 100, 1e3, 1e4), 2),
    "target-offset": Ladder("numbers", "target_offset", (0, 3, 10, 100, 1e3), 2),
    "rate-up-adam": Ladder("table-mlp", "lr", (3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0), 2),
    "rate-up-sgd": Ladder("numbers-sgd", "lr", (0.02, 0.06, 0.2, 0.6, 2.0), 2),
    "rate-up-tokens": Ladder("tokens-transformer", "lr", (3e-3, 1e-2, 3e-2, 0.1, 0.3), 2),
    "rate-down-adam": Ladder("table-mlp", "lr", (3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6), 2),
    "rate-down-sgd": Ladder("numbers-sgd", "lr", (0.02, 6e-3, 2e-3, 6e-4, 2e-4, 6e-5), 2),
    "weight-decay": Ladder("table-mlp", "weight_decay", (0, 1e-4, 1e-2, 0.1, 1.0, 10.0), 2),
    "clip-sgd": Ladder("table-sgd", "clip", (10.0, 1.0, 0.1, 1e-2, 1e-3, 1e-4), 3),
    "weights-up": Ladder("table-mlp", "init_scale", (1, 2, 4, 8, 16), 2, lambda dose: {"init": "scaled"}),
    "dropout": Ladder("numbers", "dropout", (0, 0.2, 0.5, 0.8, 0.9, 0.97), 3),
    "label-noise": Ladder("table-mlp", "label_noise", (0, 0.2, 0.4, 0.6, 0.9), 4),
    "kl-weight": Ladder("vae", "kl_weight", (0.5, 1, 4, 10, 30, 100), 3),
    "overlap": Ladder("table-close", "validation_overlap", (0, 0.01, 0.03, 0.1, 0.5), 2),
    "validation-offset": Ladder("table-mlp", "validation_offset", (0, 0.1, 0.5, 1, 3, 10), 3),
    "norm-momentum": Ladder("table-batch-norm", "momentum_of_norm", (0.1, 0.03, 0.01, 1e-3, 1e-4, 1e-5), 3),
    # as many steps, whatever the number of rows
    "few-rows": Ladder("table-close", "n_train", (960, 480, 192, 64), 2, lambda rows: {"epochs": int(16 * 960 / rows)}),
    "sparsity": Ladder("dag", "lambda_sparse", (0.02, 0.05, 0.1, 1.0, 10.0), 3),
}


def climb(name: str, seed: int) -> None:
    ladder = LADDERS[name]
    healthy = reference(ladder.base, seed)
    print(f"{name}: {ladder.key} in {ladder.base}, seed {seed}, healthy score {healthy.true:.2f}", flush=True)
    for place, dose in enumerate(ladder.doses):
        config = HEALTHY[ladder.base].config | {ladder.key: dose} | ladder.also(dose)
        run = train(config, seed, new_doctor())
        usual = "usual" if place < ladder.usual else ""
        sign = "ALARM?" if usual and run.findings else ""
        said = ", ".join(f"{f.name}@{f.step}" for f in run.findings) or "-"
        notes = f"  ({', '.join(f.name for f in run.notes)})" if run.notes else ""
        print(f"    {dose:<10g}{usual:<7}harm {harm(run, healthy):5.2f}  {sign:<7}{said}{notes}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.doctor_doses")
    parser.add_argument("--only", metavar="NAME,..", default=",".join(LADDERS))
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    quiet()
    for name in options.only.split(","):
        for seed in range(options.seeds):
            climb(name, seed)


if __name__ == "__main__":
    main()
