"""What is measured of an operation while its arguments are there: losses, first uses, values at an edge."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from stablelit.doctor.evidence.operations import Broadcast, FirstUse, LossTerm
from stablelit.doctor.probes.operations_edges import EDGES, measure_edge
from stablelit.doctor.probes.operations_record import Operation, OperationRecord, caller
from stablelit.doctor.probes.operations_wiring import measure_wiring

LOSSES = {
    "cross_entropy": "cross_entropy",
    "nll_loss": "nll",
    "binary_cross_entropy": "bce",
    "binary_cross_entropy_with_logits": "bce_with_logits",
    "mse_loss": "mse",
    "l1_loss": "l1",
    "smooth_l1_loss": "huber",
    "huber_loss": "huber",
    "gaussian_nll_loss": "gaussian_nll",
    "poisson_nll_loss": "poisson_nll",
    "kl_div": "kl_div",
}
_CLASSES = frozenset({"cross_entropy", "nll"})
_ELEMENTWISE = frozenset({"sub", "mse", "l1", "huber"})
RANGES = {
    "relu": (0.0, math.inf),
    "relu6": (0.0, 6.0),
    "sigmoid": (0.0, 1.0),
    "softmax": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "hardtanh": (-1.0, 1.0),
    "softplus": (0.0, math.inf),
}
_WEIGHTED = """
linear bilinear matmul mm bmm addmm baddbmm einsum mul add sub conv1d conv2d conv3d conv_transpose1d conv_transpose2d
conv_transpose3d embedding embedding_bag batch_norm layer_norm group_norm instance_norm rms_norm lstm gru rnn_tanh
rnn_relu multi_head_attention_forward
"""
_FIRST_USES = frozenset(_WEIGHTED.split())
# beside what was learned of other columns
_JOINS = frozenset({"cat", "concat", "concatenate", "hstack"})
_CHANNELS_FIRST = ("conv", "batch_norm", "group_norm", "instance_norm")
# a logit so low that it was meant to be left out
_MASKED_LOGIT = -1e4
_MOST_FEATURES = 4096


def measure(
    record: OperationRecord, operation: Operation, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Tensor
) -> None:
    """Takes the notes that `operations_reading` needs."""
    name = operation.name
    if not _is_readable(result, *(value for value in args if isinstance(value, Tensor))):
        return
    with torch.no_grad():
        if name in LOSSES:
            _measure_loss(record, operation, args, kwargs, result)
        elif name == "sub" and operation.has_gradient:
            _measure_difference(record, operation, args)
        elif name in ("pow", "square", "mul", "abs") and operation.has_gradient:
            _measure_distance(record, operation, args, result)
        elif name == "sum":
            operation.where = caller()
            operation.notes["over_batch"] = tuple(args[0].shape[:1]) if _takes_first_axis(args, kwargs) else ()
        elif name in ("dropout", "scaled_dot_product_attention"):
            _measure_dropout(operation, args, kwargs)
        if name in EDGES and (operation.has_gradient or operation.leaves):
            measure_edge(operation, args, result)
        measure_wiring(operation, args, kwargs)
        if name in _FIRST_USES:
            _measure_use(record, operation, args)
        elif name in _JOINS and operation.has_gradient and isinstance(args[0], tuple | list):
            for value in args[0]:
                _measure_use(record, operation, (value,))
        if result.numel() == 1 and operation.has_gradient:
            operation.notes["scalar"] = result.detach().clone()


def _measure_loss(
    record: OperationRecord, operation: Operation, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Tensor
) -> None:
    prediction = args[0] if args else kwargs["input"]
    target = args[1] if len(args) > 1 else kwargs["target"]
    kind = LOSSES[operation.name]
    operation.where = caller()
    reduction = str(kwargs.get("reduction", "sum" if kwargs.get("size_average") is False else "mean"))
    term = _pair(record, kind, prediction, target, operation.where)
    term.reduction = reduction
    term.weighted = any(kwargs.get(name) is not None for name in ("weight", "pos_weight"))
    term.weight_ratio = _weight_ratio(kwargs)
    if kind in _CLASSES:
        term.classes = int(prediction.shape[1 if prediction.ndim > 1 else 0])
        counted = prediction.detach().float() > _MASKED_LOGIT
        term.candidates = float(counted.sum()) * term.classes / max(prediction.numel(), 1)
        ignored = int(kwargs.get("ignore_index", -100))
        samples = int((target != ignored).sum()) if not target.is_floating_point() else target.shape[0]
    else:
        samples = result.numel() if reduction == "none" else max(prediction.numel(), target.numel())
    if kind == "nll" and prediction.ndim > 1:
        term.log_mass = float(prediction.detach().double().logsumexp(1).abs().max())
    if kind in _CLASSES and not target.is_floating_point():
        operation.notes["target"] = target.detach()
        term.target_entropy = _entropy(target[target >= 0], term.classes)
    total = float(result.detach().double().sum())
    divided = {"sum": samples, "none": samples}.get(reduction, 1)
    term.value = total / divided if divided else math.nan
    operation.notes["term"] = term
    _note_broadcast(operation, kind, prediction, target)


def _entropy(classes: Tensor, most: int | None) -> float:
    if not most or classes.numel() < 20 * most:
        return math.nan
    shares = torch.bincount(classes.flatten()).double() / classes.numel()
    return float(-torch.special.xlogy(shares, shares).sum())


def _weight_ratio(kwargs: Mapping[str, Any]) -> float:
    weights = kwargs.get("pos_weight") if kwargs.get("pos_weight") is not None else kwargs.get("weight")
    if not isinstance(weights, Tensor) or weights.ndim > 1 or ("pos_weight" not in kwargs and weights.numel() < 2):
        return 1.0
    some = weights.detach().double().flatten()
    some = torch.cat([some, some.new_ones(1)]) if kwargs.get("pos_weight") is not None else some[some > 0]
    return float(some.max() / some.min()) if len(some) and float(some.min()) > 0 else 1.0


def _measure_difference(record: OperationRecord, operation: Operation, args: tuple[Any, ...]) -> None:
    """A subtraction of a target: one side has a gradient, the other comes from the batch alone."""
    if len(args) < 2 or not all(isinstance(value, Tensor) and value.is_floating_point() for value in args[:2]):
        return
    a, b = args[:2]
    if a.requires_grad == b.requires_grad:
        return
    prediction, target = (a, b) if a.requires_grad else (b, a)
    if not _leaves(record, target) or target.ndim == 0:
        return
    operation.where = caller()
    operation.notes["pair"] = _pair(record, "", prediction, target, operation.where)
    _note_broadcast(operation, "sub", prediction, target)


def _measure_distance(record: OperationRecord, operation: Operation, args: tuple[Any, ...], result: Tensor) -> None:
    """The square, or the absolute value, of such a difference."""
    source = record.operations[record.through_views(operation.inputs[0])] if operation.inputs else None
    pair = source.notes.get("pair") if source is not None else None
    if pair is None:
        return
    squares = operation.name == "square" or (operation.name == "pow" and len(args) > 1 and args[1] == 2)
    squares = squares or (operation.name == "mul" and len(args) > 1 and args[0] is args[1])
    if not squares and operation.name != "abs":
        return
    pair.kind = "mse" if squares else "l1"
    pair.reduction = "none"
    pair.value = float(result.detach().double().mean())
    operation.notes["term"] = pair


def _pair(record: OperationRecord, kind: str, prediction: Tensor, target: Tensor, where: str) -> LossTerm:
    place = record.through_views(_place(record, prediction))
    made = record.operations[place]
    before = record.operations[record.through_views(made.inputs[0])] if made.inputs else None
    leaves = _leaves(record, target)
    values = prediction.detach().double()
    term = LossTerm(
        kind=kind,
        where=where,
        prediction_shape=tuple(prediction.shape),
        target_shape=tuple(target.shape),
        made_by=made.name,
        made_from=before.name if before is not None else "",
        low=float(values.min()) if values.numel() else math.nan,
        high=float(values.max()) if values.numel() else math.nan,
        prediction_rms=float(values.square().mean().sqrt()),
        target_leaf=next(iter(leaves)) if len(leaves) == 1 else "",
    )
    if target.is_floating_point() and target.numel():
        wanted = target.detach().double()
        wanted = wanted[wanted.isfinite()]
        term.target_mean = float(wanted.mean())
        term.target_std = float(wanted.std(unbiased=False))
        term.target_rms = float(wanted.square().mean().sqrt())
        if made.name in RANGES and kind not in _CLASSES:
            low, high = RANGES[made.name]
            slack = 1e-3 * (high - low if math.isfinite(high) else 1.0)
            outside = (wanted < low - slack) | (wanted > high + slack)
            term.unreachable = float(outside.double().mean())
    return term


def _note_broadcast(operation: Operation, kind: str, prediction: Tensor, target: Tensor) -> None:
    """(N, 1) against (N,): as many values on both sides, and more of them after."""
    if kind not in _ELEMENTWISE or prediction.shape == target.shape or prediction.numel() < 2:
        return
    a, b = tuple(prediction.shape), tuple(target.shape)
    if a == (*b, 1) or b == (*a, 1):
        operation.notes["broadcast"] = Broadcast(operation.name, operation.where or caller(), a, b)


def _measure_use(record: OperationRecord, operation: Operation, args: tuple[Any, ...]) -> None:
    given = next((value for value in args[:2] if isinstance(value, Tensor) and _leaves(record, value)), None)
    others = [record.operations[place] for place in operation.inputs]
    joined = operation.name in _JOINS
    if given is None or not (joined or any(other.name == "parameter" for other in others)) or "use" in operation.notes:
        return
    leaves = _leaves(record, given)
    operation.where = caller()
    use = FirstUse(leaf="+".join(sorted(leaves)), operation=operation.name, where=operation.where)
    operation.notes["use"] = use
    if not given.is_floating_point() or given.ndim < 2 or given.numel() == 0:
        return
    values = given.detach()
    axis = 1 if operation.name.startswith(_CHANNELS_FIRST) else values.ndim - 1
    by_feature = values.transpose(0, axis).flatten(1)[:_MOST_FEATURES].double()
    finite = by_feature[:, by_feature.isfinite().all(0)]
    if finite.shape[1] < 4:
        return
    mean, std = finite.mean(1), finite.std(1, unbiased=False)
    moving = std[std > 0]
    use.features = len(std)
    use.rms = float(finite.square().mean().sqrt())
    if len(moving):
        use.offset_over_spread = float(mean.square().mean().sqrt() / std.square().mean().sqrt())
        use.feature_spread = float(moving.max() / moving.median())


def _measure_dropout(operation: Operation, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Active, and not by a module: its mode is told elsewhere."""
    if operation.name == "dropout":
        rate = args[1] if len(args) > 1 else kwargs.get("p", 0.5)
        active = args[2] if len(args) > 2 else kwargs.get("training", True)
    else:
        rate, active = args[4] if len(args) > 4 else kwargs.get("dropout_p", 0.0), True
    frame: Any = sys._getframe(1)
    while frame is not None and not frame.f_code.co_filename.endswith(("dropout.py", "activation.py")):
        frame = frame.f_back
    if active and rate and frame is None:
        operation.where = caller()
        operation.notes["dropout"] = float(rate)


def _takes_first_axis(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    if not args or args[0].ndim == 0:
        return False
    axes = args[1] if len(args) > 1 else kwargs.get("dim", kwargs.get("axis"))
    if axes is None:
        return True
    axes = axes if isinstance(axes, tuple | list) else (axes,)
    return any(isinstance(axis, int) and axis % args[0].ndim == 0 for axis in axes)


def _place(record: OperationRecord, tensor: Tensor) -> int:
    place = record.place(tensor)
    assert place is not None
    return place


def _leaves(record: OperationRecord, tensor: Tensor) -> frozenset[str]:
    return record.operations[_place(record, tensor)].leaves


def _is_readable(*tensors: Tensor) -> bool:
    return not any(
        type(tensor) not in (Tensor, torch.nn.Parameter)
        or tensor.layout is not torch.strided
        or tensor.device.type == "meta"
        or torch._C._functorch.is_functorch_wrapped_tensor(tensor)
        for tensor in tensors
    )
