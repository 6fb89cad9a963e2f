"""The processor's time that callbacks take of a fit, and the rest of the same fit: two fits are not compared.

Counted is the time of the training's thread between entering a callback and leaving it, wherever it is entered: a
hook of Lightning's (the outermost call), a method that it has put in the place of the module's, the precision
plugin's or the loop's, a hook that it has put on a layer, the writer of checkpoints. While what it has put there calls
the method that was there before, the clock stands. What the clock itself takes is counted for nobody.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from statistics import median
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.plugins.precision import Precision

_IN_A_STEP = (
    "on_train_batch_start",
    "on_train_batch_end",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_before_zero_grad",
)
_SAVES = ("on_save_checkpoint", "state_dict")
_CLIPS = ("clip_grad_by_norm", "clip_grad_by_value", "_clip_gradients")


class Spent:
    """Seconds of one callback: of every step, and of what comes each `epoch`, with each `save`, and `once`."""

    def __init__(self) -> None:
        self.per_step: list[float] = []
        self.seconds: Counter[str] = Counter()

    def in_a_step(self, first: int) -> float:
        """The mean from step `first` on, for some look at every fiftieth alone."""
        counted = self.per_step[first:]
        return sum(counted) / len(counted)

    def once(self, first: int) -> float:
        """What comes at both ends of a fit, and what the steps before `first` take above the others."""
        return self.seconds["once"] + max(0.0, sum(self.per_step[:first]) - first * self.in_a_step(first))


class HookClock(pl.Callback):
    """Times callbacks in one fit; itself the first of the Trainer's callbacks.

    Args:
        module_class: of the module that is trained.
        callbacks: by name; what they spend is in `spent`.
        of_an_entry: seconds that the clock counts for entering and leaving a callback that does nothing.
    """

    def __init__(self, module_class: type, callbacks: dict[str, pl.Callback], of_an_entry: float = 0.0) -> None:
        self._module_class = module_class
        self.spent = {name: Spent() for name in callbacks}
        self.marks: list[float] = []
        self._of_an_entry = of_an_entry
        # innermost last: who is running, None for nobody's, and what kind of time it is
        self._running: list[tuple[Spent | None, str]] = []
        self._since = 0.0
        self._by_a_hook = False
        self._nobodys: list[float] = []
        self._places: list[tuple[dict[str, Any], str, Any]] = []
        self._owners: dict[int, tuple[Any, Spent]] = {}
        for name, callback in callbacks.items():
            hooks = [hook for hook in dir(callback) if hook.startswith("on_")]
            for hook in [*hooks, "setup", "teardown", "state_dict", "load_state_dict"]:
                if getattr(type(callback), hook, None) is not getattr(pl.Callback, hook, None):
                    vars(callback)[hook] = self._hook(self.spent[name], hook, getattr(callback, hook))

    def on_train_batch_start(self, *_: Any) -> None:
        """A step begins."""
        for spent in self.spent.values():
            spent.per_step.append(0.0)
        self._nobodys.append(0.0)
        self.marks.append(time.thread_time())

    @property
    def rest_of_a_step(self) -> float:
        """Seconds of a step without any of the callbacks: the median."""
        own = zip(*(spent.per_step for spent in self.spent.values()), strict=True)
        steps = zip(pairwise(self.marks), own, self._nobodys, strict=False)
        return median(later - mark - sum(taken) - clocks for (mark, later), taken, clocks in steps)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """While a fit runs: methods that a callback may replace stop the clock, hooks on layers are the callback's."""
        theirs: list[tuple[Any, str]] = [(pl.LightningModule, "log"), (torch.nn.utils, "clip_grad_norm_")]
        theirs += [(self._module_class, "training_step")]
        theirs += [(Precision, name) for name in _CLIPS]
        layers = [(torch.nn.Module, name) for name in ("register_forward_hook", "register_forward_pre_hook")]
        kept = [(owner, name, getattr(owner, name)) for owner, name in [*theirs, *layers]]
        for owner, name, original in kept:
            wrap = self.theirs if (owner, name) in theirs else self._registering
            setattr(owner, name, wrap(original))
        try:
            yield
        finally:
            for owner, name, original in kept:
                setattr(owner, name, original)

    def theirs(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same function; the clock stands where what a callback has put in its place calls it."""

        def standing(*args: Any, **kwargs: Any) -> Any:
            # a hook that logs or clips does so on the callback's own account
            if not self._running or self._by_a_hook:
                return call(*args, **kwargs)
            return self._run(None, "", call, args, kwargs)

        return standing

    def _hook(self, spent: Spent, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        kind = "step" if name in _IN_A_STEP else "save" if name in _SAVES else "once"
        if name.startswith(("on_validation", "on_train_epoch")):
            kind = "epoch"

        def hook(*args: Any, **kwargs: Any) -> Any:
            if self._running:
                return call(*args, **kwargs)
            self._by_a_hook = True
            if len(args) > 1 and hasattr(args[0], "precision_plugin"):
                self._fit = args[:2]
            try:
                return self._outermost(spent, kind, call, args, kwargs)
            finally:
                self._by_a_hook = False

        return hook

    def _timed(self, spent: Spent, kind: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            if self._running and self._running[-1][0] is not None:
                return call(*args, **kwargs)
            return self._run(spent, kind, call, args, kwargs)

        return timed

    def _in_place(self, spent: Spent, held: dict[str, Any], name: str, put: Callable[..., Any]) -> Callable[..., Any]:
        timed = self._timed(spent, "step", put)

        def in_place(*args: Any, **kwargs: Any) -> Any:
            # it may take itself away
            held[name] = put
            try:
                return timed(*args, **kwargs)
            finally:
                if held.get(name) is put:
                    held[name] = in_place

        return in_place

    def _outermost(self, spent: Spent, kind: str, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        begin = time.thread_time()
        # a callback finds its own where it has put it
        self._give_places_back()
        before = self._since = time.thread_time()
        try:
            return self._run(spent, kind, call, args, kwargs)
        finally:
            after = time.thread_time()
            self._take_places(spent)
            if self._nobodys:
                self._nobodys[-1] += before - begin + time.thread_time() - after

    def _run(self, spent: Spent | None, kind: str, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        self._settle(0.0)
        self._running.append((spent, kind))
        try:
            return call(*args, **kwargs)
        finally:
            self._settle(self._of_an_entry)
            self._running.pop()

    def _settle(self, less: float) -> None:
        now = time.thread_time()
        if self._running and (spent := self._running[-1][0]) is not None:
            kind, taken = self._running[-1][1], now - self._since - less
            spent.seconds[kind] += taken
            if kind == "step" and spent.per_step:
                spent.per_step[-1] += taken
        self._since = now

    def _registering(self, register: Callable[..., Any]) -> Callable[..., Any]:
        def registering(layer: Any, hook: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            spent = self._running[-1][0] if self._running else None
            return register(layer, self._timed(spent, "step", hook) if spent else hook, *args, **kwargs)

        return registering

    def _take_places(self, spent: Spent) -> None:
        """Times what a callback has put in the place of others' methods: what is new is his who was last called."""
        for held, name in _places(*self._fit):
            if callable(put := held.get(name)):
                self._places.append((held, name, put))
                owner = self._owners.setdefault(id(put), (put, spent))[1]
                held[name] = self._in_place(owner, held, name, put)
        writer = self._fit[0].strategy.checkpoint_io
        if type(writer).__module__.startswith("stablelit.") and "save_checkpoint" not in vars(writer):
            vars(writer)["save_checkpoint"] = self._timed(spent, "save", writer.save_checkpoint)

    def _give_places_back(self) -> None:
        for held, name, put in self._places:
            if name in held:
                held[name] = put
        self._places.clear()


def _places(trainer: Any, module: Any) -> Iterable[tuple[dict[str, Any], str]]:
    """Where a callback may put something of its own."""
    owners = (
        (module, ("log", "kl_penalty", "training_step", "manual_backward")),
        (trainer.precision_plugin, _CLIPS),
        (trainer.fit_loop.epoch_loop, ("_on_before_fetch", "_on_after_fetch")),
    )
    return [(vars(owner), name) for owner, names in owners for name in names]
