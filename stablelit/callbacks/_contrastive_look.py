"""What ContrastiveHealthMonitor keeps between two looks, and what it makes of it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from stablelit.callbacks._contrastive_geometry import measure, spread
from stablelit.callbacks._contrastive_reader import Pairs
from stablelit.callbacks._contrastive_settings import ContrastiveSettings
from stablelit.callbacks._contrastive_state import LossWindow
from stablelit.callbacks._ranks import gather_from_ranks
from stablelit.functional.contrastive_health import ContrastiveHealth

# losses of so many batches, after the first steps of every fourth step: one costs more than all else in a plain step
_WINDOW, _STRIDE, _EVERY_LOSS = 25, 4, 100
# a network hardly changes over so few steps
_MOST_RANK_STEPS = 8
# the rank is taken at every look in the first steps, where runs collapse, and at every eighth afterwards
_RANK_ALWAYS, _RANK_EVERY = 200, 8
_OF_RANK = ("rankme", "rankme_frac", "rank_rows")
# an excess below which nobody asks why the loss is at chance
_NEAR_CHANCE = 0.9
# a task solved so soon was none
_EARLY_STEPS = 1000
# as they are in ContrastiveHealth, but for two names
_LOGGED = (
    "excess",
    "std_ratio",
    "h_std_ratio",
    "pos_cos",
    "neg_cos",
    "align",
    "uniform",
    "rankme",
    "rankme_frac",
    "enc_grad_norm",
    "input_std",
    "input_min",
    "input_max",
    "dead_frac",
)


class ContrastiveLook:
    """Says which steps are looked at, keeps their embeddings and the losses, and reads them together.

    Args:
        every: optimizer steps between two looks.
        max_rows: of both views that are compared.
        rank_rows: most rows for the rank.
    """

    def __init__(self, every: int, max_rows: int, rank_rows: int) -> None:
        self.every, self._max_rows, self._rank_rows = every, max_rows, rank_rows
        self.begin()

    def begin(self) -> None:
        """Begins a run."""
        self.window = LossWindow(_WINDOW, _STRIDE, _EVERY_LOSS)
        self._pairs: list[Pairs] = []
        self._gradients: dict[int, Tensor] = {}
        self._rank_steps, self._first_std_ratio = 0, math.nan
        self._rank: dict[str, float] = {}

    def is_due(self, step: int) -> bool:
        """Whether a step, counted from 1, is looked at."""
        return step % self.every == 0

    def wants(self, step: int) -> bool:
        """Whether its embeddings are kept: it is looked at, or is one of the few before, or nothing was seen yet."""
        return not self._rank_steps or -step % self.every < self._rank_steps

    def add_gradient(self, optimizer: Any, norm: Tensor) -> None:
        """The norm of the encoder's gradient that an optimizer has."""
        self._gradients[id(optimizer)] = norm

    def add(self, pairs: Pairs, step: int) -> None:
        """The embeddings of a step that is wanted."""
        if not self._rank_steps:
            n, d = pairs.z0.shape
            enough = math.ceil(min(self._rank_rows, 4 * d) / (2 * n))
            self._rank_steps = min(max(1, enough), _MOST_RANK_STEPS, self.every)
            if step == 1:
                self._first_std_ratio = spread(pairs)
        if self.wants(step):
            self._pairs.append(pairs)

    def take(
        self,
        trainer: Any,
        step: int,
        seen: Tensor | None,
        page: Tensor | None,
        settings: ContrastiveSettings,
        temperature: float | None,
    ) -> tuple[ContrastiveHealth, dict[str, float]]:
        """The health of the run, the same on every rank, and what is logged; waits for the device."""
        kind, n, floor = settings.kind, settings.n_pairs, 0.0
        found: dict[str, Any] = {"first_std_ratio": self._first_std_ratio, "loss": self.window.mean()}
        near_chance = True
        if kind.has_chance:
            found["chance"] = self.window.mean_over_sizes(lambda n: kind.level(n, temperature).chance)
            floor = self.window.mean_over_sizes(lambda n: kind.level(n, temperature).floor or 0.0)
            found["floor"] = floor if kind.level(n, temperature).floor is not None else math.nan
            near_chance = not found["loss"] - floor < _NEAR_CHANCE * (found["chance"] - floor)
        with_rank = not self._rank or step <= _RANK_ALWAYS or step // self.every % _RANK_EVERY == 0
        found |= measure(self._pairs, seen, page, self._max_rows, self._rank_rows, with_rank, near_chance)
        if with_rank:
            self._rank = {name: found[name] for name in _OF_RANK}
        found |= self._rank
        if self._gradients:
            found["enc_grad_norm"] = float(torch.stack([g.square() for g in self._gradients.values()]).sum().sqrt())
        self._pairs, self._gradients = [], {}
        everybody = gather_from_ranks(trainer, found)
        found = dict(everybody[0])
        found["loss"] = sum(one["loss"] for one in everybody) / len(everybody)
        found["bad_rows"] = max(one["bad_rows"] for one in everybody)
        if kind.has_chance:
            found["excess"] = (found["loss"] - floor) / (found["chance"] - floor)
            found["formula"], found["elsewhere"] = kind.formula(n), kind.elsewhere(n)
        found["temperature"] = math.nan if temperature is None else temperature
        logged = {key: found[key] for key in _LOGGED if key in found} | {"contrast_top1": found["top1"]}
        logged["gap"] = found["pos_cos"] - found["neg_cos"]
        if kind.has_chance:
            logged["loss_over_chance"] = found["loss"] / found["chance"]
        for alone in ("align", "uniform"):
            del found[alone]
        health = ContrastiveHealth(**found, scale=kind.scale, n_pairs=n)
        return health, {key: value for key, value in logged.items() if math.isfinite(value)}

    def is_early(self, trainer: Any, step: int) -> bool:
        """Whether the run is in its beginning."""
        return step <= _EARLY_STEPS or trainer.current_epoch == 0

    def state_dict(self) -> dict[str, Any]:
        """Plain data and tensors; waits for the device."""
        return {
            "window": self.window.state_dict(),
            "pairs": [[p.z0, p.z1, p.h] for p in self._pairs],
            "rank_steps": self._rank_steps,
            "first_std_ratio": self._first_std_ratio,
            "rank": dict(self._rank),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes it up."""
        self.window.load_state_dict(state["window"])
        self._pairs = [Pairs(*parts) for parts in state["pairs"]]
        self._rank_steps, self._first_std_ratio = state["rank_steps"], state["first_std_ratio"]
        self._rank = dict(state["rank"])
