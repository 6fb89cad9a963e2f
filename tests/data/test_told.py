from __future__ import annotations

from lightning.pytorch.utilities import rank_zero_only

from stablelit.data.told import teller


def test_a_line_is_told_in_its_owners_name_by_the_first_process_alone(capsys, monkeypatch):
    say = teller("JetDataModule")
    monkeypatch.setattr(rank_zero_only, "rank", 0)
    say("dropped 2 jets.")
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    say("dropped 3 jets.")
    assert capsys.readouterr().out == "JetDataModule: dropped 2 jets.\n"
