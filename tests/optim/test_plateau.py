from __future__ import annotations

import pytest
import torch

from stablelit.errors import ConfigurationError
from stablelit.optim import build_optimizers, plateau_schedule
from tests.contract.modules import make_trainer, module_classes, train_loader

TinyVAE = module_classes("lightning.pytorch")["automatic"]


def optimizer(lr=0.8):
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)


def test_the_rate_halves_after_patience_and_rests_while_it_cools_down():
    sgd = optimizer()
    schedule = plateau_schedule(sgd, 100, patience=3, cooldown=1)
    rates = []
    for value in [1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]:
        schedule.step(value)
        rates.append(sgd.param_groups[0]["lr"])
    # best at 2; worse at 3, 4, 5, 6: halved at the fourth; 7 cools down; 8, 9, 10, 11: halved again
    assert rates == [0.8] * 5 + [0.4] * 5 + [0.2]


def test_lightning_is_told_the_metric_and_how_often_it_is_there():
    class Followed(TinyVAE):
        def configure_optimizers(self):
            def schedule(made, total_steps):
                return plateau_schedule(made, total_steps, monitor="train_kl")

            return build_optimizers(self, None, schedule, 1e-2)

    module = Followed()
    trainer = make_trainer(None, [], check_val_every_n_epoch=1)
    trainer.fit(module, train_loader())
    (config,) = trainer.lr_scheduler_configs
    assert (config.monitor, config.interval, config.frequency) == ("train_kl", "epoch", 1)
    # one epoch, one look
    assert config.scheduler.last_epoch == trainer.current_epoch


@pytest.mark.parametrize(
    "wrong", [{"factor": 1.0}, {"factor": 0.0}, {"mode": "best"}, {"patience": -1}, {"monitor": ""}, {"final": -1.0}]
)
def test_settings_out_of_range_are_refused_by_name(wrong):
    (name,) = wrong
    with pytest.raises(ConfigurationError, match=f"plateau_schedule: {name}="):
        plateau_schedule(optimizer(), 100, **wrong)
