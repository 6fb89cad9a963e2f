from __future__ import annotations

import pytest

from stablelit.callbacks import InputPipelineMonitor
from stablelit.errors import ContractError
from tests.callbacks.slow_data import Module, fit

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize(
    ("items", "padded"),
    [
        ("mask", None),
        ("lengths", lambda batch: batch["mask"].numel()),
        (lambda batch: batch["mask"].sum(), lambda batch: 32),
        ("mask", lambda batch: 32),
    ],
)
def test_real_items_and_padding(items, padded, tmp_path, clock):
    values, _ = fit(tmp_path, clock, InputPipelineMonitor(items=items, padded_items=padded, warmup_steps=0))
    real = sum(i % 8 + 1 for i in range(120))
    assert values["perf/items_per_s"] == pytest.approx(real / 30.0)
    assert values["perf/padding_frac"] == pytest.approx(1.0 - real / (120 * 8))


def test_a_mask_that_is_true_where_padding_is(tmp_path, clock):
    values, _ = fit(tmp_path, clock, InputPipelineMonitor(items="~mask", warmup_steps=0))
    assert values["perf/padding_frac"] == pytest.approx(sum(i % 8 + 1 for i in range(120)) / (120 * 8))


def test_items_that_are_not_there_are_an_error_with_what_is(tmp_path, clock):
    with pytest.raises(ContractError, match=r"no tensor 'masks'.*x, mask, lengths.*Did you mean 'mask'"):
        fit(tmp_path, clock, InputPipelineMonitor(items="masks", warmup_steps=0))


def test_a_wrong_key_is_told_at_the_first_batch_and_not_after_the_warm_up(tmp_path, clock):
    module = Module(clock)
    with pytest.raises(ContractError, match="no tensor 'masks'"):
        fit(tmp_path, clock, InputPipelineMonitor(items="masks", warmup_steps=10), module=module)
    assert len(module.seen) == 1


@pytest.mark.parametrize("items", ["~x", "x", "~lengths"])
def test_a_mask_of_padding_that_is_no_boolean_is_refused(items, tmp_path, clock):
    """Of numbers `~` is another number, and a sum of them is no count."""
    with pytest.raises(ContractError, match=rf"items='{items}' is a tensor of torch\.(float32|int64).*mask\.bool\(\)"):
        fit(tmp_path, clock, InputPipelineMonitor(items=items))


def test_more_items_than_places_are_refused_with_both(tmp_path, clock):
    monitor = InputPipelineMonitor(items="lengths", padded_items=lambda batch: batch["x"].numel(), warmup_steps=0)
    real, places = sum(i % 8 + 1 for i in range(120)), 120 * 2
    with pytest.raises(ContractError, match=rf"{real} items in {places} places.*items='lengths' and padded_items="):
        fit(tmp_path, clock, monitor)
