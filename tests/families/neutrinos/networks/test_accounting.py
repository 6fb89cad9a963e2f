from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from stablelit.families.neutrinos.networks import DynEdge, FlatTransformer, HierarchicalTransformer
from tests.families.neutrinos.networks.ragged_events import batch_of, random_events


@pytest.mark.parametrize(
    "network",
    [
        lambda: HierarchicalTransformer(16, 2, 3, 4, frequencies=2, feedforward=2),
        lambda: HierarchicalTransformer(16, 1, 2, 4, "mean", relative_bias=False, sensor_summary=False),
        lambda: HierarchicalTransformer(16, 1, 1, 4, relative_bias=False, event_summary=False),
        lambda: FlatTransformer(16, 3, 4),
        lambda: FlatTransformer(16, 2, 4, relative_bias=True),
        lambda: DynEdge(((8, 6), (7, 9, 5)), (9, 8), (16, 4), neighbours=3),
    ],
)
def test_operations_are_those_that_torch_counts(network):
    network, batch = network(), batch_of(random_events(6))
    # from the formula of attention, which torch counts as products, and not from a fused kernel, which it may not
    with (
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
        FlopCounterMode(display=False) as forward,
    ):
        network(batch)
    assert network.flops_per_batch(batch) == 3 * forward.get_total_flops()


def test_all_networks_count_the_same_tokens():
    batch = batch_of(random_events(3))
    counts = [network.token_counts(batch) for network in (FlatTransformer(16, 2, 4), DynEdge.preset("small"))]
    assert counts[0] == counts[1] == HierarchicalTransformer(16, 1, 2, 4).token_counts(batch)
