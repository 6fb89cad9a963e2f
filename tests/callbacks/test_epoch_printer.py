from __future__ import annotations

import sys

from stablelit.callbacks import EpochPrinter
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
