"""What can be said of a contrastive run before it has learned anything: its negatives, its levels, its settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from stablelit.findings import Finding
from stablelit.functional.contrastive_levels import ContrastiveLevel, contrastive_level

Chance = str | float | Callable[[int], float]
"""A name that `contrastive_level` knows, chance itself, or a callable of the number of pairs."""

_LARGER = 4


@dataclass(frozen=True)
class LossKind:
    """Which loss it is, and what is said of it.

    Args:
        chance: see `Chance`.
        scale: by which the loss is multiplied.
    """

    chance: Chance
    scale: float = 1.0

    @property
    def has_chance(self) -> bool:
        """Whether a loss can be at chance: BYOL's collapse is its best value."""
        return self.chance != "byol"

    @property
    def has_batch_negatives(self) -> bool:
        """Whether the negatives are those of the batch, so that their number follows its size."""
        return self.chance in ("nt_xent", "supcon", "dcl", "clip") or callable(self.chance)

    def level(self, n_pairs: int, temperature: float | None) -> ContrastiveLevel:
        """Chance and floor of so many pairs."""
        kind = self.chance(n_pairs) if callable(self.chance) else self.chance
        return contrastive_level(kind, max(2, n_pairs), temperature, self.scale)

    def formula(self, n_pairs: int) -> str:
        """Chance in words; empty where it is a number that somebody gave."""
        words = {
            "nt_xent": f"ln(2*{n_pairs}-1)",
            "supcon": f"ln(2*{n_pairs}-1)",
            "dcl": f"ln(2*{n_pairs}-2)",
            "clip": f"ln({n_pairs})",
        }
        if not isinstance(self.chance, str):
            return ""
        queue = f"ln({self.chance.partition(':')[2]}+1)"
        formula = queue if self.chance.startswith("info_nce:") else words.get(self.chance, "")
        return formula if self.scale == 1.0 or not formula else f"{self.scale:g}*{formula}"

    def elsewhere(self, n_pairs: int) -> str:
        """Chance at a larger batch in words; empty where the batch does not move it."""
        if not self.has_batch_negatives:
            return ""
        larger = _LARGER * n_pairs
        formula, value = self.formula(larger), self.level(larger, None).chance
        return f"{formula}={value:.4f} at {larger} pairs" if formula else f"{value:.4f} at {larger} pairs"


@dataclass(frozen=True)
class ContrastiveSettings:
    """Of one run.

    Args:
        kind: the loss.
        n_rank: pairs of a batch on one rank.
        ranks: how many ranks there are.
        is_gathered: whether embeddings of all ranks are compared; None is unknown.
        accumulated: batches a step.
        temperature: T; None is unknown.
        chunk: rows that go through the network at a time; None is the whole batch.
        batch_norm: whether there is batch normalisation.
        batch_norm_per_rank: whether some of it is that of one rank.
        samples: of the training data; None is unknown.
        last_batch: samples of an epoch's last batch where it is smaller, else 0.
    """

    kind: LossKind
    n_rank: int
    ranks: int = 1
    is_gathered: bool | None = None
    accumulated: int = 1
    temperature: float | None = None
    chunk: int | None = None
    batch_norm: bool = False
    batch_norm_per_rank: bool = False
    samples: int | None = None
    last_batch: int = 0

    @property
    def n_pairs(self) -> int:
        """Pairs that are compared."""
        return self.n_rank * (self.ranks if self.is_gathered else 1)

    def __str__(self) -> str:
        n, kind = self.n_pairs, self.kind
        if not kind.has_chance:
            return (
                f"{n} pairs a batch; without negatives no loss is at chance, and its best value is that of a collapse"
            )
        level = kind.level(n, self.temperature)
        negatives = f", {2 * n - 2} negatives an anchor" if kind.chance == "nt_xent" else ""
        formula = kind.formula(n)
        text = f"{n} pairs are compared{negatives}; chance {f'{formula}=' if formula else ''}{level.chance:.4f}"
        if level.floor is not None:
            text += f", floor at T={self.temperature:g}: {level.floor:.4f}"
        if self.temperature is None:
            text += "; no temperature is known, so that excess counts from a loss of 0"
        if self.ranks > 1 and self.is_gathered is None:
            text += "; nothing says that embeddings of other ranks are gathered (gathered=True)"
        return text


def settings_findings(s: ContrastiveSettings) -> Iterator[Finding]:
    """What is wrong with them."""
    chunk = f"batch_size={s.accumulated * s.n_rank} with the module's grad_cache_chunk={s.n_rank}"
    if s.accumulated > 1 and s.kind.has_batch_negatives:
        yield Finding(
            "accumulation-adds-no-negatives",
            "warning",
            f"accumulate_grad_batches={s.accumulated} averages {s.accumulated} losses of N={s.n_pairs} each: "
            f"{2 * s.n_pairs - 2} negatives, not {2 * s.accumulated * s.n_pairs - 2}.",
            {"accumulate_grad_batches": s.accumulated, "n_pairs": s.n_pairs},
            f"a larger batch in parts: {chunk}",
        )
    if s.ranks > 1 and s.is_gathered is False and s.kind.has_batch_negatives:
        yield Finding(
            "negatives-not-gathered",
            "warning",
            f"each of {s.ranks} ranks compares its own N={s.n_rank}: {2 * s.n_rank - 2} negatives, not "
            f"{2 * s.ranks * s.n_rank - 2}.",
            {"ranks": s.ranks, "n_pairs": s.n_rank},
            "gather=True",
        )
    if s.ranks > 1 and s.batch_norm_per_rank:
        yield Finding(
            "batch-norm-per-rank",
            "warning",
            f"batch norm has the statistics of each of {s.ranks} ranks: embeddings tell the rank that they come from.",
            {"ranks": s.ranks},
            "trainer.sync_batchnorm=true",
        )
    if s.batch_norm and s.chunk is not None and s.chunk < 2 * s.n_rank:
        yield Finding(
            "batch-norm-per-chunk",
            "warning",
            f"batch norm has the statistics of {s.chunk} rows at a time, not of {2 * s.n_rank}: the gradient is not "
            f"that of the whole batch.",
            {"chunk": s.chunk, "rows": 2 * s.n_rank},
            "group norm, or no chunks",
        )
    if s.last_batch:
        yield Finding(
            "last-batch-is-small",
            "warning",
            f"an epoch's last batch has {s.last_batch} of {s.n_rank} samples: its loss has another chance level.",
            {"last_batch": s.last_batch, "batch": s.n_rank},
            "drop_last=True",
        )
    if s.samples is not None and s.kind.has_batch_negatives and 2 * s.n_pairs > s.samples:
        yield Finding(
            "batch-covers-the-data",
            "warning",
            f"{s.n_pairs} of {s.samples} samples are in one batch: it is hardly another one from step to step.",
            {"n_pairs": s.n_pairs, "samples": s.samples},
            "a smaller batch",
        )
    if s.temperature is not None and s.kind.has_chance and not 0.03 <= s.temperature <= 1.0:
        yield Finding(
            "unusual-temperature",
            "warning",
            f"temperature {s.temperature:g} is outside of [0.03, 1]: below, only the nearest negative counts; above, "
            f"all count alike.",
            {"temperature": s.temperature},
            "0.07 to 0.5",
        )


def read_settings(
    trainer: Any, pl_module: Any, kind: LossKind, n_rank: int, gathered: bool | None, temperature: float | None
) -> ContrastiveSettings:
    """Looks at Trainer, module and train loader."""
    norms = [m for m in pl_module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    chunk = getattr(pl_module, "grad_cache_chunk", None)
    samples, last = _loader_sizes(trainer, n_rank)
    return ContrastiveSettings(
        kind,
        n_rank,
        int(trainer.world_size),
        gathered,
        int(trainer.accumulate_grad_batches) if pl_module.automatic_optimization else 1,
        temperature,
        chunk if isinstance(chunk, int) and not isinstance(chunk, bool) else None,
        bool(norms),
        any(not isinstance(m, nn.SyncBatchNorm) for m in norms),
        samples,
        last,
    )


def gathers(pl_module: Any, gathered: bool | None) -> bool | None:
    """Whether embeddings are gathered: as told, else as the module's attribute `gather` says, else None."""
    said = getattr(pl_module, "gather", None) if gathered is None else gathered
    return said if isinstance(said, bool) else None


def _loader_sizes(trainer: Any, n_rank: int) -> tuple[int | None, int]:
    """Samples of the training data, and those in an epoch's last batch on this rank where it is smaller."""
    loader = trainer.train_dataloader
    try:
        samples = len(loader.dataset)
    except (AttributeError, TypeError):  # several loaders, or a stream
        return None, 0
    batch_size = getattr(loader, "batch_size", None)
    if batch_size != n_rank or getattr(loader, "drop_last", True):
        return samples, 0
    try:
        here = len(loader.sampler)
    except (AttributeError, TypeError):
        return samples, 0
    return samples, here % n_rank
