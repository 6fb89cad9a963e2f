"""Everything that is seen of one run: when it is looked at, by whom, and what comes of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from torch import Tensor

from stablelit.doctor.evidence import Curve, Evidence
from stablelit.doctor.logged import LoggedValues
from stablelit.doctor.looks import LookClock
from stablelit.doctor.losses import TrainingLosses
from stablelit.doctor.monitors import CarriedMonitors
from stablelit.doctor.probe_set import ProbeSet
from stablelit.doctor.probes import all_probes
from stablelit.doctor.rates import LearningRates
from stablelit.doctor.roles import RoleNamer
from stablelit.doctor.trainer_settings import planned_steps, read_settings
from stablelit.findings import Finding

_VALIDATION_LOOKS = 2


class Examination:
    """Gathers the evidence of one run, from the hooks of a Trainer, within a budget.

    Losses and learning rates are taken of every step. In a look the probes see a batch from its start to its end; the
    clock says when that is, and when all of the evidence is to be judged.

    Args:
        budget: share of the time of training that looking may cost.
        hear: takes what monitors find that are carried along.

    Attributes:
        evidence: all that was seen.
    """

    def __init__(self, budget: float, hear: Callable[[Finding], None]) -> None:
        self.evidence = Evidence()
        self._clock = LookClock(budget)
        self._probes = ProbeSet(all_probes())
        self._monitors = CarriedMonitors(hear)
        self._losses, self._rates = TrainingLosses(), LearningRates()
        self._logged, self._roles = LoggedValues(), RoleNamer()
        self._looks = False
        self._automatic = True
        self._validation_looks = 0
        self._began = self._step_seconds = 0.0

    def begin(self, trainer: Any, pl_module: Any, every: int | None) -> None:
        """Training begins, or goes on; looks are `every` steps apart, or as far as the budget says."""
        self.evidence.settings = read_settings(trainer, pl_module)
        self._automatic = self.evidence.settings.automatic is not False
        self.evidence.planned_steps = planned_steps(trainer, pl_module)
        # the loop counts a step after its checkpoint may have been written, so what that holds of ours is right
        self.evidence.step = self.evidence.step or trainer.fit_loop.epoch_loop._batches_that_stepped
        self._clock.begin(every)
        self._monitors.begin(trainer, pl_module)
        self._probes.call("begin", trainer, pl_module, self.evidence)

    def batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Begins a look, where it is time."""
        self.close_look(pl_module)
        self._began = time.perf_counter()
        self._looks = self._clock.wants_look(self.evidence.step)
        self._monitors.call("on_train_batch_start", trainer, pl_module, batch, batch_idx)
        if self._looks:
            self._probes.call("batch_start", trainer, pl_module, batch, self.evidence.step)

    def before_backward(self, trainer: Any, pl_module: Any, loss: Tensor) -> None:
        """Keeps the loss of manual optimisation; in a look the graph is looked at."""
        if not self._automatic:
            self._losses.backward(loss, getattr(getattr(trainer.precision_plugin, "scaler", None), "_scale", None))
        self._monitors.call("on_before_backward", trainer, pl_module, loss)
        if self._looks:
            self._probes.call("before_backward", trainer, pl_module, loss, self.evidence.step)

    def after_backward(self, trainer: Any, pl_module: Any) -> None:
        """In a look, gradients are looked at."""
        if self._looks:
            self._probes.call("after_backward", trainer, pl_module, self.evidence.step)

    def before_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Keeps the rate, which a schedule changes before the batch is over; in a look, norms are taken."""
        if not self._automatic:
            self._losses.optimizer_steps(_index(trainer, optimizer))
        self._rates.optimizer_steps(optimizer)
        if self._looks:
            self._probes.call("before_step", trainer, pl_module, optimizer, self.evidence.step)
        self._monitors.call("on_before_optimizer_step", trainer, pl_module, optimizer)

    def batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> tuple[bool, bool]:
        """Keeps loss and rate; ends a look.

        Returns:
            Whether there is something new to judge, and whether it is time to judge everything.
        """
        step = self.evidence.step
        accumulated = trainer.accumulate_grad_batches
        # to ask Lightning costs as much as all else in a step without a look
        stepped = accumulated == 1 or not trainer.fit_loop._should_accumulate()
        optimizers = 1 if self._automatic else len(trainer.optimizers)
        self._losses.batch(outputs, self._automatic, accumulated, stepped, step, optimizers)
        if self._looks:
            self._probes.call("batch_end", trainer, pl_module, outputs, batch, step)
        self._monitors.meet(trainer, pl_module, outputs)
        self._monitors.call("on_train_batch_end", trainer, pl_module, outputs, batch, batch_idx)
        looked, self._looks = self._looks, False
        self._step_seconds += time.perf_counter() - self._began
        if not stepped:
            return False, False
        self.evidence.step = step + 1
        self.evidence.settings.accumulated = accumulated
        self._rates.step(step)
        wanted = self._clock.wants_judgement(step)
        if looked or wanted or not self._losses.is_finite:
            self._flush()
        if looked:
            self._probes.tell(pl_module, self.evidence)
            self._clock.looked(step, self._step_seconds, self._probes.seconds)
        else:
            self._clock.add_step(self._step_seconds)
        self._step_seconds = self._probes.seconds = 0.0
        return looked or wanted or not self._losses.is_finite, wanted

    def judged(self, seconds: float, suspects: bool) -> None:
        """To judge everything after the last step has taken so long, and something may be the matter or not."""
        self._clock.judged(self.evidence.step - 1, seconds, suspects)

    def validation_start(self, trainer: Any, pl_module: Any) -> None:
        """A few batches of it are looked at."""
        self.close_look(pl_module)
        self._logged.validation_begins(trainer)
        self._monitors.call("on_validation_start", trainer, pl_module)
        self._validation_looks = _VALIDATION_LOOKS

    def validation_batch_start(self, trainer: Any, pl_module: Any, batch: Any) -> None:
        """Begins a look into validation."""
        if self._validation_looks > 0:
            self._probes.call("validation_batch_start", trainer, pl_module, batch, self.evidence.step)

    def validation_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, *indices: int) -> None:
        """Ends it; `indices` are those of the batch and of its loader."""
        if indices[-1] == 0:
            self._logged.validation_batch(outputs)
        self._monitors.call("on_validation_batch_end", trainer, pl_module, outputs, batch, *indices)
        if self._validation_looks > 0:
            self._validation_looks -= 1
            self._probes.call("validation_batch_end", trainer, pl_module, outputs, batch, self.evidence.step)

    def validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Takes what validation has logged; a sanity check's numbers are of no run."""
        self._validation_looks = 0
        self._flush()
        self._monitors.call("on_validation_end", trainer, pl_module)
        if not trainer.sanity_checking:
            self._logged.validated(trainer, self.evidence.curves, self.evidence.step)
            self._roles.add_to(self.evidence.curves, self.evidence.settings)
            self._probes.tell(pl_module, self.evidence)

    def epoch_start(self) -> None:
        """Takes what the epoch before has logged."""
        self._flush()
        self._logged.epoch_is_over(self.evidence.curves)
        self._roles.add_to(self.evidence.curves, self.evidence.settings)

    def epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """What the epoch has logged is there a hook later."""
        self.close_look(pl_module)
        self._monitors.call("on_train_epoch_end", trainer, pl_module)
        self._logged.epoch_ends(trainer, self.evidence.step)

    def end(self) -> None:
        """Training is over: takes what is left."""
        self._flush()
        self._logged.epoch_is_over(self.evidence.curves)
        self.evidence.ended = True

    def break_off(self, pl_module: Any) -> None:
        """An exception has ended training: takes what the last look and the last steps have left."""
        self._probes.tell(pl_module, self.evidence)
        self._flush()

    def close_look(self, pl_module: Any) -> None:
        """Ends a look that no end of a batch has ended: a hook has skipped the batch."""
        if self._looks:
            self._looks = False
            self._probes.leave(pl_module)

    def leave(self, trainer: Any, pl_module: Any) -> None:
        """Takes every hook away, and lets go of the Trainer."""
        self._looks, self._validation_looks = False, 0
        self._probes.leave(pl_module)
        self._monitors.call("on_train_end", trainer, pl_module)
        self._logged.forget()

    def _flush(self) -> None:
        """Adds losses and rates of the steps since to the curves."""
        self._losses.flush(self.evidence.curves)
        self._rates.flush(self.evidence.curves)

    def state_dict(self) -> dict[str, Any]:
        """Curves, what others have found, and what the parts keep, as plain data and tensors."""
        self._flush()
        self._logged.epoch_is_over(self.evidence.curves)
        return {
            "step": self.evidence.step,
            "curves": {name: curve.state_dict() for name, curve in self.evidence.own_curves().items()},
            "raised": [asdict(finding) for finding in self.evidence.raised],
            "clock": self._clock.state_dict(),
            "monitors": self._monitors.state_dict(),
            "losses": self._losses.state_dict(),
            "probes": self._probes.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes it up."""
        self.evidence.step = state["step"]
        self.evidence.curves = {name: Curve.of_state(curve) for name, curve in state["curves"].items()}
        self.evidence.raised = [Finding(**data) for data in state["raised"]]
        self._clock.load_state_dict(state["clock"])
        self._monitors.load_state_dict(state["monitors"])
        self._losses.load_state_dict(state["losses"])
        self._probes.load_state_dict(state["probes"])


def _index(trainer: Any, optimizer: Any) -> int:
    return next((i for i, own in enumerate(trainer.optimizers) if own is optimizer), 0)
