"""Tests a run's checkpoint again, with other data or settings, and keeps results and pictures beside the run."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch import seed_everything
from lightning.pytorch.utilities.model_helpers import is_overridden
from omegaconf import open_dict

from stablelit.errors import ContractError
from stablelit.run.command_line import CommandLine, key_of
from stablelit.run.environment import quiet_libraries
from stablelit.run.record import numbers
from stablelit.run.saved_run import loading, open_run, parts_beside
from stablelit.run.summary import code_identity, data_identity, versions
from stablelit.run.table import kl_target_rows, metric_rows, print_results, shown_path
from stablelit.run_files import plain


def evaluate(argv: Sequence[str]) -> dict[str, float]:
    """Tests, prints the table, writes `evaluation.json` into the run's directory, and returns the metrics.

    Pictures that a callback draws of the test are kept in ``figures/evaluation/``.

    Raises:
        ConfigurationError: no such run, a mistake in an override, a checkpoint of another model.
        ContractError: the module has no test.
    """
    quiet_libraries()
    line = CommandLine.parse(argv)
    overrides = [o for o in line.overrides if key_of(o) != "run"]
    run = open_run(line, overrides, "evaluate")
    config = run.config
    if config.get("seed") is not None:
        seed_everything(config.seed, workers=True, verbose=False)
    path = _free_name(run.directory)
    pictures = run.directory / "figures" / path.stem
    # callbacks that act on a test keep acting; what they write beside pictures goes where nobody sees it
    with tempfile.TemporaryDirectory(prefix="stablelit-") as scratch, open_dict(config):
        trainer, datamodule, module = parts_beside(run, scratch)
        if not is_overridden("test_step", module):
            raise ContractError(f"{type(module).__name__} has no test_step, so there is nothing to evaluate.")
        with loading(run, module) as checkpoint:
            results = trainer.test(
                module, datamodule=datamodule, ckpt_path=checkpoint, weights_only=True, verbose=False
            )
        drawn = Path(scratch) / "figures" / "test"
        if trainer.is_global_zero and drawn.is_dir():
            shutil.copytree(drawn, pictures, dirs_exist_ok=True)
    metrics = {name: value for found in results for name, value in numbers(found).items()}
    if trainer.is_global_zero:
        entries = {
            "checkpoint": shown_path(run.checkpoint),
            "overrides": overrides,
            "metrics": metrics,
            "data": data_identity(datamodule),
            "versions": versions(),
            "code": code_identity(),
        }
        path.write_text(json.dumps(plain(entries), indent=2) + "\n", encoding="utf-8")
        rows = metric_rows(metrics) + kl_target_rows(config, metrics, "test")
        places = {"checkpoint": shown_path(run.checkpoint), "metrics": shown_path(path)}
        if pictures.is_dir():
            places["pictures"] = shown_path(pictures)
        print_results(rows, places, _which_samples(datamodule), title=f"{config.name}: test")
    return metrics


def _which_samples(datamodule: object) -> list[str]:
    """A note of how much of the data was tested: a share is easily taken for the whole."""
    splits = getattr(datamodule, "split_indices", None)
    splits = splits() if callable(splits) else splits
    if not splits or "test" not in splits:
        return []
    whole = sum(len(indices) for indices in splits.values())
    return [f"Tested on {len(splits['test'])} of {whole} samples: the test share that the data settings say."]


def _free_name(directory: Path) -> Path:
    """`evaluation.json`, or the first `evaluation-<number>.json`: an evaluation on other data replaces none."""
    path, number = directory / "evaluation.json", 1
    while path.exists():
        number += 1
        path = directory / f"evaluation-{number}.json"
    return path
