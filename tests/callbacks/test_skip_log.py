from __future__ import annotations

from types import SimpleNamespace

import torch

from stablelit.callbacks._skip_log import nonfinite_samples

NAN, INF = float("nan"), float("inf")


def test_samples_with_a_bad_number_anywhere_are_named():
    x = torch.zeros(5, 2, 3)
    x[1, 0, 2], x[4, 1, 1] = NAN, -INF
    label = torch.arange(5)
    weight = torch.tensor([1.0, 1.0, INF, 1.0, 1.0])
    assert nonfinite_samples([x, label]) == [1, 4]
    assert nonfinite_samples({"x": x, "label": label, "weight": weight}) == [1, 2, 4]


def test_what_every_sample_has_singles_none_out():
    mask = torch.tensor([[0.0, -INF], [-INF, -INF]])
    assert nonfinite_samples([torch.zeros(2, 3), mask]) == []
    assert nonfinite_samples([torch.full((3, 1), NAN)], {"kl": torch.full((3,), NAN)}) == []


def test_values_per_sample_of_the_step_count_too():
    outputs = {"loss": torch.tensor(NAN), "kl": torch.tensor([0.0, NAN, 0.0]), "norms": torch.tensor([NAN, 0.0])}
    assert nonfinite_samples([torch.zeros(3, 2)], outputs) == [1]
    assert nonfinite_samples([torch.zeros(3, 2)], torch.tensor(NAN)) == []


def test_nodes_count_for_their_graph():
    graphs = SimpleNamespace(
        x=torch.tensor([[0.0], [NAN], [0.0], [0.0]]), batch=torch.tensor([0, 1, 1, 2]), num_graphs=3
    )
    assert nonfinite_samples(graphs) == [1]


def test_a_batch_of_one_sample_is_judged_by_what_it_holds():
    assert nonfinite_samples([torch.full((1, 2), NAN)]) == [0]
    assert nonfinite_samples([torch.zeros(1, 2)], {"kl": torch.tensor([NAN])}) == []
