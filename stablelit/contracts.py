"""What a callback may expect of a module, as Protocols, and the scalar at a dotted path.

None of these is a base class: a module that has the attribute has the contract.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from stablelit.errors import ContractError, did_you_mean


@runtime_checkable
class HasKLPenalty(Protocol):
    """A module whose KL term no scalar weight can express, such as free bits per dimension."""

    def kl_penalty(self, kl_per_dim: Tensor) -> Tensor:
        """The penalty of shape (B,) from the KL of each latent dimension, shape (B, d), nats."""
        ...


@runtime_checkable
class HasDifficulty(Protocol):
    """A module, datamodule or sampler that a curriculum can steer.

    It is told 1 before every evaluation, and what it was before after it. One that only trains at a difficulty has
    `difficulty_is_of_training = True` beside this, and evaluation leaves it alone: a datamodule's workers run ahead,
    and would make training batches at full difficulty while a validation goes on.
    """

    def set_difficulty(self, difficulty: float) -> None:
        """Takes a difficulty in [0, 1]; 1 is the full task."""
        ...


@runtime_checkable
class HasDifficultyInfo(Protocol):
    """Something with a difficulty that can say what the difficulty comes to."""

    def difficulty_info(self) -> Mapping[str, float]:
        """Plain numbers by name, such as ``{"t_max": 0.4}``, logged as ``curriculum/<name>``."""
        ...


@runtime_checkable
class HasTrivialLoss(Protocol):
    """A module that knows what its training loss would be without having learned anything."""

    def trivial_loss(self, difficulty: float) -> float | Tensor:
        """The expected training loss of the best predictor that looks at no input, at this difficulty, above 0.

        A curriculum moves the loss whatever the model learns; the loss over this one is comparable over time.
        """
        ...


@runtime_checkable
class FollowsRollback(Protocol):
    """A callback whose loaded state takes effect only when training starts.

    NonFiniteGuard puts a state back in the middle of a fit: `load_state_dict`, and then this.
    """

    def on_rollback(self, trainer: Any, pl_module: Any) -> None:
        """Makes the state that `load_state_dict` has just taken up the one in force. Counters have gone on."""
        ...


@runtime_checkable
class KeepsBooks(Protocol):
    """A callback that writes down what happened (a history, a printer, a monitor) and is no part of the training.

    A rollback undoes training and no history: the state of such a callback is neither kept for it nor put back.
    """

    keeps_books: bool


@runtime_checkable
class HasFigures(Protocol):
    """A module, a metric or a callback that draws pictures of itself."""

    def figures(self) -> Mapping[str, Any]:
        """Matplotlib figures by name."""
        ...


@runtime_checkable
class HasEdgeScores(Protocol):
    """A module that learns a directed graph."""

    def edge_scores(self) -> Tensor:
        """Scores (d, d) or (B, d, d), larger where the edge row -> column is likelier; the diagonal means nothing."""
        ...


@runtime_checkable
class HasEdgeTruth(Protocol):
    """A module that knows the true graph."""

    def edge_truth(self) -> Tensor | None:
        """0 and 1 in the shape of `edge_scores()`, 1 at [i, j] for the edge i -> j; None where it is not known."""
        ...


@runtime_checkable
class HasEdgeStatistics(Protocol):
    """A graph-learning module that can say how well a graph fits its data."""

    def edge_statistics(self) -> tuple[Tensor, float]:
        """The covariance (d, d) of the data and their effective number of samples."""
        ...


@runtime_checkable
class HasHalfSampleScores(Protocol):
    """A graph-learning module that was fitted to several halves of its data."""

    def half_sample_scores(self) -> Tensor:
        """Edge scores (B, d, d), each fitted to another half of the samples."""
        ...


@runtime_checkable
class WritesEdges(Protocol):
    """The edges of a graph, in a form that writes itself."""

    def to_csv(self, path: str | Path) -> None:
        """Writes a line an edge."""
        ...

    def to_graphml(self, path: str | Path) -> None:
        """Writes the graph as GraphML."""
        ...


@runtime_checkable
class HasEdgeList(Protocol):
    """A module that has learned a graph and names its edges."""

    def edge_list(self) -> WritesEdges:
        """The edges as they are now. It is asked on rank zero alone, so it must not wait for other ranks."""
        ...


@runtime_checkable
class GeneratesToFile(Protocol):
    """A generative module that the `generate` door can run."""

    def generate_to_file(self, path: str | Path, n: int, seed: int = 0) -> Mapping[str, Any]:
        """Writes `n` samples in the family's own format and returns what it did, as plain data."""
        ...


@runtime_checkable
class PredictsToFile(Protocol):
    """A module whose predictions the `predict` door can write.

    One that has `prediction_suffixes`, a tuple such as ``(".csv",)``, is asked for a file of these alone, and another
    is refused before anything is predicted.
    """

    def write_predictions(self, predictions: Sequence[Any], path: str | Path) -> Mapping[str, Any]:
        """Writes what `predict_step` has returned of all batches, in the family's own format; returns what it did."""
        ...


@runtime_checkable
class ProbesFeatures(Protocol):
    """A module whose features the `probe` door can judge on somebody's own data."""

    def probe(self, path: str) -> Mapping[str, Any]:
        """Fits a linear probe to frozen features of the data at `path`; returns scores (floats) and what it did."""
        ...


Quantity = str | Callable[..., Any]
"""A key of what `training_step` returns, the name of a logged metric, or a callable of (module, outputs, batch)."""


class Scalar:
    """The number at a dotted path of a module: a float attribute, or a 0-dim tensor that is filled in place.

    Filling a buffer in place keeps a compiled module from recompiling, which a changed Python float would cause.

    Args:
        owner: the module (or datamodule, or any object) that the path starts from.
        path: attribute names joined by dots, such as ``kl_weight`` or ``loss.lambda_sparse``.
        asker: who asks, for the message.

    Raises:
        ContractError: nothing at the path (near names are given), a read-only property, or not a number.
    """

    def __init__(self, owner: object, path: str, asker: str = "stablelit") -> None:
        self.path = path
        *parents, self._name = path.split(".")
        holder = owner
        for depth, parent in enumerate(parents):
            if not hasattr(holder, parent):
                raise _nothing_there(asker, owner, holder, path, ".".join(parents[: depth + 1]))
            holder = getattr(holder, parent)
        if not hasattr(holder, self._name):
            raise _nothing_there(asker, owner, holder, path, path)
        self._holder = holder
        place = f"{type(owner).__name__}.{path}"
        descriptor = getattr(type(holder), self._name, None)
        if isinstance(descriptor, property) and descriptor.fset is None:
            raise ContractError(
                f"{asker}: {place} is a read-only property, so it cannot be scheduled. "
                f"Give it a setter, or name the attribute or buffer behind it."
            )
        value = getattr(holder, self._name)
        self.is_tensor = isinstance(value, Tensor)
        if isinstance(value, torch.nn.Parameter):
            raise ContractError(f"{asker}: {place} is a Parameter: the optimizer owns it. Use a float or a buffer.")
        if isinstance(value, Tensor) and (value.dim() != 0 or not value.is_floating_point()):
            raise ContractError(
                f"{asker}: {place} is a tensor of shape {tuple(value.shape)} and {value.dtype}; "
                f"allowed: a 0-dim floating-point buffer or a float."
            )
        if not self.is_tensor and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ContractError(f"{asker}: {place} is a {type(value).__name__} ({value!r}), not a number.")
        # a module looks for a buffer last of all, which in the middle of a step costs several times what this does
        self._buffers = getattr(holder, "_buffers", {}) if descriptor is None and self.is_tensor else {}

    @property
    def value(self) -> float | Tensor:
        """What stands there now: the float, or the live tensor."""
        value: float | Tensor | None = self._buffers.get(self._name)
        if value is None:
            value = getattr(self._holder, self._name)
        return value

    def set(self, value: float | Tensor) -> None:
        """Writes a number.

        A tensor goes into a tensor without the host waiting for the device; into a float it costs one wait.
        """
        current = getattr(self._holder, self._name)
        if isinstance(current, Tensor):
            # a buffer asks for no gradient, so no context is needed; `detach` shares its memory
            in_place = current.detach() if current.requires_grad else current
            if isinstance(value, Tensor):
                in_place.copy_(value)
            else:
                in_place.fill_(value)
        else:
            setattr(self._holder, self._name, float(value))


def numbers_of(holder: object) -> list[str]:
    """The names at which a schedule could write: float attributes and 0-dim floating-point buffers."""
    names = {n for n, v in vars(holder).items() if isinstance(v, float) and not n.startswith("_")}
    if isinstance(holder, torch.nn.Module):
        names |= {n for n, b in holder.named_buffers(recurse=False) if b.dim() == 0 and b.is_floating_point()}
    return sorted(names)


def _nothing_there(asker: str, owner: object, holder: object, path: str, missing: str) -> ContractError:
    found = numbers_of(holder)
    hint = did_you_mean(missing.rsplit(".", 1)[-1], found)
    asked = "" if missing == path else f" (asked for {path!r})"
    what = f"It has these numbers: {', '.join(found)}." if found else "It has no float attribute and no 0-dim buffer."
    return ContractError(
        f"{asker}: {type(owner).__name__} has nothing at {missing!r}{asked}. {what} {hint} "
        f"Set it in __init__, for example: self.{path} = 1.0"
    )
