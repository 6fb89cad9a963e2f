"""Reads from a record of operations what a loss is made of."""

from __future__ import annotations

import math
from collections.abc import Iterable

from torch import Tensor

from stablelit.doctor.evidence.operations import AtTheEdge, Broadcast, FirstUse, LossTerm, OperationFacts
from stablelit.doctor.probes.operations_record import VIEWS, Operation, OperationRecord
from stablelit.doctor.probes.operations_wiring import read_wiring

# what leaves a term the whole loss, but for a constant factor
_SCALES = frozenset({"mean", "sum", "neg", "div", "mul"})


def read(
    record: OperationRecord,
    losses: list[Tensor],
    rows: set[int],
    facts: OperationFacts,
    batch_size: int | None = None,
    shapes: Iterable[tuple[int, ...]] = (),
) -> None:
    """Writes into `facts` what the operations say about these losses.

    Args:
        record: of one training step.
        losses: what was differentiated.
        rows: first axes of the leaves of the batch.
        facts: are filled; of a second step only operations at their edge are added.
        batch_size: of the loader, where it collates samples.
        shapes: of the leaves of the batch.
    """
    operations = record.operations
    places = [place for loss in losses if (place := record.place(loss)) is not None]
    reached = _ancestors(operations, places)
    edges: list[AtTheEdge] = [o.notes["edge"] for o in _once(operations, reached) if "edge" in o.notes]
    facts.edges += [edge for edge in edges if not any(edge.where == known.where for known in facts.edges)]
    facts.traced += 1
    if facts.traced > 1:
        return
    facts.loss = float(losses[0].detach()) if len(losses) == 1 else math.nan
    terms: list[LossTerm] = [o.notes["term"] for o in _once(operations, reached) if "term" in o.notes]
    broadcasts: list[Broadcast] = [o.notes["broadcast"] for o in _once(operations, reached) if "broadcast" in o.notes]
    facts.terms, facts.broadcasts = terms, broadcasts
    if len(places) == 1:
        _find_whole(operations, places[0])
        _find_sum(operations, places[0], rows, facts)
    facts.uses = _uses(record, reached)
    read_wiring(record, reached, batch_size, tuple(shapes), facts.wiring)


def _find_whole(operations: list[Operation], place: int) -> None:
    """Marks the term from which the loss comes through nothing but averages and constants."""
    while "term" not in operations[place].notes:
        operation = operations[place]
        if operation.name not in VIEWS | _SCALES or not operation.inputs:
            return
        varying = [i for i in operation.inputs if operations[i].has_gradient]
        constant = [i for i in operation.inputs if not operations[i].has_gradient]
        if len(varying) != 1 or any(math.prod(operations[i].shape) > 1 for i in constant):
            return
        place = varying[0]
    operations[place].notes["term"].alone = True


def _find_sum(operations: list[Operation], start: int, rows: set[int], facts: OperationFacts) -> None:
    """A sum over samples, from which the loss comes through additions alone: nothing divides it."""
    of_batch = _of_batch(operations)
    waiting = [start]
    while waiting:
        place = waiting.pop()
        operation = operations[place]
        term: LossTerm | None = operation.notes.get("term")
        if term is not None:
            if term.reduction == "sum" and term.target_shape and term.target_shape[0] in rows:
                facts.summed_over, facts.summed_where = term.target_shape[0], term.where
        elif operation.name == "sum":
            over = operation.notes.get("over_batch", ())
            if over and over[0] in rows and over[0] > 1 and of_batch[place]:
                facts.summed_over, facts.summed_where = over[0], operation.where
            elif not over:
                waiting += operation.inputs[:1]
        elif operation.name in VIEWS | {"neg"}:
            waiting += operation.inputs[:1]
        elif operation.name == "add":
            waiting += operation.inputs


def _uses(record: OperationRecord, reached: set[int]) -> list[FirstUse]:
    found: dict[str, FirstUse] = {}
    followers: dict[int, int] = {}
    for place in range(len(record.operations)):
        for source in record.operations[place].inputs:
            followers.setdefault(source, place)
    for place in sorted(reached):
        operation = record.operations[place]
        use: FirstUse | None = operation.notes.get("use")
        if use is None or use.leaf in found:
            continue
        found[use.leaf] = use
        after = followers.get(place)
        while after is not None and _is_bias_or_view(record.operations, after):
            after = followers.get(after)
        use.followed_by = record.operations[after].name if after is not None else ""
    return list(found.values())


def _is_bias_or_view(operations: list[Operation], place: int) -> bool:
    operation = operations[place]
    has_weight = any(operations[i].name == "parameter" for i in operation.inputs)
    return operation.name in VIEWS or (operation.name == "add" and has_weight)


def active_dropout(record: OperationRecord) -> tuple[float, str]:
    """The rate of a functional dropout that was active, and its line; 0 where there was none."""
    found = [(o.notes["dropout"], o.where) for o in record.operations if "dropout" in o.notes]
    return max(found, default=(0.0, ""))


def _of_batch(operations: list[Operation]) -> list[bool]:
    """Whether each result depends on the batch, as far as was seen."""
    depends: list[bool] = []
    for operation in operations:
        from_inputs = any(depends[i] for i in operation.inputs)
        depends.append(bool(operation.leaves) or operation.name == "unknown" or from_inputs)
    return depends


def _ancestors(operations: list[Operation], places: list[int]) -> set[int]:
    reached: set[int] = set()
    waiting = list(places)
    while waiting:
        place = waiting.pop()
        if place not in reached:
            reached.add(place)
            waiting += operations[place].inputs
    return reached


def _once(operations: list[Operation], places: set[int]) -> list[Operation]:
    """The operations there in their order; one of several results counts once."""
    return list({id(operations[place]): operations[place] for place in sorted(places)}.values())
