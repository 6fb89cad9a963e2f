"""What a module logs, and the validation loss among it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from stablelit.callbacks._training_metrics import training_metrics
from stablelit.doctor.evidence import Curve

_VALIDATION = re.compile(r"(^|[/_\-. ])(val|valid|validation|dev|eval)([/_\-. ]|$)")
# of monitors that the doctor carries: it has their findings
_OWN = ("posterior/", "ssl/")
# not "elbo" or "objective": nobody knows whether these are to rise
_LOSS = re.compile(r"(^|[/_\-. ])(loss|nll|nelbo|neg_elbo)([/_\-. ]|$)")


def validation_loss_name(names: Iterable[str]) -> str | None:
    """The shortest name that says both validation and loss: ``val_loss``, ``val/loss``, ``loss/valid``."""
    fitting = [n for n in names if _VALIDATION.search(n.lower()) and _LOSS.search(n.lower())]
    return min(fitting, key=lambda name: (len(name), name), default=None)


class LoggedValues:
    """Takes what stands in `trainer.callback_metrics` after a validation and after an epoch."""

    def __init__(self) -> None:
        self._sum: Tensor | None = None
        self._count = 0
        self._is_named = False
        self._epoch: tuple[Any, int] | None = None
        self._of_validation: set[str] = set()
        # what stood there before validation: until somebody writes it anew it is an earlier time's
        self._before: dict[str, Any] = {}

    def validation_begins(self, trainer: Any) -> None:
        """A validation begins."""
        self._before = dict(trainer.callback_metrics)
        self._sum, self._count, self._is_named = None, 0, False

    def validation_batch(self, outputs: Any) -> None:
        """A validation batch returned this: a loss is kept, where there is one."""
        self._is_named = isinstance(outputs, Mapping)
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if isinstance(loss, Tensor) and loss.numel() == 1:
            loss = loss.detach().reshape(()).float()
            self._sum = loss if self._sum is None else self._sum + loss
            self._count += 1

    def validated(self, trainer: Any, curves: dict[str, Curve], step: int) -> None:
        """Adds what validation has logged to ``logged/<name>``, and its loss to ``val_loss``.

        Where no name says that it is the loss, the mean of what `validation_step` returns as ``loss`` is taken, or of
        the one number that it returns where it logs nothing: beside other metrics that may be any of them.
        """
        of_training = training_metrics(trainer)
        standing = trainer.callback_metrics
        new = {k: v for k, v in standing.items() if k not in of_training and v is not self._before.get(k)}
        self._before = {}
        values = _numbers(new)
        own = _validation_metrics(trainer) - of_training
        self._of_validation |= own
        _add(values, curves, step)
        logged = validation_loss_name(values)
        if logged is not None:
            curves.setdefault("val_loss", Curve()).add(step, values[logged])
        elif self._sum is not None and (self._is_named or not own):
            curves.setdefault("val_loss", Curve()).add(step, float(self._sum) / self._count)

    def epoch_ends(self, trainer: Any, step: int) -> None:
        """The epoch's means come after every callback's hook: they are taken a hook later, or for a checkpoint."""
        self._epoch = trainer, step

    def epoch_is_over(self, curves: dict[str, Curve]) -> None:
        """Adds what the epoch has logged, where that has not happened yet."""
        if self._epoch is not None:
            (trainer, step), self._epoch = self._epoch, None
            # what validation has logged stands there until the next one, and would count twice
            kept = {k: v for k, v in trainer.callback_metrics.items() if k not in self._of_validation}
            _add(_numbers(kept), curves, step)

    def forget(self) -> None:
        """Lets go of the Trainer, where training has ended in an exception."""
        self._epoch, self._before = None, {}


def _validation_metrics(trainer: Any) -> set[str]:
    results = trainer.fit_loop.epoch_loop.val_loop._results
    names = {result.meta.name for result in results.values()}
    # with several loaders Lightning adds the number of each
    return {name for name in trainer.callback_metrics if name in names or name.split("/dataloader_idx_")[0] in names}


def _add(values: Mapping[str, float], curves: dict[str, Curve], step: int) -> None:
    for name, value in values.items():
        curve = curves.setdefault(f"logged/{name}", Curve())
        if not len(curve) or curve.steps[-1] < step:
            curve.add(step, value)


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    scalars = {
        name: value
        for name, value in metrics.items()
        if isinstance(value, Tensor) and value.numel() == 1 and not (value.is_complex() or name.startswith(_OWN))
    }
    if not scalars:
        return {}
    # one wait for the device, whatever the number of metrics; some may be elsewhere
    device = next((value.device for value in scalars.values() if value.device.type != "cpu"), None)
    stacked = torch.stack([v.detach().reshape(()).float().to(device) for v in scalars.values()]).tolist()
    return dict(zip(scalars, stacked, strict=True))
