"""What optimizers and schedules were built with, as plain data, and how a saved state takes up what was changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

# of a schedule's state: where it stands, not what it was asked for
_POSITION = {"last_epoch", "_step_count", "_last_lr", "_is_initial", "num_bad_epochs", "cooldown_counter", "best"}
_POSITION |= {"_get_lr_called_within_step", "verbose", "lr_lambdas", "_schedulers", "T_cur", "T_i", "base_lrs"}


def settings_of(optimizers: Sequence[Any], schedules: Sequence[Any]) -> dict[str, Any]:
    """Classes and settings of optimizers and schedules that have not taken a step."""
    return {
        "optimizers": [
            {"class": type(optimizer).__name__, "groups": [_of_group(group) for group in optimizer.param_groups]}
            for optimizer in optimizers
        ],
        "schedules": [
            {
                "class": _class_of(schedule),
                "settings": {k: _plain(v) for k, v in schedule.state_dict().items() if k not in _POSITION},
            }
            for schedule in schedules
        ],
    }


def take_into_optimizer(saved: dict[str, Any], then: dict[str, Any], now: dict[str, Any], fresh: Any) -> list[str]:
    """Changes an optimizer's saved state to what it is built with now; returns what was changed, a line for each.

    Args:
        saved: its state in the checkpoint.
        then: its settings when the run began.
        now: its settings as they are.
        fresh: the state that a new one has.
    """
    if then["class"] != now["class"]:
        for group, old in zip(fresh["param_groups"], saved["param_groups"], strict=False):
            if "initial_lr" in group:  # there is a schedule, and this is where it stands
                group["lr"] = old["lr"]
        saved.clear()
        saved.update(fresh)
        return [f"optimizer {then['class']} -> {now['class']}: its averages begin anew"]
    if len(then["groups"]) != len(now["groups"]):
        return []
    told = []
    for group, before, after in zip(saved["param_groups"], then["groups"], now["groups"], strict=True):
        for name in after:
            if name in before and before[name] != after[name]:
                if name == "rate":
                    _move_rate(group, before["rate"], after["rate"])
                else:
                    group[name] = after[name]
                told.append(f"{'learning rate' if name == 'rate' else name} {before[name]} -> {after[name]}")
    return list(dict.fromkeys(told))


def take_into_schedule(saved: dict[str, Any], then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The same of a schedule of the same class."""
    told = []
    for name, value in now["settings"].items():
        before = then["settings"].get(name, value)
        if before != value:
            saved[name] = value
            told.append(f"{now['class']}.{name} {before} -> {value}")
    return told


def stand_at(schedule: Any, position: int) -> None:
    """Puts a schedule, and its optimizer's rates, where it is after so many steps of it.

    A schedule that knows its rates in closed form is asked for them; one that goes by a metric keeps its rates.
    """
    if hasattr(schedule, "num_bad_epochs"):
        return
    lambdas = getattr(schedule, "lr_lambdas", None)
    closed_form = getattr(schedule, "_get_closed_form_lr", None)
    schedule.last_epoch, schedule._step_count = position, position + 1
    if lambdas is not None:
        rates = [base * function(position) for base, function in zip(schedule.base_lrs, lambdas, strict=True)]
    elif closed_form is not None:
        rates = list(closed_form())
    else:
        return
    for group, rate in zip(schedule.optimizer.param_groups, rates, strict=True):
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
    schedule._last_lr = rates


def _move_rate(group: dict[str, Any], before: float, after: float) -> None:
    # by what it is changed, not to what: a rate that was cut since (after a roll-back) stays cut
    factor = after / before if before else 1.0
    for name in ("lr", "initial_lr"):
        if name in group:
            group[name] = after if group[name] == before else group[name] * factor


def _of_group(group: dict[str, Any]) -> dict[str, Any]:
    settings = {k: _plain(v) for k, v in group.items() if k not in ("params", "lr", "initial_lr", "param_names")}
    return {**settings, "rate": float(group.get("initial_lr", group["lr"]))}


def _class_of(schedule: Any) -> str:
    """Its class, and of one that is made of functions theirs and their settings: they decide what it does."""
    described = [type(schedule).__name__]
    for function in getattr(schedule, "lr_lambdas", []):
        inner = getattr(function, "func", function)
        described.append(f"{inner.__module__}.{getattr(inner, '__qualname__', type(inner).__name__)}")
        keywords = {str(k): str(v) for k, v in getattr(function, "keywords", {}).items()}
        described += [f"{k}={v}" for k, v in sorted(keywords.items()) if " at 0x" not in v]
    return " ".join(described)


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value if value is None or isinstance(value, bool | int | float | str) else repr(type(value).__name__)
