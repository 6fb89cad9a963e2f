from __future__ import annotations

import math
import tracemalloc

from stablelit.run.record import EpochMetrics


def test_epochs_come_back_as_they_were_taken():
    epochs = EpochMetrics()
    taken = [{"train/loss": 1.5, "val/loss": math.inf}, {"train/loss": 0.1}, {"val/loss": -2.0, "train/loss": 3.0}]
    for metrics in taken:
        epochs.append(metrics)
    assert list(epochs) == taken
    assert list(epochs[-1]) == ["val/loss", "train/loss"], "in their order"
    assert epochs[1:] == taken[1:]
    assert epochs


def test_two_thousand_epochs_of_sixty_metrics_are_a_megabyte():
    names = [f"val/metric_{i}" for i in range(60)]
    tracemalloc.start()
    epochs = EpochMetrics()
    for epoch in range(2000):
        epochs.append({name: epoch + i / 7 for i, name in enumerate(names)})
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # 2,000 x 60 numbers of eight bytes are 0.92 MiB
    assert held < 1.3 * 2**20
