"""What a Trainer knows of what was logged, as data: Lightning forgets it when it is resumed."""

from __future__ import annotations

from typing import Any

from torch import Tensor

Standing = dict[str, dict[str, Tensor | float]]

_KINDS = ("callback_metrics", "logged_metrics", "progress_bar_metrics")


def standing_metrics(trainer: Any) -> Standing:
    """The value that each name has now: whoever decides by a metric, or writes them down, reads them there.

    A metric that is logged every tenth epoch stands until it is logged again.
    """
    return {kind: _scalars(getattr(trainer, kind)) for kind in _KINDS}


def stand_again(trainer: Any, saved: Standing) -> None:
    """Puts them back."""
    device = trainer.strategy.root_device
    for kind in _KINDS:
        values = saved.get(kind, {})
        getattr(trainer, kind).update({k: v.to(device) if isinstance(v, Tensor) else v for k, v in values.items()})


def about_to_be_logged(trainer: Any) -> dict[str, Any]:
    """What Lightning hands to the loggers only after the hook in which a checkpoint is saved, and at which step.

    A run that is killed in between has not logged it, and a resumed one does not come there again. In
    `on_train_batch_end` these are the step's values, in `on_validation_end` the validation's, in `on_train_epoch_end`
    the epoch's (2.6.6: `_TrainingEpochLoop.advance`, `_EvaluationLoop.on_run_end`, `_FitLoop.on_advance_end`).
    """
    connector, loop = trainer._logger_connector, trainer.fit_loop.epoch_loop
    in_a_step = connector._first_loop_iter is not None
    if trainer._results is None or (in_a_step and not connector.should_update_logs):
        return {}
    values = {str(name): float(value) for name, value in sorted(connector.metrics["log"].items())}
    if not values:
        return {}
    at_an_epochs_end = not in_a_step and not trainer.validating
    step = values.pop("step", loop._batches_that_stepped - int(at_an_epochs_end))
    return {"step": int(step), "values": {"epoch": trainer.current_epoch, **values}}


def _scalars(metrics: Any) -> dict[str, Tensor | float]:
    kept: dict[str, Tensor | float] = {}
    # in the order in which they were first logged: whoever goes through them meets them in it
    for name, value in metrics.items():
        if isinstance(value, Tensor) and value.numel() == 1:
            kept[str(name)] = value.detach().reshape(()).cpu().clone()
        elif isinstance(value, int | float):
            kept[str(name)] = value
    return kept
