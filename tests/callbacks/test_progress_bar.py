from __future__ import annotations

import pytest

from stablelit.callbacks import StableProgressBar
from stablelit.errors import ConfigurationError
from tests.contract.modules import make_module, make_trainer, train_loader


def test_it_writes_nothing_into_a_log_file(tmp_path, capsys):
    make_trainer(tmp_path, [StableProgressBar()]).fit(make_module(), train_loader())
    assert "Epoch" not in capsys.readouterr().out


def test_it_shows_what_is_on_the_bar_without_the_version_number(tmp_path):
    bar = StableProgressBar()
    trainer = make_trainer(tmp_path, [bar])
    module = make_module()
    trainer.fit(module, train_loader())
    shown = bar.get_metrics(trainer, module)
    assert "v_num" not in shown
    assert any(name.startswith("train/loss") for name in shown)


@pytest.mark.parametrize("bad", [0, -1, 1.5, True])
def test_a_refresh_rate_below_one_is_refused(bad):
    with pytest.raises(ConfigurationError, match="refresh_rate="):
        StableProgressBar(refresh_rate=bad)
