from __future__ import annotations

import lightning.pytorch as pl
import pytest

from stablelit.callbacks import ScalarSchedule
from stablelit.errors import ConfigurationError, ContractError
from tests.contract.modules import BATCHES, make_module, make_trainer, train_loader, val_loader

TOTAL = 3 * BATCHES


class Watch(pl.Callback):
    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, pl_module, *args):
        self.seen.append(pl_module.temperature)


def values(directory, schedule, kind="automatic", **kwargs):
    watch = Watch()
    module = make_module(kind=kind)
    make_trainer(directory, [schedule, watch], **kwargs).fit(module, train_loader(), val_loader())
    return watch.seen


@pytest.mark.parametrize("duration", [9, "9st", "9ba", "1.5ep", "0.5dur"])
def test_every_unit_of_the_clock_gives_the_same_ramp(duration, tmp_path):
    seen = values(tmp_path, ScalarSchedule("temperature", 1.0, 0.1, duration=duration))
    assert seen == pytest.approx([1.0 - 0.9 * min(1.0, step / 9) for step in range(TOTAL)])


@pytest.mark.slow
def test_steps_are_optimizer_steps_and_batches_are_batches_under_accumulation(tmp_path):
    by_step = values(tmp_path, ScalarSchedule("temperature", 0.0, 1.0, duration=3), accumulate_grad_batches=2)
    by_batch = values(tmp_path, ScalarSchedule("temperature", 0.0, 1.0, duration="6ba"), accumulate_grad_batches=2)
    assert by_step == pytest.approx([min(1.0, (batch // 2) / 3) for batch in range(TOTAL)])
    assert by_batch == pytest.approx([min(1.0, batch / 6) for batch in range(TOTAL)])


def test_two_optimizers_do_not_make_the_clock_run_twice_as_fast(tmp_path):
    seen = values(tmp_path, ScalarSchedule("temperature", 0.0, 1.0, duration=9), kind="manual")
    assert seen == pytest.approx([min(1.0, step / 9) for step in range(TOTAL)])


def test_the_delay_holds_the_start(tmp_path):
    seen = values(tmp_path, ScalarSchedule("temperature", 1.0, 0.0, duration=4, delay=5))
    assert seen == pytest.approx([1.0 - min(1.0, max(0, step - 5) / 4) for step in range(TOTAL)])


def test_the_logged_value_is_the_one_that_the_step_had(tmp_path):
    watch = Watch()
    trainer = make_trainer(tmp_path, [ScalarSchedule("temperature", 1.0, 0.1, duration=9), watch])
    trainer.fit(make_module(), train_loader())
    logged = [line["schedule/temperature"] for _, line in trainer.logger.lines if "schedule/temperature" in line]
    assert logged == pytest.approx(watch.seen)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"target": "temprature"}, ContractError, "Did you mean 'temperature'"),
        ({"duration": 500}, ConfigurationError, "the run is 18 long.*allow_unfinished=True"),
        ({"shape": "cosin"}, ConfigurationError, "Did you mean 'cosine'"),
        ({"start": "one"}, ConfigurationError, "start='one'"),
        ({"target": "a..b"}, ConfigurationError, "target='a..b'"),
        ({"duration": "1ep", "delay": 3}, ConfigurationError, "different units"),
    ],
)
def test_bad_input_is_refused_before_training(arguments, error, says, tmp_path):
    with pytest.raises(error, match=f"ScalarSchedule.*{says}"):
        values(tmp_path, ScalarSchedule(**{"target": "temperature", "duration": 4, **arguments}))
