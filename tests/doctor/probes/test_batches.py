from __future__ import annotations

from collections import UserDict, namedtuple
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset
from torch_geometric.data import Batch, Data

from stablelit.doctor.evidence import Evidence
from stablelit.doctor.probes.batches import BatchProbe
from stablelit.doctor.probes.batches_leaves import leaves_of
from stablelit.doctor.probes.batches_rows import row_keys
from tests.doctor.probes.traced import Host, seeded, watch

Pair = namedtuple("Pair", ["x", "y"])


@dataclass
class Sample:
    image: Tensor
    name: str = ""


def begun(training: Any, validation: Any = None) -> BatchProbe:
    probe = BatchProbe()
    probe.begin(SimpleNamespace(train_dataloader=training, val_dataloaders=validation), None, Evidence())
    return probe


def told(probe: BatchProbe) -> Any:
    probe.facts.looks = max(probe.facts.looks, 1)
    evidence = Evidence()
    probe.tell(evidence)
    return evidence.batches


@pytest.mark.parametrize(
    ("batch", "names"),
    [
        (torch.zeros(2), ["batch"]),
        ((torch.zeros(2), [torch.zeros(1), 3]), ["batch[0]", "batch[1][0]"]),
        ({"image": torch.zeros(2), "id": "a"}, ["batch['image']"]),
        (UserDict(ids=torch.zeros(2)), ["batch['ids']"]),
        (Pair(torch.zeros(2), torch.zeros(1)), ["batch.x", "batch.y"]),
        (Sample(torch.zeros(2)), ["batch.image"]),
        (SimpleNamespace(x=torch.zeros(2), _hidden=torch.zeros(1)), ["batch.x"]),
        (None, []),
    ],
    ids=["tensor", "nested", "dict", "mapping", "namedtuple", "dataclass", "attributes", "none"],
)
def test_leaves_have_the_names_by_which_one_gets_them(batch: Any, names: list[str]) -> None:
    assert list(leaves_of(batch)) == names


def test_a_graph_of_torch_geometric_is_gone_through() -> None:
    graph = Batch.from_data_list([Data(x=seeded(3, 2), edge_index=torch.tensor([[0, 1], [1, 2]]))] * 2)
    leaves = leaves_of(graph)
    assert leaves["batch.x"] is graph.x
    assert leaves["batch.edge_index"].shape == (2, 4)


def test_moments_over_looks_are_those_of_all_rows_at_once() -> None:
    batches = [seeded(16, 5, seed=i) * 3 + i for i in range(4)]
    probe = BatchProbe()
    for step, x in enumerate(batches):
        probe.batch_start(SimpleNamespace(current_epoch=0), None, {"x": x}, step)
    leaf = told(probe).leaves["batch['x']"]
    everything = torch.cat(batches).double()
    assert leaf.mean == pytest.approx(everything.mean(0).tolist())
    assert leaf.std == pytest.approx(everything.std(0, correction=0).tolist())
    assert leaf.rms == pytest.approx(float(everything.square().mean().sqrt()))
    assert leaf.largest == pytest.approx(float(everything.abs().max()))


def test_one_number_for_a_whole_batch_hides_nothing_beside_it() -> None:
    probe = BatchProbe()
    for step in range(3):
        batch = {"scale": torch.tensor(0.5), "x": seeded(8, 6, seed=step), "y": torch.arange(8) % 3}
        probe.batch_start(SimpleNamespace(current_epoch=0), None, batch, step)
        probe.validation_batch_start(None, None, batch, step)
    facts = told(probe)
    assert {name: leaf.looks for name, leaf in facts.leaves.items()} == dict.fromkeys(facts.validation, 3)
    assert len(facts.leaves) == 3
    assert (facts.rows.training, facts.rows.shared) == (24, 24)


def test_features_of_pictures_are_their_channels() -> None:
    x = seeded(8, 3, 4, 4) * torch.tensor([1.0, 2.0, 3.0])[:, None, None]
    probe = BatchProbe()
    probe.batch_start(SimpleNamespace(current_epoch=0), None, (x,), 0)
    assert told(probe).leaves["batch[0]"].std == pytest.approx(x.double().std((0, 2, 3), correction=0).tolist())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool])
def test_keys_agree_exactly_where_rows_do(dtype: torch.dtype) -> None:
    rows = (seeded(40, 7) * 9).to(dtype)
    rows[30:] = rows[:10]
    keys = row_keys(rows)
    alike = torch.tensor([[torch.equal(a, b) for a in rows] for b in rows])
    assert torch.equal(keys[:, None] == keys[None], alike)


def test_keys_do_not_depend_on_the_batch_and_not_on_the_sign_of_zero() -> None:
    rows = seeded(9, 300)
    assert torch.equal(torch.cat([row_keys(rows[:2]), row_keys(rows[2:])]), row_keys(rows))
    assert torch.equal(row_keys(torch.tensor([[0.0, 1.0]])), row_keys(torch.tensor([[-0.0, 1.0]])))


def test_keys_draw_no_random_number() -> None:
    state = torch.get_rng_state()
    row_keys(seeded(3, 11))
    assert torch.equal(torch.get_rng_state(), state)


def test_rows_of_stored_data_sets_are_known_before_the_first_step() -> None:
    x, y = seeded(200, 6), torch.arange(200) % 4
    train = TensorDataset(x[:150], y[:150])
    val = TensorDataset(torch.cat([x[150:], x[:10]]), torch.cat([y[150:], y[:10]]))
    rows = told(begun(DataLoader(train, 10, shuffle=True), DataLoader(val, 10))).rows
    assert (rows.training, rows.validation, rows.shared, rows.training_twins) == (150, 60, 10, 0)


def test_parts_of_one_data_set_are_read_by_their_indices() -> None:
    whole = TensorDataset(seeded(50, 6), torch.arange(50) % 2)
    apart = begun(DataLoader(Subset(whole, range(40)), 10), DataLoader(Subset(whole, range(40, 50)), 10))
    overlapping = begun(DataLoader(Subset(whole, range(40)), 10), DataLoader(Subset(whole, range(30, 50)), 10))
    assert told(apart).rows.shared == 0
    assert told(overlapping).rows.shared == 10


def test_rows_of_data_that_are_made_on_the_way_are_counted_as_they_pass() -> None:
    x = seeded(64, 6)
    probe, trainer = BatchProbe(), SimpleNamespace(current_epoch=0)
    for step in range(4):
        probe.batch_start(trainer, None, (x[16 * step : 16 * step + 16],), step)
    for _ in range(2):
        probe.validation_batch_start(trainer, None, (torch.cat([x[:5], seeded(5, 6, seed=9)]),), 4)
    rows = told(probe).rows
    assert (rows.training, rows.validation, rows.shared) == (64, 10, 5)


def test_equal_batches_are_counted_only_in_steps_that_follow_each_other() -> None:
    x = seeded(8, 6)
    trainer = SimpleNamespace(current_epoch=0)
    next_to_each_other, apart, on_purpose = BatchProbe(), BatchProbe(), BatchProbe()
    for i in range(5):
        next_to_each_other.batch_start(trainer, None, (x.clone(),), i)
        apart.batch_start(trainer, None, (x.clone(),), 30 * i)
        on_purpose.batch_start(trainer, None, (x,), i)
    assert told(next_to_each_other).rows.same_batches == 5
    assert told(apart).rows.same_batches == 1
    # one tensor that is handed out again and again: training on the whole of the data
    assert told(on_purpose).rows.same_batches == 1


def test_the_same_input_with_other_targets_is_another_batch() -> None:
    x, probe = seeded(8, 6), BatchProbe()
    for i in range(5):
        probe.batch_start(SimpleNamespace(current_epoch=0), None, (x, torch.full((8,), i)), i)
    assert told(probe).rows.same_batches == 1


class Wrapped(Dataset[Any]):
    def __init__(self, x: Tensor) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Tensor:
        return self.x[index]


def test_what_is_not_finite_is_found_in_what_a_data_set_holds() -> None:
    x = seeded(30, 4)
    x[[3, 7], 1] = float("nan")
    assert told(begun(DataLoader(Wrapped(x), 10))).stored_non_finite == {"x": 2}
    assert told(begun(DataLoader(Wrapped(x.nan_to_num()), 10))).stored_non_finite == {}
    # a sum that overflows is no infinity in the data
    assert told(begun(DataLoader(Wrapped(torch.full((30, 4), 3e38)), 10))).stored_non_finite == {}


def test_a_nan_that_is_masked_does_not_count_as_having_reached_the_loss() -> None:
    x, y = seeded(8, 6), torch.arange(8) % 3
    x[2, 2] = float("nan")

    def masked(m: Host, b: Any) -> Tensor:
        return F.cross_entropy(m.network(b[0].nan_to_num()), b[1])

    def straight(m: Host, b: Any) -> Tensor:
        return F.cross_entropy(m.network(b[0]), b[1])

    for step, reached in ((masked, []), (straight, ["batch[0]"])):
        facts = watch(Host(torch.nn.Linear(6, 3), step), [(x, y)] * 2).batches
        assert facts is not None
        assert facts.reached == reached
        assert facts.leaves["batch[0]"].non_finite == 2


def test_roles_follow_what_meets_weights_and_loss_and_not_the_place() -> None:
    batch = {"a": torch.arange(8) % 3, "b": seeded(8, 6), "c": seeded(8, 6, seed=1)}

    def step(m: Host, b: Any) -> Tensor:
        return F.cross_entropy(m.network(b["b"]), b["a"])

    facts = watch(Host(torch.nn.Linear(6, 3), step), [batch] * 2).batches
    assert facts is not None
    assert {name: leaf.role for name, leaf in facts.leaves.items()} == {
        "batch['a']": "target",
        "batch['b']": "input",
        "batch['c']": "",
    }
    assert facts.labels is not None
    assert facts.labels.counts == {0: 6, 1: 6, 2: 4}


def test_self_loops_are_no_edges() -> None:
    probe = BatchProbe()
    loops, edges = torch.arange(4).repeat(2, 1), torch.tensor([[0, 1], [1, 2]])
    for step in range(3):
        graph = {"x": seeded(4, 3), "edge_index": torch.cat([loops, edges], 1)}
        probe.batch_start(SimpleNamespace(current_epoch=0), None, graph, step)
    facts = told(probe).edges
    assert (facts.looks, facts.nodes, facts.edges, facts.self_loops) == (3, 12, 6, 12)


@pytest.mark.parametrize("shape", [(64, 8), (32, 3, 8, 8), (32, 10, 4)], ids=["rows", "pictures", "sequences"])
def test_drift_is_one_for_rows_in_a_random_order_and_far_from_it_for_rows_that_move(shape: tuple[int, ...]) -> None:
    def drift(moving: float) -> float:
        probe = BatchProbe()
        for i in range(8):
            # what all places of a row share
            own = seeded(shape[0], *[1] * (len(shape) - 1), seed=50 + i)
            probe.batch_start(SimpleNamespace(current_epoch=0), None, (seeded(*shape, seed=i) + own + moving * i,), i)
        return float(told(probe).leaves["batch[0]"].drift)

    assert 0.2 < drift(0.0) < 4
    assert drift(1.0) > 30
