"""Keeps the place in the data across a resume, and says when the data are not shuffled as they should be.

Runs    on_save_checkpoint and on_load_checkpoint (an epoch cut short by `max_steps`), on_train_start (place, checks),
        on_train_epoch_start (order), on_train_batch_start (the first two batches), on_train_epoch_end (logs),
        on_validation_start and on_test_start (ranks' shares)
Reads   the loaders, their samplers and data sets (`chunk_sizes`, `cache_size`), Lightning's count of batches
Writes  the place of a plain DataLoader; the `generator` of a sampler that draws from one (RandomSampler and its like)
Logs    shuffle/epoch; shuffle/same_chunk_ratio and shuffle/design_effect of a ShuffleSampler over chunks
Resumes exactly, in the middle of an epoch too: every sample once, in the order of the uninterrupted run
Limits  an IterableDataset keeps its own place or none; what workers draw at random in an interrupted epoch is drawn
        anew; with a sampler that draws, or on a resume, a plain DataLoader's workers start twice; Lightning still
        warns that a plain DataLoader cannot be resumed
"""

from __future__ import annotations

from functools import partial
from typing import Any

import lightning.pytorch as pl
import torch
from torch.utils.data import SequentialSampler

from stablelit.callbacks._batch import fingerprint
from stablelit.callbacks._epoch_edge import ResumedEpoch, mark_if_cut_short
from stablelit.callbacks._epoch_log import log_epoch
from stablelit.callbacks._loader_checks import check_evaluation, check_loader, order_description
from stablelit.callbacks._loader_position import (
    batching,
    begin_at,
    check_same_data,
    epoch_to_train,
    evaluation_loaders,
    innermost_sampler,
    is_plain,
    keeps_its_own_place,
    load_pending_states,
    own_generator,
    resumed_at,
    set_epoch,
    train_loaders,
)
from stablelit.data.shuffle import ShuffleSampler
from stablelit.errors import bad_argument
from stablelit.findings import Action, Finding, FindingReporter

_OWNER = "ShuffleCallback"
_SEEDLESS = (
    "use ShuffleDataLoader with a ShuffleSampler, or a sampler whose order depends on set_epoch or on a `generator`"
)


class ShuffleCallback(pl.Callback):
    """Carries a plain DataLoader's place in the checkpoint, and checks how the train loader shuffles.

    A ShuffleDataLoader keeps its own place; here it gets its state also where Lightning forgets to hand it over, which
    it does when `configure_optimizers` asks for the length of the run (OneCycleLR); and an epoch that `max_steps` or a
    stop ended before its last batch goes on there, of which Lightning would leave out the rest.

    A sampler that draws from a generator, or from the global random state, draws from one of ours instead, seeded by
    the run's seed and the epoch: another random order than without the callback, and one that a resume finds again.

    Args:
        expect_shuffle: whether a train loader that is not shuffled is worth a finding.
        action: what a finding does: `warn`, `stop` or `raise`. Findings: `train-not-shuffled`, `sampler-replaced`,
            `subset-read-at-random`, `cache-below-window`, `order-repeats`, `order-not-kept`, `place-lost`,
            `evaluation-repeats-samples`.

    Raises:
        ConfigurationError: an argument out of range; a checkpoint inside an epoch over other data or other batches
            (before the first batch).

    Example:
        >>> from stablelit import ShuffleCallback
        >>> callback = ShuffleCallback()
    """

    keeps_books = True

    def __init__(self, expect_shuffle: bool = True, action: Action = "warn") -> None:
        if not isinstance(expect_shuffle, bool):
            raise bad_argument(_OWNER, "expect_shuffle", expect_shuffle, "True or False")
        self.expect_shuffle = expect_shuffle
        self._reporter = FindingReporter(_OWNER, action)
        self._seed: int | None = None
        self._order: list[int | str] = []
        self._first: str | None = None
        self._loaders: list[dict[str, Any]] = []
        self._saved: list[dict[str, Any]] | None = None
        self._idle = False
        self._described: dict[str, float] = {}
        self._epoch = ResumedEpoch()

    def __repr__(self) -> str:
        return f"{_OWNER}(expect_shuffle={self.expect_shuffle})"

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Says of an epoch's end whether it came too early."""
        mark_if_cut_short(trainer, checkpoint)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Opens an epoch again that the end of the fit had cut short."""
        self._epoch.load(trainer, checkpoint)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Finds the place, then looks at how the data are shuffled."""
        self._epoch.begin(trainer)
        # overfit_batches is there to show the same batches in the same order
        self._idle = bool(trainer.overfit_batches)  # type: ignore[attr-defined]
        if self._idle:
            return
        place, saved = resumed_at(trainer), self._saved or []
        self._saved = None
        load_pending_states(trainer)
        loaders = train_loaders(trainer)
        if len(saved) != len(loaders):
            saved = [{} for _ in loaders]
        self._choose_seed(trainer, loaders)
        for index, (loader, before) in enumerate(zip(loaders, saved, strict=True)):
            if is_plain(loader):
                self._continue(trainer, index, loader, before, place)
            elif place is not None and place[1] and not keeps_its_own_place(loader):
                self._report_lost_place(trainer, loader, place[1])
        self._loaders = [_about(trainer, loader) for loader in loaders]
        self._described = {}
        for loader in loaders:
            for finding in check_loader(trainer, loader, self.expect_shuffle):
                self._reporter.report(trainer, finding)
            self._described = self._described or order_description(trainer, loader)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Gives the epoch its order, before Lightning begins to iterate."""
        if self._idle:
            return
        self._first = None
        for loader in filter(is_plain, train_loaders(trainer)):
            # Lightning tells a sampler, and not a batch sampler
            set_epoch(loader, epoch_to_train(trainer))
            if self._seed is not None:
                own_generator(loader, self._seed, trainer.global_rank, epoch_to_train(trainer))

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Compares the beginning of the epoch with that of the one before."""
        if batch_idx > 1 or self._idle:
            return
        if batch_idx == 0:
            self._first = fingerprint(batch)
            return
        epoch, first, self._first = epoch_to_train(trainer), self._first, None
        # batches that are all alike, or of which nothing is known, say nothing about their order
        repeats = bool(first) and self._order[1:] == [first] and self._order[0] != epoch and fingerprint(batch) != first
        self._order = [epoch, first or ""]
        if trainer.world_size > 1:
            repeats, self._order = trainer.strategy.broadcast((repeats, self._order))
        if repeats and self.expect_shuffle:
            self._reporter.report(
                trainer,
                Finding(
                    "order-repeats",
                    "warning",
                    f"epoch {epoch} begins with the same batch as the epoch before it.",
                    {"epoch": epoch},
                    "ShuffleSampler; or let the sampler's order depend on set_epoch",
                ),
            )

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Logs which epoch's order it was."""
        epochs = [getattr(innermost_sampler(loader), "epoch", None) for loader in train_loaders(trainer)]
        # Lightning has counted the epoch by now
        epoch = next((e for e in epochs if isinstance(e, int)), epoch_to_train(trainer) - 1)
        log_epoch(trainer, {"shuffle/epoch": float(epoch), **self._described})

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Looks whether ranks evaluate samples twice."""
        for finding in check_evaluation(trainer, evaluation_loaders(trainer)):
            self._reporter.report(trainer, finding)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """As in validation."""
        self.on_validation_start(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """The seed of the orders, what the data are, how the last epoch began, and what was reported."""
        return {
            "seed": self._seed,
            "loaders": list(self._loaders),
            "order": list(self._order),
            "first": self._first,
            "findings": self._reporter.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes them up; the loaders are there when training begins."""
        self._seed, self._order = state_dict["seed"], list(state_dict["order"])
        self._first = state_dict["first"]
        self._loaders = self._saved = list(state_dict["loaders"])
        self._reporter.load_state_dict(state_dict["findings"])

    def _choose_seed(self, trainer: pl.Trainer, loaders: list[Any]) -> None:
        drawing = [s for s in map(innermost_sampler, filter(is_plain, loaders)) if hasattr(s, "generator")]
        if self._seed is None and drawing:
            generator = drawing[0].generator
            seed = torch.initial_seed() if generator is None else generator.initial_seed()
            # rank zero writes the checkpoint for all
            self._seed = trainer.strategy.broadcast(seed)

    def _continue(
        self, trainer: pl.Trainer, index: int, loader: Any, saved: dict[str, Any], place: tuple[int, int] | None
    ) -> None:
        epoch, batches = place if place is not None else (epoch_to_train(trainer), 0)
        sampler = innermost_sampler(loader)
        if isinstance(sampler, ShuffleSampler) and saved.get("sampler"):
            sampler.load_state_dict({**saved["sampler"], "epoch": epoch})
            if sampler.mismatch(saved["sampler"]):  # strict=False; it has warned
                batches, saved = 0, {}
        if batches and saved:
            check_same_data(loader, saved, trainer.world_size)
        draws = self._seed is not None and own_generator(loader, self._seed, trainer.global_rank, epoch)
        known = isinstance(sampler, SequentialSampler) or bool(saved if draws else set_epoch(loader, epoch))
        if batches and not known:
            self._report_unknown_order(trainer, sampler)
        if place is not None or draws:
            begin_at(
                trainer,
                index,
                loader,
                batches if known else 0,
                partial(self._draw_anew, trainer, loader) if draws else None,
            )

    def _draw_anew(self, trainer: pl.Trainer, loader: Any) -> None:
        own_generator(loader, self._seed or 0, trainer.global_rank, epoch_to_train(trainer))

    def _report_lost_place(self, trainer: pl.Trainer, loader: Any, batches: int) -> None:
        kind = type(getattr(loader, "dataset", loader)).__name__
        self._reporter.report(
            trainer,
            Finding(
                "place-lost",
                "warning",
                f"the run goes on behind batch {batches} of its epoch and the data begin anew: {kind} gives no samples "
                f"by number, so nobody but its loader can keep its place.",
                {"batches": batches},
                "give the loader state_dict and load_state_dict; or resume from a checkpoint of an epoch's end",
            ),
        )

    def _report_unknown_order(self, trainer: pl.Trainer, sampler: Any) -> None:
        self._reporter.report(
            trainer,
            Finding(
                "order-not-kept",
                "warning",
                f"the run goes on inside an epoch whose order the {type(sampler).__name__} cannot draw again: some "
                f"samples come twice in it and some not at all.",
                {"sampler": type(sampler).__name__},
                "have ShuffleCallback in the run from its beginning; " + _SEEDLESS,
            ),
        )


def _about(trainer: pl.Trainer, loader: Any) -> dict[str, Any]:
    """What a place in a plain loader's epoch depends on, as plain data."""
    if not is_plain(loader):
        return {}
    about = batching(loader, trainer.world_size)
    sampler = innermost_sampler(loader)
    if isinstance(sampler, ShuffleSampler):
        about["sampler"] = _settings(sampler)
    return about


def _settings(sampler: ShuffleSampler) -> dict[str, Any]:
    return {**sampler.state_dict(), "epoch": 0}
