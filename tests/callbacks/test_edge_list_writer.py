from __future__ import annotations

from types import SimpleNamespace

import lightning.pytorch as pl
import networkx
import numpy as np
import pytest
import torch
from lightning.pytorch.strategies import ModelParallelStrategy, SingleDeviceStrategy

from stablelit.callbacks import EdgeListWriter
from stablelit.contracts import HasEdgeList, WritesEdges
from stablelit.errors import ConfigurationError, ContractError
from stablelit.families.causal.edges import EdgeList
from tests.contract.modules import make_module, make_trainer, train_loader, val_loader

FILES = {"edges.csv", "graph.graphml"}


def written(directory):
    return {path.name for path in directory.iterdir()} & FILES


def scores_in(directory):
    return torch.tensor([list(map(float, row.split(","))) for row in (directory / "edges.csv").read_text().split()])


def test_the_graph_at_the_end_of_the_fit_is_written_and_not_before(tmp_path):
    module, seen = make_module(), []

    class Watch(pl.Callback):
        def on_train_end(self, trainer, pl_module):
            seen.append(written(tmp_path))

    trainer = make_trainer(tmp_path, [EdgeListWriter(), Watch()])
    trainer.fit(module, train_loader(), val_loader())
    assert seen == [set()]
    assert written(tmp_path) == FILES
    assert torch.equal(scores_in(tmp_path), module.edge_scores())


def test_a_test_writes_the_graph_that_it_tested(tmp_path):
    module = make_module()
    trainer = make_trainer(tmp_path, [EdgeListWriter()])
    trainer.fit(module, train_loader(), val_loader())
    other = make_module(seed=7)
    trainer.test(other, val_loader(), verbose=False)
    assert torch.equal(scores_in(tmp_path), other.edge_scores())


def test_a_validation_alone_writes_nothing(tmp_path):
    make_trainer(tmp_path, [EdgeListWriter()]).validate(make_module(), val_loader(), verbose=False)
    assert not written(tmp_path)


def test_a_directory_of_ones_own_is_made(tmp_path):
    trainer = make_trainer(tmp_path / "run", [EdgeListWriter(str(tmp_path / "some" / "where"))])
    trainer.test(make_module(), val_loader(), verbose=False)
    assert written(tmp_path / "some" / "where") == FILES
    assert not (tmp_path / "run").exists()


def test_without_a_logger_the_files_are_in_the_root_directory(tmp_path):
    make_trainer(tmp_path, [EdgeListWriter()], logger=False).test(make_module(), val_loader(), verbose=False)
    assert written(tmp_path) == FILES


def test_the_familys_edge_list_keeps_the_contract(tmp_path):
    edges = EdgeList.from_weights(np.triu(np.ones((3, 3)), 1), ["a", "b", "c"])
    assert isinstance(edges, WritesEdges)
    module = make_module()
    module.edge_list = lambda: edges
    assert isinstance(module, HasEdgeList)
    make_trainer(tmp_path, [EdgeListWriter()]).test(module, val_loader(), verbose=False)
    assert EdgeList.from_csv(tmp_path / "edges.csv").edges == edges.edges
    assert networkx.read_graphml(tmp_path / "graph.graphml").number_of_edges() == 3


def test_a_rank_other_than_zero_is_not_even_asked(tmp_path):
    module, callback = make_module(), EdgeListWriter(str(tmp_path))
    asked = []
    module.edge_list = lambda: asked.append(1) or EdgeList(["a", "b"], [])
    for is_global_zero in (False, True):
        callback.on_fit_end(one_rank(is_global_zero, SingleDeviceStrategy("cpu")), module)
        assert len(asked) == is_global_zero
        assert bool(written(tmp_path)) == is_global_zero


def test_of_a_module_in_shards_every_rank_is_asked_and_one_writes(tmp_path):
    module, callback = make_module(), EdgeListWriter(str(tmp_path))
    asked = []
    module.edge_list = lambda: asked.append(1) or EdgeList(["a", "b"], [])
    for ranks, is_global_zero in enumerate((False, True), 1):
        callback.on_fit_end(one_rank(is_global_zero, ModelParallelStrategy()), module)
        assert len(asked) == ranks
        assert bool(written(tmp_path)) == is_global_zero


def one_rank(is_global_zero, strategy):
    return SimpleNamespace(is_global_zero=is_global_zero, fast_dev_run=False, strategy=strategy)


def test_a_module_without_edges_is_refused_before_the_fit(tmp_path):
    module = make_module(kind="logging")
    with pytest.raises(ContractError, match=r"LoggingVAE has no edge_list\(\).*to_graphml"):
        make_trainer(tmp_path, [EdgeListWriter()]).fit(module, train_loader())


def test_edges_that_do_not_write_themselves_are_refused(tmp_path):
    module = make_module()
    module.edge_list = lambda: [("a", "b")]
    with pytest.raises(ContractError, match=r"TinyVAE.edge_list\(\) returned a list; allowed: an object with to_csv"):
        make_trainer(tmp_path, [EdgeListWriter()]).test(module, val_loader(), verbose=False)


@pytest.mark.parametrize("directory", ["", 3])
def test_a_directory_that_is_none_is_refused(directory):
    with pytest.raises(ConfigurationError, match="EdgeListWriter: directory="):
        EdgeListWriter(directory)


@pytest.mark.parametrize("print_table", [True, False])
def test_the_edges_are_printed_after_a_test_where_they_have_a_table(tmp_path, capsys, print_table):
    module = make_module()
    weights = np.array([[0.0, 0.5], [0.0, 0.0]])
    module.edge_list = lambda: EdgeList.from_weights(weights, ["pump", "flow"])
    trainer = make_trainer(tmp_path, [EdgeListWriter(print_table=print_table)])
    trainer.test(module, val_loader(), verbose=False)
    assert ("pump -> flow  0.5" in capsys.readouterr().out) is print_table
