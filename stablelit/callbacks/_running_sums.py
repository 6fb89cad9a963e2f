"""What a training epoch has logged so far, as data: the sums behind its means, and the last value of a step's name.

Lightning keeps neither in its checkpoints (2.6.6). A value of a step is handed to the loggers at every later step of
its epoch until it is logged again (`_ResultCollection.valid_items`): it too belongs to what a run goes on with.
"""

from __future__ import annotations

from typing import Any

import torch

Sums = dict[str, dict[str, Any]]
"""By hook and name: the value, its weight, and how it was logged."""

_PLAIN = ("fx", "name", "prog_bar", "logger", "on_step")
# a hook of its own: Lightning resets what a hook has logged at the first batch after a resume, and `log` refuses a name
# that was logged with other arguments, which a resumed run may have
_BEFORE = " before the resume"


def running_sums(trainer: Any) -> Sums:
    """The sums of the running training epoch by hook and name, as plain data."""
    sums: Sums = {}
    for key, result in _training_results(trainer).items():
        meta = result.meta
        if not result.is_tensor or not meta.on_epoch or result.has_reset or meta.is_custom_reduction:
            continue
        sums[key] = {"value": result.value.item(), "meta": {name: getattr(meta, name) for name in _PLAIN}}
        sums[key]["meta"] |= {"reduce_fx": meta.reduce_fx.__name__, "sync_dist": bool(meta.sync.should)}
        if meta.is_mean_reduction:
            sums[key]["weight"] = float(result.cumulated_batch_size)
    return sums


def begin_running_sums(trainer: Any, sums: Sums) -> None:
    """Lets an epoch in which nothing more is logged under these names end with these sums."""
    results: Any = _training_results(trainer)
    device = trainer.strategy.root_device
    for key, saved in sums.items():
        meta = dict(saved.get("meta", {}))
        if not meta:
            continue  # written before they were kept
        results.log(
            **{**meta, "reduce_fx": getattr(torch, meta["reduce_fx"])},
            value=torch.zeros((), device=device),
            on_epoch=True,
            sync_dist_fn=trainer.strategy.reduce,
            batch_size=0,
        )
        result = results[key]
        # the zero was no step's
        standing = results.get(f"{meta['fx']}{_BEFORE}.{result.meta.forked_name(True)}")
        result._forward_cache = None if standing is None else standing._forward_cache
        result.value = torch.as_tensor(saved["value"], dtype=result.value.dtype, device=device)
        if result.meta.is_mean_reduction:
            result.cumulated_batch_size = torch.as_tensor(int(saved["weight"]), device=device)
        result._computed = None


def add_running_sums(trainer: Any, sums: Sums) -> Sums:
    """Combines saved sums with those that have begun, by each value's own reduction; returns those that have not."""
    results = _training_results(trainer)
    for key in sums.keys() & results.keys():
        result = results[key]
        if not result.is_tensor or result.has_reset:
            continue
        value = torch.as_tensor(sums[key]["value"], dtype=result.value.dtype, device=result.value.device)
        if result.meta.is_max_reduction or result.meta.is_min_reduction:
            result.value = result.meta.reduce_fx(value, result.value)
        else:
            result.value = value + result.value
        if result.meta.is_mean_reduction:
            result.cumulated_batch_size = result.cumulated_batch_size + int(sums[key]["weight"])
        result._computed = None
    return {key: saved for key, saved in sums.items() if key not in results}


def step_values(trainer: Any) -> list[dict[str, Any]]:
    """The last value of every name that is logged by the step, in the order of hooks and names."""
    last: dict[tuple[str, str], dict[str, Any]] = {}
    for result in _training_results(trainer).values():
        if not result.is_tensor or not result.meta.on_step or result.has_reset or result._forward_cache is None:
            continue
        # one that stands from before a resume comes before the one that was logged since
        fx, name = result.meta.fx.removesuffix(_BEFORE), result.meta.forked_name(True)
        shown = {"prog_bar": result.meta.prog_bar, "logger": result.meta.logger}
        last[fx, name] = {"fx": fx, "name": name, **shown, "value": result._forward_cache.detach().cpu().clone()}
    return [last[key] for key in sorted(last)]


def stand_as_step_values(trainer: Any, values: list[dict[str, Any]]) -> None:
    """Has them stand until they are logged again."""
    results: Any = _training_results(trainer)
    for saved in values:
        fx, value = saved["fx"] + _BEFORE, saved["value"].to(trainer.strategy.root_device)
        results.log(**{**saved, "fx": fx, "value": value}, on_step=True, on_epoch=False, batch_size=1)


def forget_step_values(trainer: Any) -> None:
    """Their epoch is over."""
    results = _training_results(trainer)
    for key in [key for key, result in results.items() if result.meta.fx.endswith(_BEFORE)]:
        del results[key]


def _training_results(trainer: Any) -> dict[str, Any]:
    results: dict[str, Any] = trainer.fit_loop.epoch_loop._results
    return results
