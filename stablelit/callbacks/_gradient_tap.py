"""Where Lightning clips gradients: the norm before the clip, measured once a step and told to all who listen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from stablelit.callbacks._clip_event import ClipEvent
from stablelit.callbacks._step_health import scale_left
from stablelit.callbacks._two_lightnings import defined_as_in, inner_optimizer, is_a
from stablelit.errors import ConfigurationError
from stablelit.functional.gradients import share_above, total_norm

Listener = Callable[[ClipEvent], None]

_HOOKED = ("clip_grad_by_norm", "clip_grad_by_value", "_clip_gradients")
_MARK = "_stablelit_gradient_tap"
_SHARE_EVERY = 10


class GradientTap:
    """Stands before three methods of the Trainer's precision plugin, on the instance, for as long as somebody holds it.

    Every listener gets one :class:`ClipEvent` an optimizer step, after every `on_before_optimizer_step` and every clip
    and before the step, in automatic and in manual optimisation, also where nothing clips. (LBFGS evaluates its
    closure several times a step: one event an evaluation.) A listener may still change the gradients.

    The norm is the clip's own: where Lightning clips by norm it costs nothing. Elsewhere it is one pass over the
    gradients, two where the module's own `configure_gradient_clipping` clips with torch's function. In half precision
    (16-true, bf16-true) the clip's own norm overflows or has three digits, so the norm told is measured beside it.
    In manual optimisation `self.clip_gradients` is seen; `torch.nn.utils.clip_grad_norm_` in `training_step` is not,
    and the norm told is then the one after it.

    Made by :meth:`on`, never directly.
    """

    def __init__(self, trainer: Any, pl_module: Any) -> None:
        self.trainer, self._module = trainer, pl_module
        self._plugin = plugin = trainer.precision_plugin
        self._listeners: list[Listener] = []
        self._holders = 0
        self._running: dict[int, tuple[int, ClipEvent]] = {}
        self._clips: dict[int, bool] = {}
        self._half: dict[int, tuple[int, bool]] = {}
        self._lightnings_own = "clip_grad_by_norm" not in vars(plugin) and defined_as_in(
            "Precision", type(plugin), "clip_grad_by_norm"
        )
        self._overridden = "configure_gradient_clipping" in vars(pl_module) or not defined_as_in(
            "LightningModule", type(pl_module), "configure_gradient_clipping"
        )
        self._local_shards = is_a("FSDPPrecision", plugin)
        self._was = {name: vars(plugin).get(name) for name in _HOOKED}
        self._originals = {name: getattr(plugin, name) for name in _HOOKED}
        self._hooks = dict(zip(_HOOKED, (self._clip_by_norm, self._clip_by_value, self._clip), strict=True))
        vars(plugin).update(self._hooks, **{_MARK: self})

    @classmethod
    def on(cls, trainer: Any, pl_module: Any, listener: Listener | None = None) -> GradientTap:
        """The Trainer's tap; for use in `setup(stage="fit")`. Each call needs its :meth:`release`.

        Args:
            trainer: whose precision plugin it sits on.
            pl_module: which it trains.
            listener: called with every event.

        Raises:
            ConfigurationError: FSDP1 with the Trainer's own clip by norm, which Lightning refuses in the first step;
                DeepSpeed, which keeps the gradients to itself.
        """
        plugin = trainer.precision_plugin
        tap: GradientTap | None = vars(plugin).get(_MARK)
        if tap is None:
            tap = cls(trainer, pl_module)
            tap._refuse()
        tap._holders += 1
        if listener is not None:
            tap._listeners.append(listener)
        return tap

    def release(self, listener: Listener | None = None) -> None:
        """Takes a listener off; the last one puts the plugin's methods back as they were.

        For use in `teardown` and in `on_exception`: after an exception Lightning does not call `teardown`.
        """
        if listener in self._listeners:
            self._listeners.remove(listener)
        self._holders -= 1
        if self._holders <= 0:
            self._put_back()

    def norm(self, optimizer: Any) -> Tensor:
        """The norm of the running step's gradients before any clip, shape (); measured once, then remembered.

        For use in `on_before_optimizer_step` where :meth:`will_clip` is false. Collective where gradients are sharded.
        """
        return self._event(optimizer).norm

    def norm_now(self, optimizer: Any) -> Tensor:
        """The norm of the gradients as they are: another one than :meth:`norm` where a clip has already been told."""
        event = self._event(optimizer)
        if event.kind is None:
            return event.norm
        return self._unscaled(optimizer, self._measure(_gradients(self._parameters(event.optimizer))))

    def applied(self, optimizer: Any) -> Tensor | None:
        """What the running step's gradients have been multiplied with so far, shape (); None where nothing has."""
        event = self._known(inner_optimizer(optimizer))
        return None if event is None else event.coefficient

    def will_clip(self, optimizer: Any) -> bool:
        """Whether a clip by norm is to come that will tell the norm for nothing, so that :meth:`norm` can wait.

        Where the module overrides `configure_gradient_clipping`, the last step says whether it calls Lightning's clip.
        """
        if not self._module.automatic_optimization:
            return False
        if self._overridden:
            return self._clips.get(id(inner_optimizer(optimizer)), False)
        algorithm = self.trainer.gradient_clip_algorithm
        return bool(self.trainer.gradient_clip_val) and (algorithm is None or algorithm == "norm")

    def scale_left(self, optimizer: Any) -> Tensor | None:
        """The factor of the gradient scaler that the gradients still carry, shape (); None where they carry none."""
        return scale_left(self.trainer, optimizer)

    def tell(self, event: ClipEvent) -> None:
        """Takes what a clip of ours did in `on_before_optimizer_step`; listeners hear of it with the step's one event.

        Where another clip came before it in the same step, the norm stays that before the first, and the coefficients
        are multiplied.
        """
        before = self._known(event.optimizer)
        if before is not None:
            event = replace(event, norm=before.norm)
            first, second = before.coefficient, event.coefficient
            if first is not None and second is not None:
                # neither threshold belongs to this norm
                event = replace(event, factor=first * second, max_norm=None)
        self._running[id(event.optimizer)] = (self._batch(), event)

    def index(self, optimizer: Any) -> int:
        """The place of an optimizer in `trainer.optimizers`."""
        inner = inner_optimizer(optimizer)
        for place, other in enumerate(self.trainer.optimizers):
            if other is inner or inner_optimizer(other) is inner:
                return place
        return 0

    def _refuse(self) -> None:
        plugin, clip = self._plugin, self.trainer.gradient_clip_val
        if is_a("DeepSpeedPrecision", plugin):
            self._put_back()
            raise ConfigurationError(
                "DeepSpeed keeps the gradients to itself, so no callback can look at their norm. Read "
                "trainer.strategy.model.get_global_grad_norm(), or train with DDP or ModelParallelStrategy."
            )
        if self._local_shards and clip and not self._overridden and self.trainer.gradient_clip_algorithm != "value":
            self._put_back()
            raise ConfigurationError(
                f"Trainer(gradient_clip_val={clip!r}) with FSDPStrategy: Lightning cannot clip by norm there. Override "
                f"configure_gradient_clipping in {type(self._module).__name__} and call "
                f"self.trainer.strategy.model.clip_grad_norm_({clip!r}), or use ModelParallelStrategy (FSDP2)."
            )

    def _put_back(self) -> None:
        self._holders = 0
        self._running.clear()
        held = vars(self._plugin)
        for name, hook in self._hooks.items():
            # somebody who wrapped ours keeps his wrapper: ours passes everything on from now
            if held.get(name) is hook:
                del held[name]
                if self._was[name] is not None:
                    held[name] = self._was[name]
        if held.get(_MARK) is self:
            del held[_MARK]

    def _clip(self, model: Any, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        """Around the clip, in every optimizer step: Lightning calls it after `on_before_optimizer_step`."""
        original = self._originals["_clip_gradients"]
        if not self._holders:
            return original(model, optimizer, *args, **kwargs)  # type: ignore[no-any-return]
        inner = inner_optimizer(optimizer)
        if not self.will_clip(inner):
            self._event(inner)
        before = self._known(inner)
        original(model, optimizer, *args, **kwargs)
        event = self._event(inner)
        if self._overridden and self._module.automatic_optimization:
            seen = event is not before
            self._clips[id(inner)] = seen and event.own_norm is not None
            if not seen and event.kind is None and event.gradients:
                event = self._custom(event)
        try:
            for listener in tuple(self._listeners):
                listener(event)
        finally:
            self._running.pop(id(inner), None)
        return None

    def _custom(self, event: ClipEvent) -> ClipEvent:
        now = self._unscaled(event.optimizer, self._measure(_gradients(self._parameters(event.optimizer))))
        # 0 / 0 is no clip
        return replace(event, kind="custom", factor=torch.where(event.norm > 0, now / event.norm, 1.0))

    def _clip_by_norm(self, optimizer: Any, clip_val: float) -> Any:
        if not self._holders:
            return self._originals["clip_grad_by_norm"](optimizer, clip_val)
        inner = inner_optimizer(optimizer)
        before, scale = self._known(inner), self.scale_left(inner)
        norm = None if before is None else before.norm
        if norm is None and (not self._lightnings_own or self._in_half(inner)):
            norm = self._unscaled(inner, self._measure(_gradients(self._parameters(inner))))
        if self._lightnings_own:
            # what the plugin's method does, but for throwing the norm away
            own = torch.nn.utils.clip_grad_norm_(self._plugin.main_params(optimizer), clip_val)
            own = own.full_tensor() if hasattr(own, "full_tensor") else own
        else:
            own = norm if scale is None or norm is None else norm * scale  # type: ignore[assignment]
            self._originals["clip_grad_by_norm"](optimizer, clip_val)
        if norm is None:
            norm = own if scale is None else own / scale.to(own.device)
        event = ClipEvent(
            inner,
            self.index(inner),
            norm,
            any(p.grad is not None for p in self._plugin.main_params(inner)),
            clip_val if scale is None else clip_val / scale,
            kind="norm" if before is None or before.kind is None else before.kind,
            own_norm=own,
            own_max_norm=clip_val,
            scaled=scale is not None,
        )
        self.tell(event)
        return None

    def _clip_by_value(self, optimizer: Any, clip_val: float) -> Any:
        original = self._originals["clip_grad_by_value"]
        if not self._holders:
            return original(optimizer, clip_val)
        inner = inner_optimizer(optimizer)
        event = self._event(inner)
        scaled, share = self.scale_left(inner) is not None, None
        # a share takes five passes over the gradients; this counter of Lightning's goes on in a resumed run
        if self.trainer.fit_loop.epoch_loop._batches_that_stepped % _SHARE_EVERY == 0:
            share = share_above(_gradients(self._parameters(optimizer)), clip_val)
        original(optimizer, clip_val)
        self._running[id(inner)] = (self._batch(), replace(event, kind="value", clipped_share=share, scaled=scaled))
        return None

    def _event(self, optimizer: Any) -> ClipEvent:
        """What is known of the running step; measures the norm if nothing is."""
        inner = inner_optimizer(optimizer)
        event = self._known(inner)
        if event is None:
            gradients = _gradients(self._parameters(inner))
            norm = self._unscaled(inner, self._measure(gradients))
            event = ClipEvent(inner, self.index(inner), norm, bool(gradients))
            self._running[id(inner)] = (self._batch(), event)
        return event

    def _known(self, inner: Any) -> ClipEvent | None:
        batch, event = self._running.get(id(inner), (None, None))
        # in manual optimisation somebody may clip and then not step: that is forgotten with its batch
        return event if batch == self._batch() else None

    def _batch(self) -> int:
        return int(self.trainer.fit_loop.epoch_loop.batch_progress.total.ready)

    def _parameters(self, optimizer: Any) -> list[Any]:
        return list(self._plugin.main_params(optimizer))

    def _measure(self, gradients: list[Tensor]) -> Tensor:
        norm = total_norm(gradients)
        if self._local_shards:  # FSDP1 needs a GPU in Lightning; this line was not run there
            norm = self.trainer.strategy.reduce(norm.square(), reduce_op="sum").sqrt()
        return norm

    def _unscaled(self, optimizer: Any, norm: Tensor) -> Tensor:
        scale = self.scale_left(optimizer)
        return norm if scale is None else norm / scale.to(norm.device)

    def _in_half(self, inner: Any) -> bool:
        number, half = self._half.get(id(inner), (-1, False))
        now = sum(len(group["params"]) for group in inner.param_groups)
        if number != now:
            half = any(p.dtype in (torch.float16, torch.bfloat16) for p in self._parameters(inner))
            self._half[id(inner)] = (now, half)
        return half

    def __deepcopy__(self, memo: dict[int, Any]) -> GradientTap:
        return self  # a copy of a callback must not copy the Trainer behind the plugin


def _gradients(parameters: list[Any]) -> list[Tensor]:
    return [p.grad for p in parameters if p.grad is not None]
