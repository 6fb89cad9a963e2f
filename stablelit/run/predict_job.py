"""Has a trained module predict, and write what it predicts in the format of its field."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import Any

from lightning.pytorch.utilities.model_helpers import is_overridden
from omegaconf import open_dict

from stablelit.contracts import PredictsToFile
from stablelit.errors import ConfigurationError, ContractError, bad_argument
from stablelit.run.command_line import CommandLine, key_of
from stablelit.run.environment import quiet_libraries
from stablelit.run.output_file import output_path
from stablelit.run.saved_run import loading, open_run, parts_beside
from stablelit.run.table import print_results, shown_path, told

_OF_THE_DOOR = ("run", "output")


def predict(argv: Sequence[str]) -> dict[str, Any]:
    """Reads `run=`, `output=` and overrides of the run's configuration; writes, and says what.

    It predicts the data module's `predict_dataloader`, on one device: the order of the file is that of the data.

    Raises:
        ConfigurationError: a missing argument, no such run, a mistake in an override, a checkpoint of another model, or
            data without anything to predict.
        ContractError: the module cannot predict into a file.
    """
    quiet_libraries()
    line = CommandLine.parse(argv)
    overrides = [o for o in line.overrides if key_of(o) not in _OF_THE_DOOR]
    run = open_run(line, overrides, "predict")
    path = output_path(line.value("output"))
    config = run.config
    with tempfile.TemporaryDirectory(prefix="stablelit-") as scratch, open_dict(config):
        config.trainer.devices, config.trainer.strategy = 1, "auto"
        trainer, datamodule, module = parts_beside(run, scratch)
        able = isinstance(module, PredictsToFile) and callable(module.write_predictions)
        if not (able and is_overridden("predict_step", module)):
            raise ContractError(
                f"{type(module).__name__} cannot predict into a file: it has no predict_step with "
                f"write_predictions(predictions, path). The experiment {config.name!r} has nothing to write."
            )
        suffixes = getattr(module, "prediction_suffixes", (path.suffix,))
        if path.suffix not in suffixes:
            raise bad_argument("predict", "output", str(path), f"a file that ends in {' or '.join(suffixes)}")
        with loading(run, module) as checkpoint:
            batches = trainer.predict(module, datamodule=datamodule, ckpt_path=checkpoint, weights_only=True)
    if not batches:
        raise ConfigurationError("predict: the data have nothing to predict. Look at data.path and the test split.")
    done = dict(module.write_predictions(batches, path))
    print_results([], {"checkpoint": shown_path(run.checkpoint), "predictions": shown_path(path), **told(done)})
    return done
