"""Asks once, in the first training step, whether a loss component moves the parameters that it is meant to move.

Runs    on_train_start (looks the targets up); inside the first `training_step`; never again
Reads   the components that `training_step` returns live (not detached), the module's parameters
Writes  nothing: stands before `training_step` (and `manual_backward`) on the instance for one call
Logs    nothing; the attribute `table` has the answers, and `print_table` prints them
Resumes a run that goes on behind its check does not repeat it, unless `repeat` is set
Limits  that one step costs a backward pass a component and, under manual optimisation, its activations twice; a
        compiled module runs it uncompiled; reentrant activation checkpointing cannot be looked into; a gradient is
        looked for in one batch: one that is zero by chance there is reported as zero
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import lightning.pytorch as pl

from stablelit.callbacks._first_step import FirstStepTap
from stablelit.callbacks._ranks import gather_from_ranks
from stablelit.callbacks._reach_answers import ReachAnswers, ReachLine, parameters_at
from stablelit.errors import ContractError, bad_argument
from stablelit.findings import Action, Finding, FindingReporter
from stablelit.functional.schedules import check_number
from stablelit.lost_reports import say

_OWNER = "GradientReachCheck"
Targets = Mapping[str, Any]
"""Component to target, or to several: ``{"recon": "structure"}``, ``{"recon": ["encoder", "decoder.out.weight"]}``."""

_REMEDIES = {
    "unused": "the component is computed without these parameters: use them on the way to it",
    "zero": "something on the way has derivative 0 in this batch: a hard threshold, round, a clamp or ReLU that is "
    "off, a weight of 0",
    "detached": "return the component live: without .item(), .detach(), .long() or torch.no_grad() on its way",
    "frozen": "set requires_grad on these parameters, or take them out of must_reach",
    "non-finite": "look for a division by 0, a log or sqrt of 0 on the way",
    "reaches": "detach where the gradient is meant to stop",
}


class GradientReachCheck(pl.Callback):
    """Finds a part of the model that the loss cannot train, before an hour was spent on it.

    Without being asked it reports a component that is nearly the whole loss and sends a gradient into no parameter:
    such a loss cannot fall, whatever its curve looks like. A component that is returned detached counts only if the
    loss's gradient is a linear combination of those of the live components, so that a detached copy for the log is no
    alarm.

    Args:
        must_reach: component to target or targets. A component is a key of what `training_step` returns (live), or of
            its `loss_components`; ``"loss"`` where it returns a tensor. A target is the dotted name of a parameter or
            of a submodule. Some non-zero gradient must arrive at each target, on at least one rank.
        must_not_reach: likewise, where a gradient has to stop: BYOL's target network, a detached prior.
        dominant_share: the share of the loss from which a component without a gradient is reported unasked.
        print_table: print what was found, also where it is well.
        repeat: look again when a run is resumed.
        action: what a finding does: `raise` (a loss that does not train what it was named for is an error of the model,
            and the first step is the cheapest place for it), `stop` or `warn`. Findings: `gradient-does-not-reach`,
            `gradient-not-stopped`, `loss-without-gradient`.
        name: distinguishes instances.

    Raises:
        ConfigurationError: an argument out of range.
        ContractError: no such parameter (before the first batch); no such component, a freed graph (in the first).
        FindingError: with `action="raise"`, in the first step.

    Example:
        >>> from stablelit import GradientReachCheck
        >>> check = GradientReachCheck({"recon": ["encoder", "structure"]}, must_not_reach={"loss": "target"})
    """

    keeps_books = True

    def __init__(
        self,
        must_reach: Targets | None = None,
        must_not_reach: Targets | None = None,
        dominant_share: float = 0.9,
        print_table: bool = False,
        repeat: bool = False,
        action: Action = "raise",
        name: str | None = None,
    ) -> None:
        self.must_reach = _checked_targets("must_reach", must_reach)
        self.must_not_reach = _checked_targets("must_not_reach", must_not_reach)
        both = [pair for pair in _pairs(self.must_reach) if pair in _pairs(self.must_not_reach)]
        if both:
            raise bad_argument(_OWNER, "must_not_reach", dict(both), "other pairs than those of must_reach")
        self.dominant_share = check_number(_OWNER, "dominant_share", dominant_share, above=0.0, at_most=1.0)
        for flag, value in (("print_table", print_table), ("repeat", repeat)):
            if not isinstance(value, bool):
                raise bad_argument(_OWNER, flag, value, "True or False")
        if name is not None and (not isinstance(name, str) or not name):
            raise bad_argument(_OWNER, "name", name, "a non-empty string or None")
        self.print_table, self.repeat, self.name = print_table, repeat, name
        self.table: list[ReachLine] = []
        self._reporter = FindingReporter(self.state_key, action)
        self._tap: FirstStepTap | None = None
        self._done = False

    def __repr__(self) -> str:
        return f"{_OWNER}(must_reach={self.must_reach}, must_not_reach={self.must_not_reach})"

    @property
    def state_key(self) -> str:
        """The key of this callback's state in a checkpoint."""
        return f"{_OWNER}[{self.name or ''}]"

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Looks the targets up and stands before `training_step`."""
        if trainer.global_step == 0:  # also where the callback is used again
            self._done = False
            self._reporter.load_state_dict({})
        for _, target in _pairs(self.must_reach) + _pairs(self.must_not_reach):
            parameters_at(pl_module, target, _OWNER)
        if not self._done or self.repeat:
            self._tap = FirstStepTap(pl_module, lambda outputs: self._look(trainer, pl_module, outputs))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leaves the module, if no step came."""
        self._release()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leaves the module, if no step came."""
        self._release()

    def state_dict(self) -> dict[str, Any]:
        """Whether it has looked, at what, and what it reported."""
        return {"done": self._done, "asked": self._asked, "findings": self._reporter.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes them up; what nobody asked for then is looked at now."""
        self._done = bool(state_dict["done"]) and state_dict["asked"] == self._asked
        self._reporter.load_state_dict(state_dict["findings"])

    @property
    def _asked(self) -> list[list[list[str]]]:
        return [[list(pair) for pair in _pairs(targets)] for targets in (self.must_reach, self.must_not_reach)]

    def _release(self) -> None:
        if self._tap is not None:
            self._tap.release()
        self._tap = None

    def _look(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any) -> None:
        self._tap, self._done = None, True
        answer: Any
        pairs = _pairs(self.must_reach) + _pairs(self.must_not_reach)
        try:
            answer = ReachAnswers(pl_module, outputs, pairs, self.dominant_share, _OWNER).plain()
        except ContractError as error:
            answer = str(error)
        # what one rank raises alone leaves the others waiting for it
        ranks = gather_from_ranks(trainer, answer)
        for other in ranks:
            if isinstance(other, str):
                raise ContractError(other)
        self.table = [_merged(lines) for lines in zip(*(rank["table"] for rank in ranks), strict=True)]
        if self.print_table and trainer.is_global_zero:
            say(trainer, _OWNER, "\n".join([f"{_OWNER}: gradients of the first step", *(f"  {x}" for x in self.table)]))
        self._report(trainer, [rank["dominant"] for rank in ranks])

    def _report(self, trainer: pl.Trainer, dominant: list[list[ReachLine]]) -> None:
        found = {(line.component, line.target): line for line in self.table}
        missing = [found[p] for p in _pairs(self.must_reach) if found[p].reach.state != "reaches"]
        through = [found[p] for p in _pairs(self.must_not_reach) if found[p].reach.state in ("reaches", "non-finite")]
        # a property of the model is one on every rank; a batch without such a gradient can be one rank's alone
        everywhere = [x for x in dominant[0] if all(x.component in {y.component for y in rank} for rank in dominant)]
        for name, lines, verb in (
            ("gradient-does-not-reach", missing, "is to be trained and is not"),
            ("gradient-not-stopped", through, "gets a gradient that was to stop before it"),
            ("loss-without-gradient", everywhere, "get no gradient from what is nearly the whole loss"),
        ):
            if lines:
                remedies = dict.fromkeys(_REMEDIES[line.reach.state] for line in lines)
                evidence: dict[str, float | int | str] = {}
                for line in lines:
                    pair = f"{line.component} -> {line.target}"
                    evidence |= {pair: line.reach.state, f"norm {pair}": line.reach.norm, f"share {pair}": line.share}
                message = "; ".join(f"{line.target} {verb}: {line}" for line in lines) + "."
                self._reporter.report(trainer, Finding(name, "critical", message, evidence, "; ".join(remedies)))


def _merged(lines: Sequence[ReachLine]) -> ReachLine:
    """One line for all ranks: a gradient that arrives on one of them arrives, and one that is not finite is not."""
    for state in ("non-finite", "reaches"):
        for line in lines:
            if line.reach.state == state:
                return line
    return lines[0]


def _pairs(targets: Targets) -> list[tuple[str, str]]:
    return [(component, target) for component, several in targets.items() for target in several]


def _checked_targets(argument: str, targets: Targets | None) -> dict[str, list[str]]:
    allowed = "a mapping of component to the dotted name of a submodule or parameter, or to a list of them"
    if targets is None:
        return {}
    if not isinstance(targets, Mapping):
        raise bad_argument(_OWNER, argument, targets, allowed)
    checked = {}
    for component, target in targets.items():
        several = [target] if isinstance(target, str) else target
        wrong = (
            not isinstance(several, Sequence) or not several or any(not isinstance(t, str) or not t for t in several)
        )
        if not isinstance(component, str) or not component or wrong:
            raise bad_argument(_OWNER, argument, {component: target}, allowed)
        checked[component] = list(several)
    return checked
