"""What is noted and read of axes and targets: does an operation go along samples, is the answer in the input."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from stablelit.doctor.evidence.wiring import VisibleTarget, WiringFacts, WrongAxis
from stablelit.doctor.probes.batches_stored import loader_of
from stablelit.doctor.probes.operations_record import VIEWS, Operation, OperationRecord, caller

_RECURRENT = frozenset({"lstm", "gru", "rnn_tanh", "rnn_relu"})
_ATTENTION = frozenset({"multi_head_attention_forward", "scaled_dot_product_attention"})
_SOFTMAX = frozenset({"softmax", "log_softmax"})
_RESHAPES = frozenset({"view", "reshape", "flatten"})
_FLAT = frozenset({"round", "floor", "ceil", "trunc", "sign", "sgn"})
# between a softmax and the loss that takes its logarithm
_KEEPS_AXES = VIEWS | {"log", "add", "clamp", "clip"}
_WITH_WEIGHTS = frozenset({"linear", "conv1d", "conv2d", "conv3d", "addmm", "matmul"})
_FEWEST_TOKENS = 64
_ALL_EQUAL = 0.99
_HIDDEN = -1e4


def measure_wiring(operation: Operation, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Takes the notes that `read_wiring` needs."""
    name = operation.name
    if not args or not isinstance(args[0], Tensor):
        return
    given = args[0]
    if name in _SOFTMAX:
        axis = args[1] if len(args) > 1 else kwargs.get("dim", kwargs.get("axis"))
        if isinstance(axis, int) and given.ndim:
            _note(operation, "softmax_axis", axis % given.ndim, given)
    elif name in _RESHAPES:
        _note(operation, "reshaped_from", 0, given)
    elif name in _FLAT and given.requires_grad:
        operation.where = caller()
        operation.notes["flat"] = True
    elif name == "embedding" and not given.is_floating_point():
        operation.notes["tokens"] = given.detach()
    elif name in _RECURRENT:
        _note_recurrence(operation, args)
    elif name in _ATTENTION:
        _note_attention(operation, args, kwargs)


def _note(operation: Operation, note: str, axis: int, given: Tensor) -> None:
    operation.where = caller()
    operation.notes[note] = WrongAxis(operation.name, operation.where, tuple(given.shape), operation.shape, axis)


def _note_recurrence(operation: Operation, args: tuple[Any, ...]) -> None:
    """(input, states, weights, has biases, layers, dropout, training, both directions, batch first)."""
    if len(args) < 9 or (isinstance(args[1], Tensor) and args[1].ndim == 1) or args[0].ndim != 3:
        return
    _note(operation, "steps_axis", 1 if args[8] else 0, args[0])
    operation.notes["sees_future"] = bool(args[7])


def _note_attention(operation: Operation, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    query, key = args[0], args[1] if len(args) > 1 else kwargs.get("key")
    whole = operation.name == "multi_head_attention_forward"
    if whole and query.ndim == 3:
        _note(operation, "steps_axis", 0, query)
    if not isinstance(key, Tensor) or query.shape[:2] != key.shape[:2] or query.shape[-2] != key.shape[-2]:
        return
    mask = kwargs.get("attn_mask", args[3] if len(args) > 3 and not whole else None)
    causal = bool(kwargs.get("is_causal", len(args) > 5 and not whole and args[5]))
    if causal:
        operation.notes["sees_future"] = False
    elif not isinstance(mask, Tensor):
        operation.notes["sees_future"] = True
    elif mask.ndim >= 2 and mask.shape[-1] == mask.shape[-2] > 1:
        later = torch.ones(mask.shape[-2:], dtype=torch.bool, device=mask.device).triu(1)
        # of a Boolean mask, True hides in the one and shows in the other
        hidden = (mask if whole else ~mask) if mask.dtype is torch.bool else mask < _HIDDEN
        of_later = hidden[..., later]
        if bool(of_later.all()) or not bool(of_later.any()):
            operation.notes["sees_future"] = not bool(of_later.any())


def collated_size(trainer: Any) -> int | None:
    """How many samples the training loader puts into a batch: their axis is the first then."""
    loader = loader_of(getattr(trainer, "train_dataloader", None))
    size = getattr(loader, "batch_size", None)
    return size if isinstance(size, int) and size > 1 else None


def read_wiring(
    record: OperationRecord,
    reached: set[int],
    batch_size: int | None,
    shapes: tuple[tuple[int, ...], ...],
    facts: WiringFacts,
) -> None:
    """Writes into `facts` what the operations say about axes and targets.

    Args:
        record: of one training step.
        reached: places from which the loss comes.
        batch_size: of the loader, where it collates samples.
        shapes: of the leaves of the batch.
        facts: are filled.
    """
    operations = record.operations
    loss_made_of = [operations[place] for place in sorted(reached)]
    flat = next((o for o in loss_made_of if "flat" in o.notes and o.has_gradient), None)
    facts.flat = (flat.name, flat.where) if flat is not None else None
    if batch_size is not None and shapes and all(shape[0] == batch_size for shape in shapes):
        facts.samples_as_steps = _samples_as_steps(loss_made_of, batch_size, shapes)
    terms = [place for place in sorted(reached) if "term" in operations[place].notes]
    facts.softmax = _wrong_softmax(record, reached, terms, batch_size)
    for place in terms:
        facts.reshape = facts.reshape or _mixing_reshape(operations, place)
        facts.visible_target = facts.visible_target or _visible_target(operations, operations[place], loss_made_of)


def _samples_as_steps(
    operations: Iterable[Operation], samples: int, shapes: tuple[tuple[int, ...], ...]
) -> WrongAxis | None:
    """One that steps along the samples, where none steps along anything else: (N, T, ...) was (T, N, ...) to it."""
    uses: list[WrongAxis] = [o.notes["steps_axis"] for o in operations if "steps_axis" in o.notes]
    lengths = {shape[1] + extra for shape in shapes if len(shape) > 1 for extra in (-1, 0, 1)} - {samples}
    wrong = [use for use in uses if use.shape[use.axis] == samples and use.shape[1 - use.axis] in lengths]
    return wrong[0] if wrong and len(wrong) == len(uses) else None


def _wrong_softmax(
    record: OperationRecord, reached: set[int], terms: list[int], samples: int | None
) -> WrongAxis | None:
    """Over samples: in front of a loss, or a logarithm of it anywhere. Over one element: in front of a loss."""
    operations = record.operations
    in_front: set[int] = set()
    of_classes: set[int] = set()
    for place in terms:
        source = operations[place].inputs[0] if operations[place].inputs else None
        while source is not None and operations[source].name in _KEEPS_AXES and operations[source].inputs:
            source = operations[source].inputs[0]
        if source is not None:
            in_front.add(source)
            # (rows, classes): whatever the rows are, a softmax over them is none over classes
            if operations[place].notes["term"].prediction_shape == operations[source].shape:
                of_classes |= {source} if operations[place].notes["term"].classes else set()
    for place in sorted(reached):
        of = operations[place]
        use: WrongAxis | None = of.notes.get("softmax_axis")
        if use is None or not of.has_gradient or not of.inputs:
            continue
        if place in in_front and use.shape[use.axis] == 1 and math.prod(use.shape) > 1:
            return use
        if place in of_classes and use.axis == 0 and len(use.shape) == 2 and use.shape[0] != use.shape[1]:
            return use
        over_samples = use.axis == 0 and len(use.shape) > 1 and use.shape[0] == samples
        if not over_samples or use.shape[1] == samples or math.prod(use.shape[1:]) == 1:
            continue
        made = record.operations[record.through_views(of.inputs[0])]
        by_weights = made.name in _WITH_WEIGHTS and any(operations[i].name == "parameter" for i in made.inputs)
        if by_weights and (place in in_front or of.name == "log_softmax"):
            return use
    return None


def _mixing_reshape(operations: list[Operation], term: int) -> WrongAxis | None:
    """(N, C, T) made (N T, C) without a transposition: a row of logits holds C positions of one class."""
    classes = operations[term].notes["term"].classes
    place = operations[term].inputs[0] if operations[term].inputs else None
    while classes and place is not None and operations[place].name in VIEWS and operations[place].inputs:
        use: WrongAxis | None = operations[place].notes.get("reshaped_from")
        if use is not None and len(use.shape) > 2 and len(use.result) == 2 and use.result[1] == classes:
            suffixes = {math.prod(use.shape[i:]) for i in range(1, len(use.shape))}
            if use.shape[1] == classes and classes not in suffixes:
                return use
        place = operations[place].inputs[0]
    return None


def _visible_target(operations: list[Operation], term: Operation, made_of: list[Operation]) -> VisibleTarget | None:
    """Compares a target of tokens with the tokens that the model reads."""
    target: Tensor | None = term.notes.get("target")
    readings = [o for o in made_of if "tokens" in o.notes and target is not None]
    same = [o for o in readings if target is not None and o.notes["tokens"].numel() == target.numel()]
    if target is None or len(same) != 1 or same[0].notes["tokens"].ndim != 2:
        return None
    tokens: Tensor = same[0].notes["tokens"]
    wanted = target.reshape(tokens.shape)
    sequential = [o for o in made_of if "sees_future" in o.notes]
    recurrent = [o for o in sequential if o.name in _RECURRENT]
    if not sequential or tokens.shape[1] < 4 or len(recurrent) > 1 or (recurrent and len(sequential) > 1):
        return None
    open_ = all(o.notes["sees_future"] for o in sequential)
    if not open_ and any(o.notes["sees_future"] for o in sequential):
        return None
    # what is open reads tokens on purpose; only the one that has not come yet must not be among them
    offsets = (1,) if open_ else (0,) if recurrent else (0, -1)
    for offset in offsets:
        equal = _share_equal(tokens, wanted, offset)
        if equal > _ALL_EQUAL:
            leaf = next(iter(sorted(same[0].leaves)), "") or term.notes["term"].target_leaf
            return VisibleTarget(term.where, leaf, offset, equal, sequential[0].name)
    return None


def _share_equal(tokens: Tensor, wanted: Tensor, offset: int) -> float:
    """Of the targets at t that count, those that are the token at t + offset; 0 where there are too few to tell."""
    length = tokens.shape[1]
    here = wanted[:, max(0, -offset) : length - max(0, offset)]
    there = tokens[:, max(0, offset) : length + min(0, offset)]
    counted = here >= 0
    if int(counted.sum()) < _FEWEST_TOKENS or len(torch.unique(here[counted])) < 3:
        return 0.0
    return float((here == there)[counted].float().mean())
