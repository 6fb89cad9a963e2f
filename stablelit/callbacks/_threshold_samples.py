"""Per-sample scores and targets of an evaluation: collected in bounded memory, gathered from the ranks, measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DistributedSampler

from stablelit.callbacks._ranks import gather_from_ranks
from stablelit.callbacks._threshold_choice import ThresholdChoice
from stablelit.contracts import Quantity
from stablelit.errors import ContractError, bad_argument, did_you_mean
from stablelit.functional.multilabel_thresholds import in_first_half
from stablelit.functional.score_groups import Array, ScoreGroups, group_scores, merge_groups, thin_groups

Activation = Literal["none", "sigmoid", "softmax"]
_MOST_PARTS = 64


@dataclass(frozen=True)
class SampleSources:
    """Where per-sample scores are; see ThresholdSweepValidation.

    Raises:
        ConfigurationError: not a key and not a callable, an unknown activation.
    """

    owner: str
    scores: Quantity
    targets: Quantity
    groups: Quantity | None
    activation: Activation

    def __post_init__(self) -> None:
        for name in ("scores", "targets", "groups"):
            value = getattr(self, name)
            if not (callable(value) or (isinstance(value, str) and value) or (name == "groups" and value is None)):
                raise bad_argument(self.owner, name, value, "a key of the step's outputs, or a callable")
        if self.activation not in get_args(Activation):
            raise bad_argument(self.owner, "activation", self.activation, ", ".join(get_args(Activation)))

    def read(self, pl_module: Any, outputs: Any, batch: Any, step: str) -> tuple[Tensor, Tensor, Tensor | None]:
        """Scores and targets of one shape, (N, ...), and the groups, (N,).

        Raises:
            ContractError: nothing there (what is there is listed), or shapes that do not fit.
        """
        scores, targets = (self._find(name, pl_module, outputs, batch, step) for name in ("scores", "targets"))
        groups = None if self.groups is None else self._find("groups", pl_module, outputs, batch, step)
        if self.activation == "sigmoid":
            scores = torch.sigmoid(scores)
        elif self.activation == "softmax":
            if scores.dim() < 1 or scores.shape[-1] != 2:
                raise ContractError(
                    f"{self.owner}: activation='softmax' takes scores of two classes, (..., 2); they have shape "
                    f"{tuple(scores.shape)}. Of more classes give one-vs-rest scores and targets."
                )
            scores = torch.softmax(scores, -1)[..., 1]
        if scores.shape != targets.shape or scores.dim() == 0:
            raise ContractError(
                f"{self.owner}: scores have shape {tuple(scores.shape)} and targets {tuple(targets.shape)} in "
                f"{type(pl_module).__name__}.{step}; allowed: one shape, with the samples first. A trailing "
                f"dimension of 1 is taken off with squeeze(-1); two logits are activation='softmax'."
            )
        if groups is not None and (groups.shape != scores.shape[:1] or groups.is_floating_point()):
            raise ContractError(
                f"{self.owner}: groups are a tensor of {groups.dtype} and shape {tuple(groups.shape)}; allowed: an "
                f"integer for each sample, {tuple(scores.shape[:1])}."
            )
        return scores, targets, groups

    def _find(self, name: str, pl_module: Any, outputs: Any, batch: Any, step: str) -> Tensor:
        source = getattr(self, name)
        if callable(source):
            found = source(pl_module, outputs, batch)
        else:
            found = outputs.get(source) if isinstance(outputs, Mapping) else None
        if isinstance(found, Tensor):
            return found.detach()
        module = type(pl_module).__name__
        if callable(source):
            raise ContractError(f"{self.owner}: the callable for {name} returned {type(found).__name__}, not a tensor.")
        keys = [str(key) for key in outputs] if isinstance(outputs, Mapping) else []
        there = f"the keys {', '.join(keys)}" if keys else f"{type(outputs).__name__}"
        raise ContractError(
            f"{self.owner}: {module}.{step} returns {there}, and no tensor at {source!r} ({name}). "
            f"{did_you_mean(source, keys)} End it with: return {{'scores': scores, 'targets': targets}}; or give "
            f"{name}= another key or a callable of (module, outputs, batch); or a module with edge_scores()."
        )


class _Chunk:
    """A batch: scores and targets (M, L), how many samples they are, and to which unit each row belongs."""

    def __init__(self, scores: Tensor, targets: Tensor, groups: Tensor | None, labelled: bool) -> None:
        self.rows = scores.shape[0]
        labels = scores.shape[-1] if labelled else 1
        self.scores, self.targets = scores.reshape(-1, labels), targets.reshape(-1, labels)
        self.of_a_row = len(self.scores) // max(1, self.rows)
        self.groups = groups

    def units(self, first: int, stride: int) -> Array:
        if self.groups is not None:
            numbers = self.groups.cpu().numpy().astype(np.int64)
        else:
            numbers = first + stride * np.arange(self.rows)
        return numbers.repeat(self.of_a_row)

    def without_last_row(self) -> None:
        self.rows -= 1
        kept = self.rows * self.of_a_row
        self.scores, self.targets = self.scores[:kept], self.targets[:kept]
        self.groups = None if self.groups is None else self.groups[:-1]


class Rows(NamedTuple):
    """Scores (M, L), targets (M, L), the unit of each row (M,), and whether one unit may have several rows."""

    scores: Tensor
    targets: Tensor
    units: Array
    clustered: bool


class SampleCollector:
    """Keeps the scores of an evaluation: as they are up to `exact_max`, beyond that as groups.

    Args:
        sources: where they are.
        choice: how a threshold is chosen.
        exact_max: how many scores of all ranks are kept as they are.
        bins: how many groups every `exact_max` scores are thinned to, in each half: a threshold's counts are then off
            by at most one part in `bins`, and once more for every 64 times `exact_max`.
    """

    def __init__(self, sources: SampleSources, choice: ThresholdChoice, exact_max: int, bins: int) -> None:
        self.sources, self.choice, self.exact_max, self.bins = sources, choice, exact_max, bins
        self.begin(1, 0)

    def begin(self, world_size: int, rank: int) -> None:
        """Forgets everything."""
        self._stride, self._rank = world_size, rank
        self._chunks: list[_Chunk] = []
        self._rows = self._kept = 0
        self._thinned: list[Samples] = []

    def add(self, pl_module: Any, outputs: Any, batch: Any, step: str) -> None:
        """Takes a batch; nothing waits for the device until `exact_max` is reached."""
        scores, targets, groups = self.sources.read(pl_module, outputs, batch, step)
        labelled = self.choice.average != "micro"
        if labelled and scores.dim() < 2:
            raise ContractError(
                f"{self.choice.owner}: average={self.choice.average!r} takes scores of several labels, (N, L); they "
                f"have shape {tuple(scores.shape)}. One label is average='micro'."
            )
        chunk = _Chunk(scores, targets, groups, labelled)
        if self._chunks and chunk.scores.shape[1] != self._chunks[0].scores.shape[1]:
            raise ContractError(
                f"{self.choice.owner}: a batch has {chunk.scores.shape[1]} labels, and one before had "
                f"{self._chunks[0].scores.shape[1]}."
            )
        if self._chunks and self._kept + chunk.scores.numel() > self.exact_max // self._stride:
            self._thin()
        self._chunks.append(chunk)
        self._rows += chunk.rows
        self._kept += chunk.scores.numel()

    def finish(self, trainer: Any, loader: Any) -> Samples | None:
        """What all ranks have collected; None where nothing was. Every rank must call it."""
        if self._chunks and _last_is_a_copy(loader, self._rows):
            self._chunks[-1].without_last_row()
            self._rows -= 1
        split = self.choice.needs_truth
        if any(gather_from_ranks(trainer, bool(self._thinned))):
            self._thin()
            found = Samples.of_parts([part for rank in gather_from_ranks(trainer, self._thinned) for part in rank])
        else:
            rows = [part for part in gather_from_ranks(trainer, self._all_rows()) if part is not None]
            found = Samples.of_rows(rows, self.choice.owner, split) if rows else None
        self.begin(self._stride, self._rank)
        return found

    def _all_rows(self) -> Rows | None:
        if not self._chunks:
            return None
        units, first = [], self._rows - sum(chunk.rows for chunk in self._chunks)
        for chunk in self._chunks:
            units.append(chunk.units(self._rank + self._stride * first, self._stride))
            first += chunk.rows
        scores, targets = (torch.cat([getattr(c, name) for c in self._chunks]).cpu() for name in ("scores", "targets"))
        clustered = any(chunk.groups is not None or chunk.of_a_row > 1 for chunk in self._chunks)
        return Rows(scores, targets, np.concatenate(units), clustered)

    def _thin(self) -> None:
        rows = self._all_rows()
        if rows is None:
            return
        self._thinned.append(self._thin_halves(Samples.of_rows([rows], self.choice.owner, split=True)))
        if len(self._thinned) > _MOST_PARTS:
            together = Samples.of_parts(self._thinned)
            assert together is not None
            self._thinned = [self._thin_halves(together)]
        self._chunks, self._kept = [], 0

    def _thin_halves(self, samples: Samples) -> Samples:
        halves = [[thin_groups(groups, self.bins) for groups in half] for half in (samples.first, samples.second)]
        return Samples([], halves[0], halves[1], None, samples.clustered)


@dataclass
class Samples:
    """Every score of an evaluation, as groups of each label, and in two halves that share no unit.

    Args:
        labels: the groups of each label.
        first: those of one half; empty where nobody asks for halves.
        second: those of the other half.
        rows: the scores themselves, where they are still there.
        clustered: whether several scores belong to one unit.
    """

    labels: list[ScoreGroups]
    first: list[ScoreGroups]
    second: list[ScoreGroups]
    rows: Rows | None = None
    clustered: bool = False

    @classmethod
    def of_rows(cls, parts: Sequence[Rows], owner: str, split: bool) -> Samples:
        """Sorts the scores of all ranks.

        Raises:
            DataError: NaN scores, targets other than 0 and 1.
        """
        scores, targets = torch.cat([part.scores for part in parts]), torch.cat([part.targets for part in parts])
        units, clustered = np.concatenate([part.units for part in parts]), any(part.clustered for part in parts)
        labels = [group_scores(s, t, owner) for s, t in zip(scores.T, targets.T, strict=True)]
        halves: list[list[ScoreGroups]] = [[], []]
        if split:
            coin = torch.from_numpy(in_first_half(units))
            for half, chosen in zip(halves, (coin, ~coin), strict=True):
                for s, t, whole in zip(scores.T, targets.T, labels, strict=True):
                    half.append(group_scores(s[chosen], t[chosen], owner) if chosen.any() else _none_of(whole))
        return cls(labels, halves[0], halves[1], Rows(scores, targets, units, clustered), clustered)

    @classmethod
    def of_parts(cls, parts: Sequence[Samples]) -> Samples | None:
        """Merges what was thinned."""
        if not parts:
            return None
        first, second = (
            [merge_groups(label) for label in zip(*(getattr(part, half) for part in parts), strict=True)]
            for half in ("first", "second")
        )
        clustered = any(part.clustered for part in parts)
        return cls([merge_groups(p) for p in zip(first, second, strict=True)], first, second, None, clustered)


def _none_of(groups: ScoreGroups) -> ScoreGroups:
    return ScoreGroups(groups.scores[:0], groups.predicted[:1], groups.true_positives[:1], groups.dtype)


def _last_is_a_copy(loader: Any, rows: int) -> bool:
    """Whether a DistributedSampler has filled this rank's share up with a sample that another rank has too."""
    sampler = getattr(loader, "sampler", None)
    # a sampler of another class may repeat others, or none
    if type(sampler) is not DistributedSampler or sampler.drop_last or rows != sampler.num_samples:
        return False
    return sampler.rank + sampler.num_replicas * (rows - 1) >= len(sampler.dataset)  # type: ignore[arg-type]
