"""Tells where the time of training goes, and once an epoch what limits it and which setting to try.

Runs    around the loader's `next`, on_train_batch_start, on_train_batch_end; on a GPU also before and after backward
Reads   the clock; the batch's size; the module's `flops_per_batch`; on a GPU, whether its stream has work
Writes  nothing; with `overfit_probe_steps` it gives some batches of the first epoch out again
Logs    perf/data_wait_frac, perf/host_gap_frac, perf/device_busy_frac, perf/samples_per_s, perf/items_per_s,
        perf/padding_frac, perf/mfu, perf/flops_per_s, perf/step_s_p50, perf/step_s_p95, perf/wait_s_p50,
        perf/wait_s_p95, perf/loads_per_batch, perf/overfit_probe: once an epoch; perf/epoch_eta_s and the shares to
        the loggers alone, every `log_every_n_steps` batches
Resumes timings begin anew: they are not carried over; what was said, and the probe's result, is in the checkpoint
Limits  the start of workers at the beginning of an epoch is not counted; the GPU path asks the stream and never waits
        for it, is an estimate from some six moments a step, and was not run by its authors; ranks are averaged, the
        wait is that of the rank that waits longest
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Literal, get_args

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.throughput import get_available_flops
from lightning.pytorch.utilities import rank_zero_info

from stablelit.callbacks._batch import ItemCount, ItemCounter, sample_count
from stablelit.callbacks._device_work import nobody_knows, stream_has_work
from stablelit.callbacks._epoch_log import log_epoch
from stablelit.callbacks._fetching import BatchRepeater, FetchTap, chunk_loads
from stablelit.callbacks._limit_findings import limit_finding, no_verdict
from stablelit.callbacks._ranks import gather_from_ranks
from stablelit.errors import bad_argument
from stablelit.findings import Action, FindingReporter
from stablelit.functional.schedules import check_count, check_number
from stablelit.functional.step_clock import StepClock, StepTotals, quantiles
from stablelit.functional.throughput import (
    EpochsTogether,
    RankEpoch,
    Verdict,
    named_shares,
    seconds_waited,
    summarise,
    time_shares,
    verdict,
)

DeviceTiming = Literal["auto", "off"]
_OWNER = "InputPipelineMonitor"


class InputPipelineMonitor(pl.Callback):
    """Data-wait share, host gap, device-busy share, real items per second, padding, MFU, and one verdict an epoch.

    Validation and checkpoints are not counted. Nothing waits for the device while an epoch runs. Epochs of fewer than
    `min_steps` batches are judged together.

    The verdict is `input-bound`, `host-bound`, `padding` or `compute-bound`
    (:func:`stablelit.functional.throughput.verdict`). The first three are findings, the last is printed where it is
    new; the attribute `verdict` has the latest.

    Args:
        window: how many batches p50 and p95 look back. Loads of a chunk come rarely: a small window misses them.
        warmup_steps: batches after the beginning of a fit that are not counted (compilation, caches).
        items: what the real items of a batch are (pulses, tokens, particles): the key of a boolean mask (``"~key"``
            where True is padding), the key of a tensor of lengths, or a callable of the batch.
        padded_items: places in a batch, a callable or the key of a tensor of padded lengths; a mask brings its own.
        flops: of forward and backward of a batch, a number or a callable of the batch; None takes the module's
            `flops_per_batch` where it has one, the name that Lightning's ThroughputMonitor uses.
        peak_flops_per_s: of one device; None asks Lightning's table, which knows GPUs.
        device_timing: `auto` asks the stream of a GPU whether it has work; `off` does not.
        warn_wait_frac: share of the time above which waiting for data is the verdict.
        min_steps: batches that must be counted for a verdict, over several epochs if need be.
        overfit_probe_steps: above 0, so many steps of the first epoch are trained on one batch, and
            ``perf/overfit_probe`` is how many times longer a step with loading takes. About 1 says that loading is
            not the limit *with the present sampler*, and no more. The epoch ends that many batches early: for a
            diagnostic run.
        action: what a finding does: `warn`, `stop` or `raise`. Findings: `input-bound`, `host-bound`, `padding`;
            `no-verdict` only informs of a run that was too short.

    Raises:
        ConfigurationError: an argument out of range.
        ContractError: a batch without `items` (in the first batch).

    Example:
        >>> from stablelit import InputPipelineMonitor
        >>> callback = InputPipelineMonitor(items="mask")
    """

    def __init__(
        self,
        window: int = 1000,
        warmup_steps: int = 10,
        items: ItemCount | None = None,
        padded_items: ItemCount | None = None,
        flops: float | Callable[[Any], float] | None = None,
        peak_flops_per_s: float | None = None,
        device_timing: DeviceTiming = "auto",
        warn_wait_frac: float = 0.2,
        min_steps: int = 20,
        overfit_probe_steps: int = 0,
        action: Action = "warn",
    ) -> None:
        self.window = check_count(_OWNER, "window", window, 1)
        self.warmup_steps = check_count(_OWNER, "warmup_steps", warmup_steps, 0)
        self.min_steps = check_count(_OWNER, "min_steps", min_steps, 1)
        self.overfit_probe_steps = check_count(_OWNER, "overfit_probe_steps", overfit_probe_steps, 0)
        if self.overfit_probe_steps == 1:
            raise bad_argument(_OWNER, "overfit_probe_steps", 1, "0, or 2 and more", "The first step still loads.")
        if device_timing not in get_args(DeviceTiming):
            raise bad_argument(_OWNER, "device_timing", device_timing, ", ".join(get_args(DeviceTiming)))
        if flops is not None and not callable(flops):
            check_number(_OWNER, "flops", flops, above=0.0)
        if peak_flops_per_s is not None:
            check_number(_OWNER, "peak_flops_per_s", peak_flops_per_s, above=0.0)
        self.warn_wait_frac = check_number(_OWNER, "warn_wait_frac", warn_wait_frac, above=0.0, at_most=1.0)
        self.flops, self.peak_flops_per_s, self.device_timing = flops, peak_flops_per_s, device_timing
        self.verdict: Verdict | None = None
        self._judged = False
        self._items = ItemCounter(items, padded_items, _OWNER)
        self._reporter = FindingReporter(_OWNER, action)
        self._clock, self._lately = StepClock(self.window), StepTotals()
        self._unjudged = EpochsTogether(self.min_steps)
        self._tap: FetchTap | None = None
        self._repeater: BatchRepeater | None = None
        self._probe: float | None = None
        self._seen, self._samples, self._flops = 0, 0, 0.0
        self._epoch_began: tuple[int, int | None] = (0, None)
        self._flops_of, self._peak = flops, peak_flops_per_s
        self._busy: Callable[[], bool | None] = nobody_knows

    def __repr__(self) -> str:
        return f"{_OWNER}(window={self.window}, warn_wait_frac={self.warn_wait_frac:g})"

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begins to listen to the loader."""
        self._clock, self._lately = StepClock(self.window), StepTotals()
        self._unjudged = EpochsTogether(self.min_steps)
        self._seen, self._samples, self._flops = 0, 0, 0.0
        self._epoch_began = (0, chunk_loads(trainer))
        device = trainer.strategy.root_device
        self._busy = stream_has_work(device) if self.device_timing == "auto" else nobody_knows
        self._tap = FetchTap(trainer, self._clock, self._busy)
        if self.overfit_probe_steps and self._probe is None:
            self._repeater = BatchRepeater(self.overfit_probe_steps)
        self._flops_of = self.flops if self.flops is not None else getattr(pl_module, "flops_per_batch", None)
        self._peak = self.peak_flops_per_s
        if self._peak is None and device.type == "cuda" and self._flops_of is not None:
            self._peak = get_available_flops(device, _compute_dtype(trainer))

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """What lies between two epochs is not counted."""
        self._clock.interrupt()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """The data are there."""
        self._clock.step_begins(time.perf_counter(), self._busy())

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Any) -> None:
        """Asks the device, where there is one."""
        if self._busy is not nobody_knows:
            self._clock.observe(time.perf_counter(), self._busy())

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Asks the device, where there is one."""
        if self._busy is not nobody_knows:
            self._clock.observe(time.perf_counter(), self._busy())

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Adds the step."""
        self._seen += 1
        if self._seen == 1:
            self._items.look_at(batch)
        repeater = self._repeater
        normal = repeater is None or not repeater.repeating
        count = self._seen > self.warmup_steps
        seconds = self._clock.step_ends(time.perf_counter(), self._busy(), count and normal)
        if seconds is not None:
            self._samples += sample_count(batch)
            self._items.add(batch)
            if self._flops_of is not None:
                self._flops += self._flops_of(batch) if callable(self._flops_of) else self._flops_of
        if repeater is not None and count:
            repeater.after_step(trainer, time.perf_counter())
        interval = int(trainer.log_every_n_steps)  # type: ignore[attr-defined]
        if interval and self._seen % interval == 0:
            self._log_lately(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validation is not counted."""
        self._clock.interrupt()

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Neither is the writing of a checkpoint."""
        self._clock.interrupt()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Logs the epoch and says what limits it."""
        ranks = gather_from_ranks(trainer, self._this_rank())
        (seen, loads), self._epoch_began = self._epoch_began, (self._seen, chunk_loads(trainer))
        summary = summarise(ranks, self._peak)
        if summary is None:
            return
        _, values = summary
        if loads is not None and self._epoch_began[1] is not None:
            values["loads_per_batch"] = (self._epoch_began[1] - loads) / (self._seen - seen)
        if self._repeater is not None and (ratio := self._repeater.ratio(values["step_s_p50"])) is not None:
            self._probe, self._repeater = ratio, None
            values["overfit_probe"] = ratio
        log_epoch(trainer, {f"perf/{name}": value for name, value in values.items()})
        if together := self._unjudged.add(ranks):
            self._judge(trainer, together, values)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stops listening to the loader; says so where nothing could be said of it."""
        self._release()
        if self._seen and not self._judged and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            counted = self._unjudged.steps
            self._reporter.report(trainer, no_verdict(self._seen, self.warmup_steps, counted, self.min_steps))

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Stops listening to the loader."""
        self._release()

    def state_dict(self) -> dict[str, Any]:
        """What was reported, whether there was a verdict, and the probe's result, which is found out once."""
        return {"findings": self._reporter.state_dict(), "overfit_probe": self._probe, "judged": self._judged}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes them up."""
        self._reporter.load_state_dict(state_dict["findings"])
        self._probe = state_dict["overfit_probe"]
        self._judged = bool(state_dict.get("judged", False))

    def _release(self) -> None:
        if self._tap is not None:
            self._tap.release()
        self._tap, self._repeater, self._busy = None, None, nobody_knows

    def _this_rank(self) -> RankEpoch:
        totals, self._lately = self._lately, StepTotals()
        totals.add(self._clock.take())
        steps, waits = quantiles(self._clock.recent_steps), quantiles(self._clock.recent_waits)
        epoch = RankEpoch(totals, self._samples, *self._items.take(), self._flops, steps, waits)
        self._samples, self._flops = 0, 0.0
        return epoch

    def _log_lately(self, trainer: pl.Trainer) -> None:
        totals = self._clock.take()
        self._lately.add(totals)
        shares = time_shares(totals)
        if shares is None or not trainer.loggers:
            return
        loop = trainer.fit_loop.epoch_loop
        left = trainer.num_training_batches - loop.batch_progress.current.ready
        values = {f"perf/{name}": value for name, value in named_shares(shares).items()}
        if math.isfinite(left):
            values["perf/epoch_eta_s"] = left * totals.wall / totals.steps
        # `log` costs 0.3 ms a value, and what it takes from callbacks is averaged over the epoch
        for logger in trainer.loggers:
            logger.log_metrics(values, step=loop._batches_that_stepped)

    def _judge(self, trainer: pl.Trainer, ranks: list[RankEpoch], values: dict[str, float]) -> None:
        epochs, summary = self._unjudged.epochs, summarise(ranks, self._peak)
        assert summary is not None  # there are steps
        shares, values = summary[0], {**values, **summary[1]}
        before, found = self.verdict, verdict(shares, values.get("padding_frac"), self.warn_wait_frac)
        if epochs > 1:
            found = found._replace(sentence=f"over {epochs} epochs, {found.sentence}")
        self.verdict, self._judged = found, True
        finding = limit_finding(trainer, found, values, seconds_waited(ranks))
        if found.limit != "compute-bound":
            self._reporter.report(trainer, finding)
        elif before is None or before.limit != found.limit:
            rank_zero_info(f"{_OWNER}: {found.limit}: {finding.message} To make it faster: {finding.remedy}.")


def _compute_dtype(trainer: pl.Trainer) -> torch.dtype:
    precision = str(trainer.precision)
    return torch.bfloat16 if "bf16" in precision else torch.float16 if "16" in precision else torch.float32
