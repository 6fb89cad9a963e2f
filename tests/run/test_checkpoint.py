from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from stablelit.errors import ConfigurationError
from stablelit.run.checkpoint import locate_run, read_checkpoint, require_match


class Unpicklable:
    pass


@pytest.mark.parametrize("content", [b"", b"nonsense", pickle.dumps({"a": 1})[:-1]])
def test_a_file_that_is_no_checkpoint_is_named(content):
    Path("x.ckpt").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"x\.ckpt"):
        read_checkpoint(Path("x.ckpt"))


def test_a_checkpoint_with_python_objects_is_not_executed():
    torch.save({"state_dict": {}, "thing": Unpicklable()}, "x.ckpt")
    with pytest.raises(ConfigurationError, match="Python objects.*Unpicklable"):
        read_checkpoint(Path("x.ckpt"))


def test_plain_weights_are_no_checkpoint():
    torch.save({"weight": torch.zeros(1)}, "x.ckpt")
    with pytest.raises(ConfigurationError, match="no 'state_dict'"):
        read_checkpoint(Path("x.ckpt"))


def test_parameters_of_one_side_only_are_named():
    checkpoint = {"state_dict": {"weight": torch.zeros(2, 2), "gone": torch.zeros(1)}}
    module = nn.Linear(2, 2)
    module.strict_loading = True
    import lightning.pytorch as pl

    class Holder(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(2, 2))
            self.new = nn.Parameter(torch.zeros(1))

    with pytest.raises(ConfigurationError, match="new is only in the model; gone is only in the checkpoint"):
        require_match(checkpoint, Holder(), Path("x.ckpt"))


def test_a_run_directory_means_its_preferred_checkpoint(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/last.ckpt").touch()
    last = tmp_path / "checkpoints/last.ckpt"
    assert locate_run(tmp_path, "run", prefer="checkpoints/best.ckpt") == (tmp_path, last)
    assert locate_run(last, "run") == (tmp_path, last)
