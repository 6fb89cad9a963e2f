from __future__ import annotations

import pytest
import torch

from stablelit.callbacks import PartWriter
from stablelit.errors import ConfigurationError, ContractError
from tests.contract.modules import make_module, make_trainer, train_loader, val_loader


def fitted(tmp_path, callback, **more):
    module, trainer = make_module(), make_trainer(tmp_path, [callback], **more)
    trainer.fit(module, train_loader(), val_loader())
    return module, trainer


def test_the_file_has_the_weights_of_the_end_of_the_fit(tmp_path):
    module, trainer = fitted(tmp_path, PartWriter("encoder"))
    content = torch.load(tmp_path / "encoder.pt", weights_only=True)
    assert content["step"] == trainer.global_step
    assert content["part"] == "encoder"
    twin = type(module)().encoder
    twin.load_state_dict(content["state_dict"])
    for one, other in zip(twin.parameters(), module.encoder.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_test_replaces_it_by_the_weights_that_it_tests(tmp_path):
    module, trainer = fitted(tmp_path, PartWriter("encoder"))
    with torch.no_grad():
        for p in module.encoder.parameters():
            p.fill_(3.0)
    trainer.test(module, val_loader(), verbose=False)
    weights = torch.load(tmp_path / "encoder.pt", weights_only=True)["state_dict"]
    assert all((value == 3.0).all() for value in weights.values())


def test_no_unfinished_file_is_left(tmp_path):
    fitted(tmp_path, PartWriter("encoder", file="frozen.pt"))
    assert (tmp_path / "frozen.pt").is_file()
    assert not list(tmp_path.glob(".*"))


def test_a_trial_run_leaves_nothing(tmp_path):
    fitted(tmp_path, PartWriter("encoder"), fast_dev_run=True)
    assert not (tmp_path / "encoder.pt").exists()


def test_a_part_that_is_not_there_is_told_before_training(tmp_path):
    with pytest.raises(ContractError, match=r"no part 'encodr'. It has .*encoder.*Did you mean"):
        fitted(tmp_path, PartWriter("encodr"))


@pytest.mark.parametrize("arguments", [{"part": ""}, {"part": None}, {"file": ""}, {"directory": 3}])
def test_arguments_that_are_no_text_are_refused(arguments):
    with pytest.raises(ConfigurationError, match=next(iter(arguments))):
        PartWriter(**arguments)


def test_the_file_of_a_compiled_part_is_that_of_the_part(tmp_path):
    module, trainer = make_module(), make_trainer(tmp_path, [PartWriter("encoder")], max_epochs=1)
    module.encoder = torch.compile(module.encoder, backend="eager")
    trainer.fit(module, train_loader(), val_loader())
    content = torch.load(tmp_path / "encoder.pt", weights_only=True)
    assert content["class"] == "torch.nn.modules.linear.Linear"
    assert set(content["state_dict"]) == {"weight", "bias"}
    assert torch.equal(content["state_dict"]["weight"], module.encoder._orig_mod.weight)


@pytest.mark.parametrize("kind", ["FSDPStrategy", "DeepSpeedStrategy"])
def test_parameters_in_a_form_of_their_own_are_refused_before_training(kind, tmp_path):
    module, trainer = make_module(), make_trainer(tmp_path, [])
    trainer.strategy.__class__ = type(kind, (type(trainer.strategy),), {})
    with pytest.raises(ConfigurationError, match=f"{kind} keeps parts of parameters.*'encoder'"):
        PartWriter("encoder").setup(trainer, module, "fit")
