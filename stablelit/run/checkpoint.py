"""Checkpoints as files: found, read as plain data, and held against the module that shall take them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from stablelit.data.checkpoint_files import alternatives, require_whole
from stablelit.data.tensor_files import HoldsObjectsError, plain_tensors
from stablelit.errors import ConfigurationError, DataError
from stablelit.run.directory import BEST_CHECKPOINT, LAST_CHECKPOINT

_SHOWN = 3


def locate_run(path: str | Path, key: str, prefer: str = LAST_CHECKPOINT) -> tuple[Path, Path]:
    """The run directory and the checkpoint that `key=path` means: a run directory, or a checkpoint in one.

    Args:
        path: what the user gave.
        key: the argument's name, for the message.
        prefer: which checkpoint of a run directory to take; the other one if it is missing.

    Raises:
        ConfigurationError: nothing there, or no checkpoint in it.
    """
    given = Path(path).expanduser().absolute()
    if given.is_file():
        parent = given.parent
        return (parent.parent if parent.name == "checkpoints" else parent), given
    if not given.is_dir():
        raise ConfigurationError(f"{key}={path}: there is no such run directory and no such checkpoint.")
    other = BEST_CHECKPOINT if prefer == LAST_CHECKPOINT else LAST_CHECKPOINT
    for name in (prefer, other):
        if (given / name).is_file():
            return given, given / name
    raise ConfigurationError(
        f"{key}={path}: there is no {prefer} in this directory. A run directory is runs/<name>/<date-time>."
    )


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint as plain data on the CPU: nothing that it holds is executed.

    Raises:
        ConfigurationError: truncated, not a checkpoint, or holding Python objects.
    """
    require_whole(path)
    try:
        # the tensors are read where they are used, and never where only the rest is
        checkpoint = plain_tensors(path, mapped=True)
    except HoldsObjectsError as error:
        raise ConfigurationError(f"{error} Take another checkpoint.") from error
    except DataError as error:
        raise ConfigurationError(f"{error} {alternatives(path)}") from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise ConfigurationError(f"{path} is not a checkpoint of Lightning: it has no 'state_dict'.")
    return checkpoint


def require_match(
    checkpoint: Mapping[str, Any],
    module: torch.nn.Module,
    path: Path,
    way_out: str = "Give the model the values of the checkpoint, or begin a new run without resume=.",
    complete: bool = False,
) -> None:
    """Complains of weights that do not fit, with the hyper-parameters that differ.

    Args:
        checkpoint: as read.
        module: that shall take it.
        path: of the checkpoint, for the message.
        way_out: what to do, for the message.
        complete: the module has all its parameters, also one that makes them in `setup`: names are compared.

    Raises:
        ConfigurationError: with the first parameters, their shapes in both, and the differing hyper-parameters.
    """
    saved: Mapping[str, Tensor] = checkpoint["state_dict"]
    built = module.state_dict()
    wrong = [
        f"{name} is {tuple(saved[name].shape)} in the checkpoint and {tuple(built[name].shape)} in the model"
        for name in built
        if name in saved and _shape(built[name]) is not None and _shape(saved[name]) != _shape(built[name])
    ]
    if getattr(module, "strict_loading", True) and (complete or not fills_itself(module)):
        wrong += [f"{name} is only in the model" for name in built if name not in saved]
        wrong += [f"{name} is only in the checkpoint" for name in saved if name not in built]
    if not wrong:
        return
    more = f" (and {len(wrong) - _SHOWN} more)" if len(wrong) > _SHOWN else ""
    differing = hyper_parameter_differences(checkpoint, module)
    hint = f" What differs: {'; '.join(differing)}." if differing else ""
    raise ConfigurationError(
        f"{path} does not fit {type(module).__name__}: {'; '.join(wrong[:_SHOWN])}{more}.{hint} {way_out}"
    )


def hyper_parameter_differences(checkpoint: Mapping[str, Any], module: torch.nn.Module) -> list[str]:
    """`latent_dim is 24 in the checkpoint and 32 in the model`, for each that differs."""
    saved = checkpoint.get("hyper_parameters") or {}
    built = dict(getattr(module, "hparams", {}))
    return [
        f"{name} is {saved[name]!r} in the checkpoint and {built[name]!r} in the model"
        for name in saved
        if name in built and saved[name] != built[name]
    ]


def epochs_completed(checkpoint: Mapping[str, Any]) -> int:
    """How many whole epochs a checkpoint has behind it: one that `max_steps` cut short is none."""
    # the callbacks need Lightning, which takes seconds to import
    from stablelit.callbacks._epoch_edge import is_of_a_cut_epoch

    try:
        counted = int(checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"])
        return counted - int(is_of_a_cut_epoch(checkpoint))
    except (KeyError, TypeError):
        return int(checkpoint.get("epoch", 0))


def fills_itself(module: torch.nn.Module) -> bool:
    """Whether the module makes or renames parameters later, so that names cannot be compared yet."""
    import lightning.pytorch as pl

    hooks = ("configure_model", "setup", "on_load_checkpoint")
    return any(getattr(type(module), h, None) is not getattr(pl.LightningModule, h) for h in hooks)


def _shape(tensor: Any) -> tuple[int, ...] | None:
    if not isinstance(tensor, Tensor) or isinstance(tensor, UninitializedParameter | UninitializedBuffer):
        return None
    return tuple(tensor.shape)
