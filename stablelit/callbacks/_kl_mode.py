"""What the arguments of KLCapCallback come to: the mode, who moves the weight, and the two ends of the warm-up."""

from __future__ import annotations

from typing import Literal, get_args

from stablelit.callbacks._free_bits import FreeBits
from stablelit.contracts import Quantity
from stablelit.errors import ConfigurationError, bad_argument, did_you_mean
from stablelit.functional.free_bits import FreeBitsReduce
from stablelit.functional.kl_controller import KLController, KLMode

KLCapMode = Literal["weight", "target", "capacity", "hinge", "free_bits"]
# the ramp of a target begins at this share of it: a relative error needs a target above 0
_FIRST_TARGET_SHARE = 0.05


def resolve_mode(
    mode: KLCapMode | None, kl_target: float | None, free_bits: float | None, owner: str
) -> tuple[KLCapMode, KLMode]:
    """The mode, and the controller's: free bits leave the weight to `weight` or to `target`.

    Raises:
        ConfigurationError: an unknown mode, `free_bits` in a mode that has none.
    """
    by_weight: KLMode = "weight" if kl_target is None else "target"
    if mode is None:
        mode = by_weight if free_bits is None else "free_bits"
    modes = get_args(KLCapMode)
    if mode not in modes:
        raise bad_argument(owner, "mode", mode, ", ".join(modes), did_you_mean(str(mode), modes))
    if mode == "free_bits":
        return mode, by_weight
    if free_bits is not None:
        raise ConfigurationError(
            f"{owner}: free_bits={free_bits!r} has no effect in mode={mode!r}. Use mode='free_bits' (with a "
            f"kl_target, if the KL is to be held too), or leave it out."
        )
    return mode, mode


def build_free_bits(
    mode: KLCapMode, free_bits: float | None, reduce: FreeBitsReduce, kl_target: float | None, owner: str
) -> FreeBits | None:
    """The penalty of mode `free_bits`; None in the others.

    Raises:
        ConfigurationError: see :class:`FreeBits`.
    """
    if mode != "free_bits":
        return None
    return FreeBits(0.5 if free_bits is None else free_bits, reduce, kl_target, owner)


def check_source(kl: Quantity | None, held_by: KLMode, owner: str) -> Quantity | None:
    """The source of the KL.

    Raises:
        ConfigurationError: none where a controller needs one, or not a source.
    """
    if kl is None and held_by != "weight":
        raise bad_argument(owner, "kl", kl, f"a key, a logged name or a callable, in mode={held_by!r}")
    if kl is not None and not callable(kl) and (not isinstance(kl, str) or not kl):
        raise bad_argument(owner, "kl", kl, "a key of the step's outputs, a logged metric's name or a callable")
    return kl


def ends_of_the_warmup(held: KLController, start: float, base_weight: float, owner: str) -> tuple[float, float]:
    """From where to where the warm-up leads: the weight, or the target of a mode that has one.

    Raises:
        ConfigurationError: a cap below the start, a base weight of `hinge` outside them.
    """
    cap = held.max_weight
    if cap < start:
        raise ConfigurationError(
            f"{owner}: max_weight={cap:g} is below start={start:g}, so the weight would begin above its own "
            f"cap. Give max_weight of at least {start:g}, or a lower start."
        )
    if held.mode == "weight":
        return start, cap
    if held.mode == "hinge":
        if not start <= base_weight <= cap:
            raise bad_argument(owner, "base_weight", base_weight, f"{start:g} (start) to {cap:g} (max_weight)")
        return start, base_weight
    assert held.kl_target is not None
    return _FIRST_TARGET_SHARE * held.kl_target, held.kl_target
