from __future__ import annotations

import os
import shutil
import signal

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import AsyncCheckpointIO, TorchCheckpointIO

from stablelit.callbacks import DurableCheckpoint
from stablelit.callbacks.durable_checkpoint import previous_of
from stablelit.data.checkpoint_files import damage_of, step_of
from stablelit.errors import ConfigurationError
from tests.contract.modules import BATCHES, make_module, make_trainer, train_loader, val_loader


def fit(directory, *callbacks, epochs=3, ckpt_path=None, **kwargs):
    saving = ModelCheckpoint(dirpath=directory / "c", filename="best", save_last=True, enable_version_counter=False)
    trainer = make_trainer(directory, [saving, *callbacks], max_epochs=epochs, enable_checkpointing=True, **kwargs)
    trainer.fit(make_module(), train_loader(), val_loader(), ckpt_path=ckpt_path)
    return trainer


@pytest.mark.slow
def test_last_and_the_one_before_it_are_whole(tmp_path):
    fit(tmp_path, DurableCheckpoint())
    found = {path.name: step_of(path) for path in (tmp_path / "c").iterdir()}
    assert found == {"best.ckpt": 3 * BATCHES, "last.ckpt": 3 * BATCHES, "previous.ckpt": 2 * BATCHES}
    assert all(damage_of(path) is None for path in (tmp_path / "c").iterdir())


def test_the_one_before_can_be_left_out(tmp_path):
    fit(tmp_path, DurableCheckpoint(keep_previous=False))
    assert {path.name for path in (tmp_path / "c").iterdir()} == {"best.ckpt", "last.ckpt"}


@pytest.mark.slow
def test_lightning_loads_a_flipped_bit_without_a_word_and_this_does_not(tmp_path):
    fit(tmp_path, DurableCheckpoint(), epochs=2)
    last = tmp_path / "c/last.ckpt"
    content = bytearray(last.read_bytes())
    weight = torch.load(last, weights_only=True)["state_dict"]["encoder.weight"].numpy().tobytes()
    content[content.index(weight) + 10] ^= 0x40
    last.write_bytes(content)
    make_trainer(tmp_path, []).fit(make_module(), train_loader(), val_loader(), ckpt_path=str(last))
    with pytest.raises(ConfigurationError, match=r"last\.ckpt is damaged.*Whole beside it: .*previous\.ckpt"):
        make_trainer(tmp_path, [DurableCheckpoint()]).fit(
            make_module(), train_loader(), val_loader(), ckpt_path=str(last)
        )


def test_a_test_of_a_damaged_checkpoint_is_refused(tmp_path):
    trainer = fit(tmp_path, DurableCheckpoint(), epochs=1)
    best = tmp_path / "c/best.ckpt"
    best.write_bytes(best.read_bytes()[:-50])
    with pytest.raises(ConfigurationError, match=r"best\.ckpt is damaged"):
        trainer.test(make_module(), val_loader(), ckpt_path=str(best))


@pytest.mark.slow
def test_a_kill_while_last_is_written_leaves_it_whole_where_lightning_leaves_half_a_file(tmp_path, monkeypatch):
    """Temporary files on another file system: the process dies in the middle of Lightning's copy onto last.ckpt."""
    left = {}
    for kind, callbacks in (("lightning", []), ("durable", [DurableCheckpoint()])):
        pid = os.fork()
        if pid == 0:
            _die_in_the_second_epochs_copy()
            fit(tmp_path / kind, *callbacks)
            os._exit(0)
        status = os.waitpid(pid, 0)[1]
        assert os.WIFSIGNALED(status), "the process was to die"
        left[kind] = damage_of(tmp_path / kind / "c/last.ckpt")
    assert left["lightning"] is not None
    assert left["durable"] is None
    assert step_of(tmp_path / "durable/c/last.ckpt") == BATCHES
    # the next start takes away what the kill has left
    assert [p.name for p in (tmp_path / "durable/c").iterdir() if p.name.endswith(".part")]
    trainer = fit(tmp_path / "durable", DurableCheckpoint(), ckpt_path=str(tmp_path / "durable/c/last.ckpt"))
    assert trainer.global_step == 3 * BATCHES
    assert not [p.name for p in (tmp_path / "durable/c").iterdir() if p.name.endswith(".part")]


def _die_in_the_second_epochs_copy():
    writes = []

    def is_the_second(path):
        if "last.ckpt" in str(path):
            writes.append(path)
        return "last.ckpt" in str(path) and len(writes) == 2

    def copying(temporary, path):
        """What `shutil.move` does between file systems."""
        with open(temporary, "rb") as source, open(path, "wb") as target:
            if is_the_second(path):
                target.write(source.read(1000))
                target.flush()
                os.kill(os.getpid(), signal.SIGKILL)
            target.write(source.read())

    real_fsync = os.fsync

    def fsync(fd):
        if is_the_second(os.readlink(f"/proc/self/fd/{fd}")):
            os.kill(os.getpid(), signal.SIGKILL)
        real_fsync(fd)

    shutil.move, os.fsync = copying, fsync


def test_it_stands_inside_of_what_writes_in_the_background(tmp_path):
    trainer = fit(tmp_path, DurableCheckpoint(), plugins=[AsyncCheckpointIO()])
    assert isinstance(trainer.strategy._checkpoint_io, AsyncCheckpointIO)
    assert {path.name for path in (tmp_path / "c").iterdir()} == {"best.ckpt", "last.ckpt", "previous.ckpt"}


@pytest.mark.filterwarnings("ignore:DurableCheckpoint")
def test_somebody_elses_writer_is_left_alone_and_that_is_said(tmp_path):
    class Mine(TorchCheckpointIO):
        pass

    mine = Mine()
    with pytest.warns(UserWarning, match="writes its checkpoints with Mine, which is left as it is"):
        trainer = fit(tmp_path, DurableCheckpoint(), plugins=[mine], epochs=1)
    assert trainer.strategy.checkpoint_io is mine


def test_only_the_last_has_a_previous(tmp_path):
    assert previous_of(tmp_path / "last-v2.ckpt") == tmp_path / "previous-v2.ckpt"
    assert previous_of(tmp_path / "best.ckpt") is None
    assert previous_of(tmp_path / "lasting.pt") is None


def test_a_wrong_argument_is_told():
    with pytest.raises(ConfigurationError, match="keep_previous='no' is not allowed"):
        DurableCheckpoint("no")
