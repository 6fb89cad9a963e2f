"""What every network of the family owes to whoever trains it."""

from __future__ import annotations

import copy

import pytest
import torch

from stablelit.errors import DataError
from stablelit.families.neutrinos.event_batch import assemble
from stablelit.families.neutrinos.networks import DynEdge, FlatTransformer, HierarchicalTransformer
from tests.families.neutrinos.networks.ragged_events import batch_of, random_events, randomised, sizes_only

NETWORKS = {
    "hierarchical": lambda: HierarchicalTransformer(16, 2, 2, heads=4, frequencies=2),
    "hierarchical, bare": lambda: HierarchicalTransformer(
        16, 1, 2, 4, "max", relative_bias=False, sensor_summary=False, event_summary=False, qk_norm=False
    ),
    "flat": lambda: FlatTransformer(16, layers=2, heads=4),
    "flat, biased": lambda: FlatTransformer(16, layers=2, heads=4, relative_bias=True),
    "dynedge": lambda: DynEdge(((8, 6), (7, 5)), (9, 8), (16,), neighbours=3),
    "dynedge, in time": lambda: DynEdge(((8, 6), (7, 5)), (9, 8), (16,), neighbours=3, graph_columns=4),
    "dynedge, by messages": lambda: DynEdge(((8, 6), (7, 5)), (9, 8), (16,), neighbours=3, backend="pyg"),
}


@pytest.fixture(params=list(NETWORKS))
def network(request) -> torch.nn.Module:
    return randomised(NETWORKS[request.param]())


def test_an_event_has_one_answer_whatever_its_batch_is(network):
    events = random_events(6)
    together = network(batch_of(events))
    assert together.shape == (6, network.width)
    for i, event in enumerate(events):
        torch.testing.assert_close(network(batch_of([event]))[0], together[i], atol=1e-4, rtol=1e-4)
    longer = random_events(3, seed=5, most_sensors=20)
    torch.testing.assert_close(network(batch_of(events + longer))[:6], together, atol=1e-4, rtol=1e-4)


def test_events_in_another_order_have_their_answers_in_that_order(network):
    events, order = random_events(6), torch.randperm(6, generator=torch.Generator().manual_seed(3))
    shuffled = network(batch_of([events[i] for i in order]))
    torch.testing.assert_close(shuffled, network(batch_of(events))[order], atol=1e-4, rtol=1e-4)


def test_events_do_not_see_each_other(network):
    batch = batch_of(random_events(4))
    given = [batch[key].requires_grad_() for key in ("pulses", "sensors", "events")]
    owners = [
        batch["event_of_sensor"].repeat_interleave(batch["pulses_of_sensor"]),
        batch["event_of_sensor"],
        torch.arange(4),
    ]
    answer = network(batch)
    for event in range(4):
        weight = torch.randn(answer.shape[1])
        gradients = torch.autograd.grad(
            (answer[event] * weight).sum(), given, retain_graph=True, materialize_grads=True
        )
        for gradient, owner in zip(gradients, owners, strict=True):
            assert not gradient[owner != event].any()
        assert gradients[0][owners[0] == event].any()


@pytest.mark.slow
def test_an_answer_needs_no_value_on_the_host(network):
    # on this device a value that is asked for, a mask that chooses rows, or a sync of any kind raises
    answer = network.to("meta")(sizes_only(batch_of(random_events(4))))
    assert answer.shape == (4, network.width)


def test_all_parameters_get_a_finite_gradient(network):
    answer = network(batch_of(random_events(6)))
    (answer * torch.randn(answer.shape)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_near_float32_and_trains(network, dtype):
    batch = batch_of(random_events(6))
    exact = network(batch)
    with torch.autocast("cpu", dtype):
        rough = network(batch)
        (rough.float() / exact.detach().norm()).square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())
    assert (rough.float() - exact).norm() < 0.02 * exact.norm()


def test_a_copy_and_a_reloaded_network_answer_alike(network):
    batch, copied = batch_of(random_events(3)), copy.deepcopy(network)
    expected = network(batch)
    torch.testing.assert_close(copied(batch), expected)
    randomised(copied, seed=9)
    assert not torch.allclose(copied(batch), expected, atol=1e-3)
    copied.load_state_dict(network.state_dict())
    torch.testing.assert_close(copied(batch), expected)


def test_batches_of_the_data_module_go_through(network, detector, random_events):
    events = random_events(12)
    batch = assemble(events, torch.arange(12).numpy(), *detector)
    answer = network(batch)
    assert answer.isfinite().all()
    one = assemble(events.take([5]), torch.arange(1).numpy(), *detector)
    torch.testing.assert_close(network(one)[0], answer[5], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda batch: batch.pop("class_order"), "the batch has no class_order; it has pulses"),
        (lambda batch: batch.update(pulses=batch["pulses"][:, :5]), r"batch\['pulses'\] has the shape \(\d+, 5\)"),
        (lambda batch: batch.update(class_sizes=[1, 1]), r"class_sizes=\[1, 1\] are 2 sensors"),
        (lambda batch: batch.update(longest=1), r"\d+ sensors do not fit 4 events of longest=1"),
        (lambda batch: batch.update(longest_pulses=2), r"\d+ pulses do not fit 4 events of longest_pulses=2"),
    ],
)
def test_a_batch_whose_parts_do_not_fit_is_refused(network, spoil, message):
    batch = batch_of(random_events(4))
    spoil(batch)
    with pytest.raises(DataError, match=message):
        network(batch)
