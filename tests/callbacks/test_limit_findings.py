from __future__ import annotations

import os

import pytest
from torch.utils.data import DataLoader

from stablelit.callbacks import InputPipelineMonitor, input_pipeline_monitor
from stablelit.findings import FindingError, read_findings
from tests.callbacks.slow_data import Module, Slow, fit
from tests.contract.modules import make_trainer, save_at_class

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.slow
def test_a_run_that_waits_for_data_is_told_so_once_with_numbers_and_a_setting(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monitor = InputPipelineMonitor()
    fit(tmp_path, clock, monitor, read=1.0, step=1.0, max_epochs=3)
    (finding,) = read_findings(tmp_path)
    assert finding.name == monitor.verdict.limit == "input-bound"
    assert "80% of the time goes into waiting for data" in finding.message
    assert "num_workers=4" in finding.remedy
    assert finding.evidence["data_wait_frac"] == pytest.approx(0.8)


def test_data_that_are_cheap_to_read_are_told_to_be_read_at_once(tmp_path, clock):
    fit(tmp_path, clock, InputPipelineMonitor(), read=1e-4, step=1e-5)
    (finding,) = read_findings(tmp_path)
    assert finding.name == "input-bound"
    assert finding.remedy.startswith("one vectorised read a batch")
    assert "num_workers" not in finding.remedy


def test_a_chunked_source_is_told_of_its_cache(tmp_path, clock):
    data = Slow(clock, 1.0)
    data.chunk_sizes = [60, 60]
    fit(tmp_path, clock, InputPipelineMonitor(), loader=DataLoader(data, 4))
    (finding,) = read_findings(tmp_path)
    assert "ShuffleSampler(mode='block')" in finding.remedy


def test_a_run_that_computes_gets_its_verdict_and_no_finding(tmp_path, clock, monkeypatch):
    monitor, said = InputPipelineMonitor(action="raise"), []
    monkeypatch.setattr(input_pipeline_monitor, "rank_zero_info", said.append)
    fit(tmp_path, clock, monitor, read=0.01, step=1.0, max_epochs=3)
    (line,) = said
    assert "compute-bound: 4% of the time" in line
    assert "larger batch" in line
    assert monitor.verdict.limit == "compute-bound"
    assert "4% of the time" in monitor.verdict.sentence
    assert read_findings(tmp_path) == []


def test_batches_that_are_mostly_padding_are_told_so(tmp_path, clock):
    monitor = InputPipelineMonitor(items="mask", action="raise")
    with pytest.raises(FindingError, match=r"44% of a batch is padding\. Try:.*LengthBucketBatchSampler"):
        fit(tmp_path, clock, monitor, step=1.0)


@pytest.mark.slow
def test_epochs_of_few_steps_are_judged_together(tmp_path, clock):
    """Thirty batches an epoch, ten of the first are the warm-up: 20 + 30 + 30 reach 70, of which 80 % is waiting."""
    monitor = InputPipelineMonitor(min_steps=70)
    fit(tmp_path, clock, monitor, read=1.0, max_epochs=2)
    assert monitor.verdict is None
    (tmp_path / "findings.jsonl").unlink()
    monitor = InputPipelineMonitor(min_steps=70)
    fit(tmp_path, clock, monitor, read=1.0, max_epochs=5)
    (finding,) = read_findings(tmp_path)
    assert finding.message.startswith("over 3 epochs, 80% of the time goes into waiting")
    assert finding.step == 90


def test_what_is_carried_from_epoch_to_epoch_is_the_sum(tmp_path, clock):
    class Quickening(Module):
        def training_step(self, batch, batch_idx):
            self.seconds = 4.0 - self.current_epoch
            return super().training_step(batch, batch_idx)

    monitor = InputPipelineMonitor(min_steps=50, warmup_steps=0, items="mask")
    fit(
        tmp_path,
        clock,
        monitor,
        1.0,
        module=Quickening(clock),
        loader=DataLoader(Slow(clock, 1.0, 80), 4),
        max_epochs=3,
    )
    (finding,) = read_findings(tmp_path)
    wait, step = 3 * 20 * 4.0, 20 * (4.0 + 3.0 + 2.0)
    assert finding.evidence["data_wait_frac"] == pytest.approx(wait / (wait + step), abs=1e-3)
    assert finding.evidence["samples_per_s"] == pytest.approx(3 * 80 / (wait + step), abs=1e-3)
    assert finding.evidence["padding_frac"] == pytest.approx(1 - 36 / 64, abs=1e-3)


def test_an_epoch_that_is_enough_by_itself_is_judged_by_itself(tmp_path, clock):
    monitor = InputPipelineMonitor()
    fit(tmp_path, clock, monitor, read=1.0, max_epochs=3)
    assert "epochs" not in monitor.verdict.sentence


@pytest.mark.slow
@pytest.mark.parametrize("action", ["warn", "stop", "raise"])
def test_a_run_too_short_for_a_verdict_is_told_so_once_and_its_values_are_logged(action, tmp_path, clock):
    monitor = InputPipelineMonitor(min_steps=81, action=action)
    values, trainer = fit(tmp_path, clock, monitor, read=1.0, max_epochs=3)
    assert monitor.verdict is None
    assert values["perf/data_wait_frac"] == pytest.approx(0.8)
    (finding,) = read_findings(tmp_path)
    assert (finding.name, finding.severity) == ("no-verdict", "info")
    assert "of 90 batches 80 were counted behind a warm-up of 10, and a verdict takes 81" in finding.message
    assert trainer.global_step == 90


@pytest.mark.slow
def test_a_resumed_run_of_a_few_batches_that_had_its_verdict_is_not_told_that_it_has_none(tmp_path, clock):
    saver = save_at_class("lightning.pytorch")(40, tmp_path / "a.ckpt")
    fit(tmp_path, clock, InputPipelineMonitor(), callbacks=[saver], max_epochs=2, enable_checkpointing=True)
    trainer = make_trainer(tmp_path, [InputPipelineMonitor()], max_steps=45, max_epochs=-1)
    trainer.fit(Module(clock), DataLoader(Slow(clock), 4), ckpt_path=str(tmp_path / "a.ckpt"))
    assert trainer.global_step == 45
    assert read_findings(tmp_path) == []


def test_a_trial_run_is_told_nothing(tmp_path, clock):
    fit(tmp_path, clock, InputPipelineMonitor(), fast_dev_run=2)
    assert read_findings(tmp_path) == []


def test_a_gpu_that_waits_for_its_host_is_told_of(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(input_pipeline_monitor, "stream_has_work", lambda device: lambda: False)
    monitor = InputPipelineMonitor(action="raise")
    with pytest.raises(FindingError, match="host-bound: 0% of the time.*the device is busy 0% of it"):
        fit(tmp_path, clock, monitor, step=1.0)


def test_on_a_gpu_the_share_of_its_work_decides(tmp_path, clock, monkeypatch):
    """The stream is a stand-in: nothing here ran on a GPU."""
    for works, limit in ((True, "compute-bound"), (False, "input-bound")):
        monkeypatch.setattr(input_pipeline_monitor, "stream_has_work", lambda device, works=works: lambda: works)
        monitor = InputPipelineMonitor()
        values, _ = fit(tmp_path, clock, monitor, read=0.25, step=3.0)
        assert values["perf/device_busy_frac"] == pytest.approx(float(works))
        assert values["perf/data_wait_frac"] == pytest.approx(0.25)
        assert values["perf/host_gap_frac"] == pytest.approx(0.0 if works else 0.75)
        assert monitor.verdict.limit == limit
