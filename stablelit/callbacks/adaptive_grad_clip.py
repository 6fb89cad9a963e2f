"""Clips gradients at a threshold that follows them: by percentile, by outlier, or by the size of the weights.

Runs    on_before_optimizer_step: after the scaler has unscaled; in manual optimisation after the module's own clip
Reads   the gradients of the optimizer that steps
Writes  the same gradients, in place
Logs    grad/adaptive_threshold every `log_every_n_steps`, where there is one (not in mode `agc`, nor while ZClip warms
        up); with several optimizers their number comes last, a `name` second. GradClipMonitor has norm and ratio
Resumes exactly: the history is in the checkpoint, in a form whose size does not grow
Limits  the percentile is that of a histogram, within 0.6 %; the norm costs a pass over the gradients, unless another
        callback has asked for it; `agc` not with sharded parameters. No step waits for the device, but for those in
        which the loggers listen. No GPU path was run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from stablelit.callbacks._clip_event import ClipEvent
from stablelit.callbacks._epoch_log import log_step, loggers_hear_this_batch
from stablelit.callbacks._gradient_tap import GradientTap
from stablelit.errors import ConfigurationError, ContractError, bad_argument, did_you_mean
from stablelit.functional.adaptive_clip import (
    add_to_histogram,
    agc_,
    clip_to_,
    histogram_percentile,
    new_histogram,
    new_z_state,
    zclip_step,
)
from stablelit.functional.gradients import total_norm
from stablelit.functional.schedules import check_number

ClipMode = Literal["autoclip", "zclip", "agc"]
_OWNER = "AdaptiveGradClip"


class AdaptiveGradClip(pl.Callback):
    """Takes the place of Trainer(gradient_clip_val=...), whose fixed number depends on the units of the loss.

    ==========  ====================================================================================================
    mode        the gradients of an optimizer are scaled down
    ==========  ====================================================================================================
    `autoclip`  to the `percentile` of all its norms so far (`histogram_percentile`)
    `zclip`     where the norm is an outlier among the last ones (`zclip_step`)
    `agc`       unit by unit, to a share of the unit's weights (`agc_`)
    ==========  ====================================================================================================

    The formulas are in `stablelit.functional.adaptive_clip`. Each optimizer has a history of its own. Gradients whose
    norm is not finite are left as they are, for the scaler or a guard to see, and enter no history.

    Args:
        mode: see the table.
        percentile: of `autoclip`, in (0, 100]; at 10 nine steps in ten are clipped.
        z_threshold: of `zclip`, in standard deviations.
        alpha: of `zclip`, the decay of its averages, in (0, 1).
        warmup_steps: of `zclip`, steps of which the first averages are made, at least 2.
        clipping: of `agc`, the largest share of a unit's weight norm that its gradient may have.
        eps: of `agc`, what the norm of a unit's weights counts at least.
        exclude: of `agc`, names of parameters or modules that are not clipped. The paper leaves out the last linear
            layer, which cannot be found by its form: name it, or give an empty list to clip everything.
        max_norm: of `autoclip` and `zclip`, a fixed threshold on top, also while warming up.
        name: tells two instances apart; a second one in a Trainer needs another.

    Raises:
        ConfigurationError: an argument out of range or without effect in this mode; `agc` without `exclude`; a
            Trainer that clips itself, two instances of one name, a name in `exclude` that is not there (before
            training); `agc` with sharded parameters (in the first step).
        ContractError: no optimizer step of an epoch went through Lightning, so nothing was clipped.

    Source: Seetharaman et al. 2020 (arXiv:2007.14469), Kumar et al. 2025 (arXiv:2504.02507), Brock et al. 2021
    (arXiv:2102.06171).

    Example:
        >>> from stablelit import AdaptiveGradClip
        >>> callback = AdaptiveGradClip("zclip", max_norm=1.0)
    """

    def __init__(
        self,
        mode: ClipMode = "autoclip",
        percentile: float = 10.0,
        z_threshold: float = 2.5,
        alpha: float = 0.97,
        warmup_steps: int = 25,
        clipping: float = 0.01,
        eps: float = 1e-3,
        exclude: Sequence[str] | None = None,
        max_norm: float | None = None,
        name: str | None = None,
    ) -> None:
        if mode not in get_args(ClipMode):
            raise bad_argument(_OWNER, "mode", mode, ", ".join(get_args(ClipMode)), did_you_mean(str(mode), _MODES))
        self.mode: ClipMode = mode
        self.percentile = check_number(_OWNER, "percentile", percentile, above=0.0, at_most=100.0)
        self.z_threshold = check_number(_OWNER, "z_threshold", z_threshold, above=0.0)
        if check_number(_OWNER, "alpha", alpha, above=0.0) >= 1.0:
            raise bad_argument(_OWNER, "alpha", alpha, "a number in (0, 1)")
        if isinstance(warmup_steps, bool) or not isinstance(warmup_steps, int) or warmup_steps < 2:
            raise bad_argument(_OWNER, "warmup_steps", warmup_steps, "an int of 2 or more")
        self.alpha, self.warmup_steps = alpha, warmup_steps
        self.clipping = check_number(_OWNER, "clipping", clipping, above=0.0)
        self.eps = check_number(_OWNER, "eps", eps, above=0.0)
        if exclude is not None and (isinstance(exclude, str) or not all(isinstance(e, str) and e for e in exclude)):
            raise bad_argument(_OWNER, "exclude", exclude, "a list of names of parameters or modules")
        if exclude is not None and mode != "agc":
            raise bad_argument(_OWNER, "exclude", exclude, f"None in mode={mode!r}", "Only mode='agc' goes by layers.")
        if max_norm is not None:
            check_number(_OWNER, "max_norm", max_norm, above=0.0)
            if mode == "agc":
                raise bad_argument(_OWNER, "max_norm", max_norm, "None in mode='agc'", "It goes by `clipping`.")
        if name is not None and (not isinstance(name, str) or not name):
            raise bad_argument(_OWNER, "name", name, "a non-empty string or None")
        self.exclude = None if exclude is None else tuple(exclude)
        self.max_norm, self.name = max_norm, name
        self._tap: GradientTap | None = None
        self._saw_a_batch = self._saw_a_step = False
        self._states: dict[int, Tensor] = {}
        self._thresholds: dict[int, Tensor] = {}
        self._excluded: set[int] = set()

    def __repr__(self) -> str:
        return f"{_OWNER}({self.mode!r}{f', name={self.name!r}' if self.name else ''})"

    @property
    def state_key(self) -> str:
        """The key of this callback's state in a checkpoint."""
        return f"{_OWNER}[{self.name or ''}]"

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuses a second clip.

        Raises:
            ConfigurationError: see the class.
        """
        if stage != "fit":
            return
        if trainer.gradient_clip_val:
            raise ConfigurationError(
                f"{_OWNER}(mode={self.mode!r}) beside Trainer(gradient_clip_val={trainer.gradient_clip_val!r}) would "
                f"clip twice. Take gradient_clip_val away"
                + ("." if self.mode == "agc" else f", or keep it as {_OWNER}(max_norm={trainer.gradient_clip_val!r}).")
            )
        callbacks: list[Any] = list(getattr(trainer, "callbacks", []))
        for other in callbacks:
            if other is not self and isinstance(other, AdaptiveGradClip) and other.name == self.name:
                raise ConfigurationError(
                    f"{_OWNER}: two of them in one Trainer with name={self.name!r}. Keep one, or give one a name."
                )
        self._tap = GradientTap.on(trainer, pl_module)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Finds the parameters that are not clipped.

        Raises:
            ConfigurationError: see the class.
        """
        if self.mode != "agc":
            return
        named = dict(pl_module.named_parameters())
        if self.exclude is None:
            last = list(named)[-1].rpartition(".")[0] or list(named)[-1]
            raise ConfigurationError(
                f"{_OWNER}: mode='agc' needs exclude=: the paper does not clip the last linear layer. The last one "
                f"that {type(pl_module).__name__} registers is {last!r}: exclude=[{last!r}]; exclude=[] clips them all."
            )
        self._excluded = set()
        for name in self.exclude:
            found = [p for n, p in named.items() if n == name or n.startswith(f"{name}.")]
            if not found:
                known = [*named, *(n for n, _ in pl_module.named_modules() if n)]
                raise ConfigurationError(
                    f"{_OWNER}: exclude has {name!r}, but {type(pl_module).__name__} has no parameter there. "
                    f"{did_you_mean(name, known)} It has: {', '.join(n for n, _ in pl_module.named_children())}."
                )
            self._excluded |= {id(p) for p in found}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A callback that is used again begins anew."""
        if trainer.global_step == 0:
            self._states = {}
        self._saw_a_batch = self._saw_a_step = False

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        """Clips, and tells what it did."""
        assert self._tap is not None
        self._saw_a_step = True
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if parameters:
            act = self._clip_units if self.mode == "agc" else self._clip_norm
            self._tap.tell(act(self._tap, optimizer, parameters))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Says so where it had nothing to clip, rather than nothing.

        Raises:
            ContractError: see the class.
        """
        if self._saw_a_batch and not self._saw_a_step:
            raise ContractError(
                f"{_OWNER}: an epoch went by and no optimizer step went through Lightning, so nothing was clipped. "
                f"{type(pl_module).__name__} must step the optimizers that self.optimizers() returns."
            )

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Logs the threshold where the loggers listen."""
        self._saw_a_batch = True
        if not self._thresholds or trainer.fit_loop._should_accumulate():
            return
        if (hears := loggers_hear_this_batch(trainer)) or trainer.is_last_batch:
            prefix = f"grad/{self.name}" if self.name else "grad"
            several = len(trainer.optimizers) > 1
            values = {i: float(threshold) for i, threshold in self._thresholds.items()}
            names = {i: f"{prefix}/adaptive_threshold{f'/{i}' if several else ''}" for i in values}
            log_step(trainer, {names[i]: v for i, v in values.items() if v < torch.inf}, hears)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Lets go of the tap."""
        self._release()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Lets go of the tap."""
        self._release()

    def state_dict(self) -> dict[str, Any]:
        """The history of each optimizer."""
        return {"mode": self.mode, "states": {str(i): state.cpu().clone() for i, state in self._states.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes it up; it holds from the next step on."""
        if state_dict["mode"] != self.mode:
            rank_zero_info(f"{_OWNER}: the checkpoint's history is of mode={state_dict['mode']!r}; it begins anew.")
            return
        self._states = {int(i): state.clone() for i, state in state_dict["states"].items()}

    def _clip_norm(self, tap: GradientTap, optimizer: Any, parameters: list[Any]) -> ClipEvent:
        norm, index = tap.norm_now(optimizer).float(), tap.index(optimizer)
        state = self._states.get(index)
        if state is None:
            state = new_histogram(norm.device) if self.mode == "autoclip" else new_z_state(norm.device)
        state = state.to(norm.device)
        if self.mode == "autoclip":
            add_to_histogram(state, norm)
            threshold = histogram_percentile(state, self.percentile)
        else:
            threshold, state = zclip_step(state, norm, self.z_threshold, self.alpha, self.warmup_steps)
        if self.max_norm is not None:
            threshold = threshold.clamp_max(self.max_norm)
        self._states[index], self._thresholds[index] = state, threshold
        coefficient = clip_to_([p.grad for p in parameters], norm, threshold)
        return ClipEvent(optimizer, index, norm, True, threshold, coefficient, "adaptive")

    def _clip_units(self, tap: GradientTap, optimizer: Any, parameters: list[Any]) -> ClipEvent:
        if any(hasattr(p, "device_mesh") for p in parameters):
            raise ConfigurationError(
                f"{_OWNER}: mode='agc' needs whole rows of every weight, and sharded parameters (FSDP2) have parts of "
                f"them. Use mode='zclip' or 'autoclip'."
            )
        clipped = [p for p in parameters if id(p) not in self._excluded]
        rest = total_norm([p.grad for p in parameters if id(p) in self._excluded])
        scale = tap.scale_left(optimizer)
        before = after = torch.zeros((), device=parameters[0].grad.device)
        if clipped:
            clipping = self.clipping if scale is None else self.clipping * scale.to(before.device)
            before, after = agc_(clipped, [p.grad for p in clipped], clipping, self.eps)
        before, after = torch.hypot(before, rest.to(before)), torch.hypot(after, rest.to(before))
        coefficient = torch.where(before > 0, after / before, 1.0)
        norm = before if scale is None else before / scale.to(before.device)
        return ClipEvent(optimizer, tap.index(optimizer), norm, True, None, coefficient, "adaptive")

    def _release(self) -> None:
        if self._tap is not None:
            self._tap.release()
        self._tap, self._thresholds = None, {}


_MODES = get_args(ClipMode)
