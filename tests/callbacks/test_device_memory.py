from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from stablelit.callbacks import DeviceMemoryMonitor
from tests.contract.modules import make_module, make_trainer, train_loader


def test_on_a_cpu_it_logs_nothing(tmp_path):
    trainer = make_trainer(tmp_path, [DeviceMemoryMonitor()])
    trainer.fit(make_module(), train_loader())
    assert "perf/gpu_memory_gib" not in trainer.callback_metrics


def test_where_there_is_a_gpu_it_logs_the_peak_in_gib(monkeypatch):
    """The counter is stood in for: this shows the unit and the name, not that it ran on a GPU."""
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3 * 2**29)
    strategy = SimpleNamespace(root_device=torch.device("cuda", 0))
    trainer = SimpleNamespace(strategy=strategy, global_step=50, log_every_n_steps=50, is_last_batch=False)
    logged = {}
    module = SimpleNamespace(log=lambda name, value, **kwargs: logged.update({name: value}))
    DeviceMemoryMonitor().on_train_batch_end(trainer, module, None, None, 0)
    assert logged == {"perf/gpu_memory_gib": pytest.approx(1.5)}


@pytest.mark.gpu
def test_on_a_gpu_the_peak_is_positive(tmp_path):
    trainer = make_trainer(tmp_path, [DeviceMemoryMonitor()], accelerator="gpu")
    trainer.fit(make_module(), train_loader())
    assert trainer.callback_metrics["perf/gpu_memory_gib"] > 0
