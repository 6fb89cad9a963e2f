"""Looks at parameters: are they in an optimizer, do they get gradients, do they move, how far.

What is exact is asked in the first looks only. Later looks measure the step alone, with a handful of foreach calls and
one wait for the device.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from stablelit.doctor.evidence import Curve, Evidence
from stablelit.doctor.evidence.parameters import ParameterFacts
from stablelit.doctor.looks import FIRST_LOOKS
from stablelit.doctor.probes.parameters_census import (
    Census,
    fingerprint_of,
    optimizers_of,
    rate_of,
    take_census,
)
from stablelit.doctor.probes.parameters_clearing import Clearing
from stablelit.doctor.probes.parameters_cut import CallOrder
from stablelit.doctor.probes.parameters_motion import Motion
from stablelit.doctor.probes.parameters_steps import Steps
from stablelit.doctor.probes.parameters_symmetry import Symmetry
from stablelit.doctor.probes.probe import Probe

_MOTION_LOOKS = 24
_CUT_LOOKS = 4
# of a batch, in which gradients are looked at: two players have two or three
_BACKWARDS = 3
_LEAST_STEPS = 3
_PATIENCE = 32


class ParameterProbe(Probe):
    """Fills `Evidence.parameters` and the curves ``grad_norm``, ``update_ratio`` and ``weight_norm``."""

    def __init__(self) -> None:
        self.facts = ParameterFacts()
        self._points: list[tuple[int, dict[str, float]]] = []
        self._start(Census())
        self._first_batch: int | None = None

    def _start(self, census: Census) -> None:
        self._census = census
        self._motion = Motion(census.tensors)
        self._steps = Steps(census)
        self._symmetry = Symmetry(census)
        self._order = CallOrder()
        self._clearing = Clearing()
        self._with_gradient: set[int] = set()
        self._stepped: list[int] = []
        self._shared: set[tuple[int, int]] = set()
        self._backwards = 0
        self._rates_above_zero: set[int] = set()
        self._running: set[int] = set()
        self._unchanged: set[int] = set()
        self._steps_of: dict[int, int] = {}
        self._reference_step: int | None = None
        self._steps_compared = 0
        self._moving_since_reference = 0
        self._idle_steps = 0
        self._batches_since_reference = 0
        self._first_of_census: int | None = None
        self.facts.cut_looks = 0
        self._cut_searches = 0
        self._watching = False
        self._looks_before = self.facts.looks
        self._all_held = len(census.held) == len(census.tensors)
        self._groups = list({id(group): group for group in census.groups if group is not None}.values())

    def begin(self, trainer: Any, pl_module: Any, evidence: Evidence) -> None:
        """Takes the census."""
        self._everything = list(pl_module.parameters())
        self._start(take_census(trainer, pl_module))

    def batch_start(self, trainer: Any, pl_module: Any, batch: Any, step: int) -> None:
        """Takes the census anew where it has changed; watches the order of calls where a gradient is missing."""
        if fingerprint_of(trainer, self._everything) != self._census.fingerprint:
            self.begin(trainer, pl_module, Evidence())
        self._backwards = 0
        self._stepped = []
        self._steps.forget()
        automatic = bool(getattr(pl_module, "automatic_optimization", True))
        self._clearing.batch_start(trainer, automatic)
        self.facts.scheduled = bool(getattr(trainer, "lr_scheduler_configs", None))
        self._count_batch(trainer)
        # where optimizers take turns by hand, some have their gradients later
        waited = automatic or self._batches_since_reference > 32
        self._watching = waited and self._cut_searches < _CUT_LOOKS and bool(self._dark())
        if self._watching:
            self._order.watch(list({id(owner): owner for owner in self._census.owners}.values()))

    def before_backward(self, trainer: Any, pl_module: Any, loss: Tensor, step: int) -> None:
        """Are last step's gradients gone?"""
        self._clearing.before_backward(trainer)

    def after_backward(self, trainer: Any, pl_module: Any, step: int) -> None:
        """Which parameters have got a gradient, and which have moved since the first look."""
        if len(self._with_gradient) < len(self._census.tensors):
            self._with_gradient |= {i for i, t in enumerate(self._census.tensors) if t.grad is not None}
        if self._backwards < _BACKWARDS and self._watches_motion():
            self._motion.look()
            self._reference_step = step if self._reference_step is None else self._reference_step
            # a step that was not finite, or has no rate, moves nothing, and is not counted while all steps are seen
            self._steps_compared = self._moving_in(step)
        self._backwards += 1

    def before_step(self, trainer: Any, pl_module: Any, optimizer: Any, step: int) -> None:
        """Gradients as they are, before a clip."""
        if self._backwards == 0:
            # a backward pass that Lightning does not know of: what it has left is there
            self.after_backward(trainer, pl_module, step)
        for number, own in enumerate(optimizers_of(trainer)):
            if (own is optimizer or own is getattr(optimizer, "optimizer", None)) and number not in self._stepped:
                self._stepped.append(number)
        self._clearing.before_step(optimizer)
        self._steps.before(optimizer)
        self._symmetry.before_step()

    def batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, step: int) -> None:
        """How far the step went."""
        self._order.unwatch()
        self._clearing.batch_end()
        if self._backwards:
            self.facts.looks += 1
            lit = any(i in self._with_gradient for i in self._census.held)
            self.facts.dark_looks = 0 if lit or not self._census.held else self.facts.dark_looks + 1
        if self._stepped:
            self._note_step(step)
        if self._watching:
            self._note_cut()

    def tell(self, evidence: Evidence) -> None:
        """Writes facts and new points."""
        for step, values in self._points:
            for name, value in values.items():
                evidence.curves.setdefault(name, Curve()).add(step, value)
        self._points = []
        # after the first looks little is new but the size of steps
        first = self.facts.looks - self._looks_before <= FIRST_LOOKS or self.facts.looks % 4 == 0
        suspected = bool(self._symmetry.equal or self._clearing.left_over or self._shared)
        if first or suspected or self._watching or self._watches_motion():
            self._conclude()
        self.facts.decay_pull, self.facts.norm_ratio = self._steps.pull, self._steps.norm_ratio
        evidence.parameters = self.facts

    def leave(self, pl_module: Any) -> None:
        """Takes hooks away."""
        self._order.unwatch()

    def _moving_in(self, step: int) -> int:
        """Steps since the reference that could move something: those seen, and those between looks."""
        assert self._reference_step is not None
        if self._moving_since_reference == 0:
            return 0
        return step - self._reference_step - self._idle_steps

    def _watches_motion(self) -> bool:
        """What has not moved yet is looked at for longer: a low precision takes many steps to be told from slowness."""
        looks = self.facts.looks - self._looks_before
        if looks >= FIRST_LOOKS and self._all_held and self._motion.settled:
            return False
        return looks <= _MOTION_LOOKS or (looks <= 3 * _MOTION_LOOKS and bool(self.facts.still))

    def _count_batch(self, trainer: Any) -> None:
        loop = getattr(getattr(trainer, "fit_loop", None), "epoch_loop", None)
        now = getattr(loop, "total_batch_idx", None)
        now = int(now) if now is not None else (self._first_batch or 0) + self.facts.batches + 1
        if self._first_batch is None:
            self._first_batch = now
        self.facts.batches = now - self._first_batch
        self._first_of_census = now if self._first_of_census is None else self._first_of_census
        self._batches_since_reference = now - self._first_of_census

    def _note_step(self, step: int) -> None:
        facts, census = self.facts, self._census
        points = self._steps.after()
        facts.steps += 1
        rates = [rate_of(group) for group in self._groups]
        running = {id(group) for group, rate in zip(self._groups, rates, strict=True) if rate != 0}
        if not running <= self._running:
            self._running |= running
            self._rates_above_zero = {i for i in census.held if id(census.groups[i]) in self._running}
        self._symmetry.step_done(max(rates, default=0.0))
        if points:
            self._points.append((step, points))
        # an optimizer over other tensors steps as well as one over these, and moves nothing here
        outside = [i for i, held in enumerate(census.optimizers) if not held]
        inside = bool(self._motion.graded[census.held].any())
        elsewhere = not inside and bool(self._motion.graded[outside].any())
        astray = (census.foreign > 0 or elsewhere) and not self._steps.some_gradient
        facts.empty_steps = facts.empty_steps + 1 if inside and not self._steps.some_gradient else 0
        if self._steps.finite and ((self._steps.some_gradient and self._rates_above_zero) or astray):
            facts.moving_steps += 1
            self._moving_since_reference += self._motion.seen
            for number in self._stepped if self._motion.seen else ():
                self._steps_of[number] = self._steps_of.get(number, 0) + 1
            if self._motion.seen and self._watches_motion():
                changed = self._motion.changed() if outside else ()
                self._unchanged = {i for i in outside if not changed[i]}
        elif self._motion.seen:
            self._idle_steps += 1
        if len(self._stepped) > 1:
            self._shared |= {(a, b) for a in self._stepped for b in self._stepped if a < b}

    def _dark(self) -> list[int]:
        return [i for i in self._census.held if i not in self._with_gradient and not self._motion.moved[i]]

    def _note_cut(self) -> None:
        facts, census = self.facts, self._census
        dark = self._dark()
        if not dark:
            return
        without = {id(census.owners[i]) for i in dark}
        having = {id(census.owners[i]) for i in self._with_gradient}
        cut = self._order.find(without - having, having)
        self._cut_searches += 1
        if cut is None:
            facts.cut_looks, facts.cut = 0, []
            return
        names: dict[int, str] = {}
        for name, owner in zip(census.names, census.owners, strict=True):
            names.setdefault(id(owner), name.rpartition(".")[0])
        chosen = [i for i in census.held if any(census.owners[i] is module for module in cut.modules)]
        facts.cut = [names[id(module)] for module in cut.modules][:8]
        facts.cut_last, facts.cut_next = names[id(cut.last)], names[id(cut.next)]
        facts.cut_share = census.share(chosen, census.held)
        facts.cut_without_graph = cut.without_graph
        facts.cut_looks += 1

    def _conclude(self) -> None:
        facts, census, motion = self.facts, self._census, self._motion
        facts.trainable, facts.frozen = sum(census.numbers), census.frozen
        facts.foreign = census.foreign
        held = set(census.held)
        if facts.cut and not set(self._dark()):
            facts.cut, facts.cut_looks = [], 0
        late = [] if census.sharded else self._missing(held)
        facts.missing = census.shown(late)
        facts.missing_share = census.share(late, [i for i, graded in enumerate(motion.graded) if graded])
        facts.shared = census.shown(self._in_two()) if self._shared else []
        zero = [i for i in census.held if i not in self._rates_above_zero] if facts.steps else []
        facts.zero_rate_share = census.share(zero, census.held)
        facts.zero_rate_steps = facts.steps if zero else 0
        uphill = [i for i in census.held if (census.groups[i] or {}).get("maximize", False)]
        facts.maximized_share = census.share(uphill, census.held)
        facts.ascent = self._steps.ascent
        # a sparse gradient is not looked into
        dense = {i for i in census.held if (g := census.tensors[i].grad) is None or g.layout == torch.strided}
        zero = [i for i in sorted(dense) if i in self._with_gradient and not motion.graded[i]]
        facts.zero_gradient = census.shown(zero)
        facts.zero_gradient_share = census.share(zero, [i for i in census.held if i in self._with_gradient])
        still = [i for i in motion.still if i in held and self._should_move(i)]
        facts.still = census.shown(still)
        facts.still_share = census.share(still, [i for i in census.held if motion.graded[i]])
        learning = [i for i in census.held if i in self._rates_above_zero]
        facts.still_numbers = motion.still_share(learning)
        facts.still_without_step = facts.steps == 0
        facts.still_steps = self._batches_since_reference if facts.still_without_step else self._steps_compared
        dtypes = [str(census.tensors[i].dtype).removeprefix("torch.") for i in still or learning]
        facts.still_dtype = dtypes[0] if dtypes else ""
        facts.left_over, facts.cleared = self._clearing.left_over, self._clearing.cleared
        facts.interchangeable = census.shown(self._symmetry.equal)
        facts.zero_weights = self._symmetry.zero
        facts.interchangeable_steps = self._symmetry.steps

    def _should_move(self, index: int) -> bool:
        """Whether an optimizer has stepped it three times, or had sixty-four batches for it."""
        if self._batches_since_reference >= _PATIENCE:
            return index in self._rates_above_zero or self.facts.steps == 0
        often = max((self._steps_of.get(number, 0) for number in self._census.optimizers[index]), default=0)
        return index in self._rates_above_zero and often >= _LEAST_STEPS

    def _missing(self, held: set[int]) -> list[int]:
        if self._moving_since_reference < 1 or not self._unchanged:
            return []
        graded = {int(i) for i in self._motion.graded.nonzero()[0]}
        return [
            i
            for i in sorted(graded - held)
            if i in self._unchanged
            and not self._motion.moved[i]
            and self._census.owners[i].training
            and not self._census.optimizers[i]
        ]

    def _in_two(self) -> list[int]:
        """In two optimizers that step in the same batch, where one holds everything that the other holds."""
        found: set[int] = set()
        for one, two in self._shared:
            first = {i for i in self._census.held if one in self._census.optimizers[i]}
            second = {i for i in self._census.held if two in self._census.optimizers[i]}
            if first != second and (first <= second or second <= first):
                found |= first & second
        return sorted(found)
