"""Whether a checkpoint is one that the run of a configuration can go on from, and has something left to do."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from stablelit.errors import ConfigurationError
from stablelit.run.checkpoint import epochs_completed, read_checkpoint, require_match
from stablelit.run.same_data import require_same_data


def require_resumable(
    checkpoint_path: Path, module: object, config: DictConfig, may_be_over: bool = False, datamodule: object = None
) -> None:
    """Looks before training: a whole checkpoint, made for this model and of these data, and something left to do.

    Args:
        checkpoint_path: what to go on from.
        module: that shall take it.
        config: of the run.
        may_be_over: a run that was ended after its last epoch is still to be tested and summed up.
        datamodule: with the data to go on with.

    Raises:
        ConfigurationError: any of these.
    """
    checkpoint = read_checkpoint(checkpoint_path)
    require_match(checkpoint, module, checkpoint_path)  # type: ignore[arg-type]
    if datamodule is not None:
        require_same_data(Path(config.run_dir), datamodule, checkpoint)
    done, planned = epochs_completed(checkpoint), config.trainer.get("max_epochs")
    if planned is not None and 0 <= planned <= done and not may_be_over:
        raise ConfigurationError(
            f"{checkpoint_path} has {done} epochs behind it, and trainer.max_epochs={planned}: nothing is left to do. "
            f"Give it more: trainer.max_epochs={2 * done}"
        )
    steps, most = int(checkpoint.get("global_step", 0)), config.trainer.get("max_steps")
    if most is not None and 0 <= most <= steps and not may_be_over:
        raise ConfigurationError(
            f"{checkpoint_path} has {steps} optimizer steps behind it, and trainer.max_steps={most}: nothing is left "
            f"to do. Give it more: trainer.max_steps={2 * steps}"
        )
