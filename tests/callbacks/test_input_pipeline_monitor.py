from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
from torch.utils.data import DataLoader, IterableDataset

from stablelit.callbacks import InputPipelineMonitor, input_pipeline_monitor
from stablelit.errors import ConfigurationError
from stablelit.findings import read_findings
from tests.callbacks.slow_data import Module, Slow, Spend, fit
from tests.contract.modules import make_trainer, save_at_class

pytestmark = pytest.mark.filterwarnings("ignore")


def test_the_share_of_waiting_is_that_of_the_loader(tmp_path, clock):
    values, _ = fit(tmp_path, clock, InputPipelineMonitor(), read=0.25, step=3.0)
    assert values["perf/data_wait_frac"] == pytest.approx(0.25)
    assert values["perf/host_gap_frac"] == pytest.approx(0.0)
    assert values["perf/samples_per_s"] == pytest.approx(1.0)
    assert values["perf/step_s_p50"] == values["perf/step_s_p95"] == pytest.approx(4.0)
    assert values["perf/wait_s_p95"] == pytest.approx(1.0)
    assert "perf/device_busy_frac" not in values


def test_time_in_other_callbacks_is_neither_waiting_nor_computing(tmp_path, clock):
    monitor = InputPipelineMonitor()
    values, _ = fit(tmp_path, clock, monitor, read=0.0, step=1.0, callbacks=[Spend(clock, 3.0)])
    # the first step counted has nothing behind it that is known to be of training
    assert values["perf/host_gap_frac"] == pytest.approx(0.75, abs=0.01)
    assert monitor.verdict.limit == "host-bound"


def test_validation_inside_the_epoch_is_not_counted(tmp_path, clock):
    module = Module(clock, 3.0, val_seconds=100.0)
    values, _ = fit(tmp_path, clock, InputPipelineMonitor(), read=0.25, module=module, val_check_interval=5)
    assert values["perf/data_wait_frac"] == pytest.approx(0.25)
    assert values["perf/step_s_p95"] == pytest.approx(4.0)


def test_the_writing_of_checkpoints_is_not_counted(tmp_path, clock):
    class Save(pl.callbacks.Checkpoint):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if batch_idx % 3 == 0:
                clock.now += 50.0
                trainer.save_checkpoint(tmp_path / "a.ckpt")
                clock.now += 50.0

    values, _ = fit(
        tmp_path, clock, InputPipelineMonitor(), read=0.25, step=3.0, callbacks=[Save()], enable_checkpointing=True
    )
    assert values["perf/data_wait_frac"] == pytest.approx(0.25)
    assert values["perf/step_s_p95"] == pytest.approx(4.0)


def test_what_comes_between_epochs_is_not_counted(tmp_path, clock):
    class Pause(pl.Callback):
        def on_train_epoch_end(self, *args):
            clock.now += 1000.0

    values, _ = fit(tmp_path, clock, InputPipelineMonitor(), read=0.25, step=3.0, callbacks=[Pause()], max_epochs=3)
    assert values["perf/data_wait_frac"] == pytest.approx(0.25)
    assert values["perf/step_s_p95"] == pytest.approx(4.0)


def test_warm_up_steps_are_not_counted(tmp_path, clock):
    class Compile(Module):
        def training_step(self, batch, batch_idx):
            clock.now += 500.0 if batch_idx < 4 else 0.0
            return super().training_step(batch, batch_idx)

    module = Compile(clock, 3.0)
    values, _ = fit(tmp_path, clock, InputPipelineMonitor(warmup_steps=4), read=0.25, module=module)
    assert values["perf/step_s_p95"] == pytest.approx(4.0)


def test_batches_count_with_accumulation_and_not_optimizer_steps(tmp_path, clock):
    values, trainer = fit(tmp_path, clock, InputPipelineMonitor(), read=0.25, step=3.0, accumulate_grad_batches=3)
    assert trainer.global_step == 10
    assert values["perf/samples_per_s"] == pytest.approx(1.0)


def test_a_data_set_without_a_length_is_measured_too(tmp_path, clock):
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(Slow(clock, 0.25)[i] for i in range(120))

    loader = DataLoader(Stream(), 4)
    values, trainer = fit(tmp_path, clock, InputPipelineMonitor(), step=3.0, loader=loader)
    # Lightning fetches one ahead: no fetch belongs to the last of the 20 steps counted
    assert values["perf/data_wait_frac"] == pytest.approx(19 / (19 * 4 + 3))
    assert not any("perf/epoch_eta_s" in line for _, line in trainer.logger.lines)


@pytest.mark.slow
def test_with_workers_and_the_real_clock_shares_are_shares(tmp_path):
    monitor = InputPipelineMonitor(warmup_steps=2)
    loader = DataLoader(Slow(SimpleNamespace(now=0.0)), 4, num_workers=2)
    values, _ = fit(tmp_path, SimpleNamespace(now=0.0), monitor, loader=loader, max_epochs=2)
    parts = values["perf/data_wait_frac"], values["perf/host_gap_frac"]
    assert all(0.0 < part < 1.0 for part in parts)
    assert sum(parts) < 1.0


def test_a_loader_that_the_training_step_asks_itself_is_measured_too(tmp_path, clock):
    class Asks(Module):
        def training_step(self, dataloader_iter):
            batch, batch_idx, _ = next(dataloader_iter)
            return super().training_step(batch, batch_idx)

    values, _ = fit(tmp_path, clock, InputPipelineMonitor(), read=0.25, module=Asks(clock, 3.0))
    assert values["perf/data_wait_frac"] == pytest.approx(0.25)
    assert values["perf/host_gap_frac"] == pytest.approx(0.0)


def test_the_modules_flops_give_the_utilisation(tmp_path, clock):
    module = Module(clock, 3.0)
    module.flops_per_batch = 8e9
    values, _ = fit(tmp_path, clock, InputPipelineMonitor(peak_flops_per_s=4e9), read=0.25, module=module)
    assert values["perf/flops_per_s"] == pytest.approx(2e9)
    assert values["perf/mfu"] == pytest.approx(0.5)


def test_without_a_known_peak_there_is_no_utilisation(tmp_path, clock):
    values, _ = fit(tmp_path, clock, InputPipelineMonitor(flops=lambda batch: 2e9))
    assert values["perf/flops_per_s"] == pytest.approx(2e9)
    assert "perf/mfu" not in values


def test_loads_of_chunks_are_logged_where_the_data_set_counts_them(tmp_path, clock):
    class Counts(Slow):
        chunk_loads = 7

        def __getitem__(self, index):
            self.chunk_loads += index % 2 == 0
            return super().__getitem__(index)

    values, _ = fit(tmp_path, clock, InputPipelineMonitor(), loader=DataLoader(Counts(clock), 4), max_epochs=2)
    assert values["perf/loads_per_batch"] == pytest.approx(2.0)


def test_the_loggers_get_the_shares_and_the_time_left_while_the_epoch_runs(tmp_path, clock):
    _, trainer = fit(tmp_path, clock, InputPipelineMonitor(), read=0.25, step=3.0)
    during = [(step, line["perf/epoch_eta_s"]) for step, line in trainer.logger.lines if "perf/epoch_eta_s" in line]
    # of the first ten nothing is counted: they are the warm-up
    assert during == [(19, pytest.approx(40.0)), (29, pytest.approx(0.0))]


def test_the_loop_has_its_own_methods_back_after_the_fit_and_after_an_error(tmp_path, clock):
    class Break(pl.Callback):
        def on_train_batch_end(self, *args):
            raise RuntimeError("on purpose")

    _, trainer = fit(tmp_path, clock, InputPipelineMonitor())
    assert "_on_before_fetch" not in vars(trainer.fit_loop.epoch_loop)
    trainer = make_trainer(tmp_path, [InputPipelineMonitor(), Break()])
    with pytest.raises(RuntimeError, match="on purpose"):
        trainer.fit(Module(clock), DataLoader(Slow(clock), 4))
    assert "_on_before_fetch" not in vars(trainer.fit_loop.epoch_loop)


@pytest.mark.slow
def test_a_resumed_run_reports_no_cause_twice_and_begins_its_timings_anew(tmp_path, clock):
    saver = save_at_class("lightning.pytorch")(40, tmp_path / "a.ckpt")
    fit(tmp_path, clock, InputPipelineMonitor(), 1.0, callbacks=[saver], max_epochs=2, enable_checkpointing=True)
    monitor = InputPipelineMonitor()
    trainer = make_trainer(tmp_path, [monitor], max_epochs=3, log_every_n_steps=10)
    trainer.fit(Module(clock, 9.0), DataLoader(Slow(clock, 1.0), 4), ckpt_path=str(tmp_path / "a.ckpt"))
    assert trainer.callback_metrics["perf/step_s_p95"] == pytest.approx(13.0)
    assert len(read_findings(tmp_path)) == 1


def test_the_probe_repeats_one_batch_and_says_how_much_slower_loading_is(tmp_path, clock):
    module = Module(clock, 3.0)
    monitor = InputPipelineMonitor(overfit_probe_steps=5, warmup_steps=2)
    _, trainer = fit(tmp_path, clock, monitor, 0.75, module=module, max_epochs=2)
    (values,) = [line for _, line in trainer.logger.lines if "perf/overfit_probe" in line]
    assert values["perf/overfit_probe"] == monitor.state_dict()["overfit_probe"] == pytest.approx(2.0)
    assert values["perf/data_wait_frac"] == pytest.approx(0.5), "the probe's steps do not count"
    first, second = module.seen[:30], module.seen[30:]
    assert first[7:12] == [first[7]] * 5
    assert first[12][0] == first[7][0] + 4
    assert len({batch[0] for batch in first}) == 30 - 4
    assert len({batch[0] for batch in second}) == 30


def test_an_epoch_too_short_for_the_probe_leaves_it_out(tmp_path, clock):
    values, _ = fit(tmp_path, clock, InputPipelineMonitor(overfit_probe_steps=500), read=0.25)
    assert "perf/overfit_probe" not in values
    assert values["perf/data_wait_frac"] == pytest.approx(0.5)


def test_of_two_ranks_the_wait_is_that_of_the_one_that_waits_longest(tmp_path, clock, monkeypatch):
    def with_a_second_rank(trainer, mine):
        totals = replace(mine.totals, wait=3 * mine.totals.wait, step=mine.totals.wall - 3 * mine.totals.wait)
        return [mine, replace(mine, totals=totals)]

    monkeypatch.setattr(input_pipeline_monitor, "gather_from_ranks", with_a_second_rank)
    values, _ = fit(tmp_path, clock, InputPipelineMonitor(), read=0.25, step=3.0)
    assert values["perf/data_wait_frac"] == pytest.approx(0.75)
    assert values["perf/samples_per_s"] == pytest.approx(2.0)


@pytest.mark.parametrize(("every", "lines"), [(0, 1), (1, 1 + 20), (10, 1 + 2)])
def test_the_loggers_get_the_shares_as_often_as_the_trainer_logs(every, lines, tmp_path, clock):
    """Of thirty batches twenty are counted; where the trainer logs no steps, only the epoch's line is left."""
    _, trainer = fit(tmp_path, clock, InputPipelineMonitor(), log_every_n_steps=every)
    assert sum("perf/data_wait_frac" in line for _, line in trainer.logger.lines) == lines


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": 0}, "window=0 .* an int of 1"),
        ({"window": 2.5}, "window=2.5"),
        ({"warmup_steps": -1}, "warmup_steps=-1"),
        ({"min_steps": True}, "min_steps=True"),
        ({"overfit_probe_steps": 1}, "0, or 2 and more"),
        ({"warn_wait_frac": 0.0}, "warn_wait_frac"),
        ({"warn_wait_frac": 1.5}, "warn_wait_frac"),
        ({"warn_wait_frac": "0.2"}, "warn_wait_frac"),
        ({"flops": -1.0}, "flops"),
        ({"peak_flops_per_s": 0.0}, "peak_flops_per_s"),
        ({"device_timing": "events"}, "auto, off"),
        ({"items": 3}, "items=3"),
        ({"items": "~"}, "items"),
        ({"padded_items": "lengths"}, "without items"),
        ({"action": "shout"}, "action='shout'"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        InputPipelineMonitor(**arguments)
