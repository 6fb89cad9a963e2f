from __future__ import annotations

import sys

import lightning.pytorch as pl
import pytest

from stablelit.callbacks import EpochPrinter
from stablelit.errors import ConfigurationError
from tests.contract.modules import make_module, make_trainer, train_loader, val_loader


def test_one_line_an_epoch_with_what_the_bar_would_show(tmp_path, capsys):
    make_trainer(tmp_path, [EpochPrinter()]).fit(make_module(), train_loader(), val_loader())
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert [line.split()[1] for line in lines] == ["1/3", "2/3", "3/3"]
    assert all("train/loss" in line and " s)" in line for line in lines)


def test_it_is_silent_where_a_terminal_has_the_bar(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    make_trainer(tmp_path, [EpochPrinter()]).fit(make_module(), train_loader())
    assert "epoch" not in capsys.readouterr().out


def printed(capsys) -> list[str]:
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]


def test_columns_choose_name_and_join_what_is_shown(tmp_path, capsys):
    columns = {"loss": "train/loss", "both": ["train/loss", "train/loss"], "lr": "lr", "absent": "never/logged"}
    make_trainer(tmp_path, [EpochPrinter(columns=columns)]).fit(make_module(), train_loader())
    words = printed(capsys)[-1].split()
    loss = words[words.index("loss") + 1]
    assert words[words.index("both") + 1] == f"{loss}/{loss}"
    assert float(words[words.index("lr") + 1]) > 0
    assert "absent" not in words


class Scripted(pl.Callback):
    """Logs a metric whose values are known."""

    def __init__(self, values):
        self.values = values

    def on_train_epoch_end(self, trainer, pl_module):
        self.log("watched", self.values[trainer.current_epoch])


@pytest.mark.parametrize(("mode", "expected"), [("min", [True, False, True]), ("max", [True, True, False])])
def test_a_new_best_value_is_marked_and_no_other(tmp_path, capsys, mode, expected):
    callbacks = [Scripted([2.0, 3.0, 1.0]), EpochPrinter(best="watched", mode=mode)]
    make_trainer(tmp_path, callbacks).fit(make_module(), train_loader())
    assert [line.endswith("NEW BEST") for line in printed(capsys)] == expected


def test_what_a_later_callback_logs_at_the_epochs_end_is_in_its_line(tmp_path, capsys):
    callbacks = [EpochPrinter(columns={"watched": "watched"}), Scripted([2.0, 3.0, 1.0])]
    make_trainer(tmp_path, callbacks).fit(make_module(), train_loader())
    assert [line.split()[3] for line in printed(capsys)] == ["2", "3", "1"]


def test_a_resumed_run_remembers_the_best_value():
    before = EpochPrinter(best="watched")
    before._best_value = 1.5
    after, other = EpochPrinter(best="watched"), EpochPrinter(best="another")
    for printer in (after, other):
        printer.load_state_dict(before.state_dict())
    assert after._best_value == 1.5
    assert other._best_value is None


def test_the_epoch_that_a_checkpoint_closes_counts_though_its_line_is_printed_later(tmp_path, capsys):
    class SaveEveryEpoch(pl.callbacks.Checkpoint):
        def on_train_epoch_end(self, trainer, pl_module):
            trainer.save_checkpoint(tmp_path / f"{trainer.current_epoch}.ckpt")

    def fit(ckpt_path=None):
        callbacks = [Scripted([3.0, 1.0, 2.0]), EpochPrinter(best="watched"), SaveEveryEpoch()]
        trainer = make_trainer(tmp_path, callbacks, enable_checkpointing=True)
        trainer.fit(make_module(), train_loader(), ckpt_path=ckpt_path)
        return [line.endswith("NEW BEST") for line in printed(capsys)]

    assert fit() == [True, True, False]
    assert fit(tmp_path / "1.ckpt") == [False], "2 is worse than the 1 of the epoch before"


@pytest.mark.parametrize("wrong", [{"columns": ["train/loss"]}, {"columns": {"a": ["x", "y", "z"]}}, {"mode": "best"}])
def test_arguments_of_another_form_are_refused(wrong):
    with pytest.raises(ConfigurationError, match="EpochPrinter: (columns|mode)"):
        EpochPrinter(**wrong)
