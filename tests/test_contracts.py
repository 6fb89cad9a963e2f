from __future__ import annotations

import pytest
import torch
from torch import nn

from stablelit.contracts import GeneratesToFile, HasDifficulty, HasFigures, HasKLPenalty, Scalar
from stablelit.errors import ContractError


class Loss(nn.Module):
    def __init__(self):
        super().__init__()
        self.lambda_sparse = 0.1
        self.register_buffer("temperature", torch.tensor(0.5))
        self.register_buffer("matrix", torch.zeros(2, 2))
        self.weight = nn.Parameter(torch.tensor(1.0))
        self.label = "a"
        self.enabled = True

    @property
    def fixed(self):
        return 1.0

    @property
    def mirrored(self):
        return self.lambda_sparse

    @mirrored.setter
    def mirrored(self, value):
        self.lambda_sparse = value


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.loss = Loss()
        self.kl_weight = 1.0


def test_a_float_at_a_dotted_path_is_read_and_written():
    model = Model()
    scalar = Scalar(model, "loss.lambda_sparse")
    assert scalar.value == 0.1
    scalar.set(0.7)
    assert model.loss.lambda_sparse == 0.7
    scalar.set(torch.tensor(0.25))
    assert isinstance(model.loss.lambda_sparse, float)


def test_a_buffer_is_filled_in_place():
    model = Model()
    buffer = model.loss.temperature
    Scalar(model, "loss.temperature").set(0.125)
    assert model.loss.temperature is buffer
    assert buffer.item() == 0.125
    Scalar(model, "loss.temperature").set(torch.tensor(0.75, dtype=torch.float64))
    assert buffer.item() == 0.75


def test_a_buffer_that_was_replaced_is_the_one_that_is_read():
    model = Model()
    scalar = Scalar(model, "loss.temperature")
    model.loss.temperature = torch.tensor(0.5)
    assert scalar.value is model.loss.temperature
    model.double()
    assert scalar.value.dtype == torch.float64
    del model.loss.temperature
    model.loss.temperature = 0.25
    assert scalar.value == 0.25


def test_a_property_with_a_setter_is_written():
    model = Model()
    Scalar(model, "loss.mirrored").set(3.0)
    assert model.loss.lambda_sparse == 3.0


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("kl_wieght", r"Model has nothing at 'kl_wieght'.*kl_weight.*Did you mean 'kl_weight'"),
        ("loss.lambda_spares", r"loss.lambda_spares.*lambda_sparse, temperature.*Did you mean 'lambda_sparse'"),
        ("los.lambda_sparse", r"nothing at 'los'"),
        ("loss.fixed", r"Model.loss.fixed is a read-only property.*setter"),
        ("loss.matrix", r"shape \(2, 2\)"),
        ("loss.weight", r"Parameter"),
        ("loss.label", r"str.*'a'.*not a number"),
        ("loss.enabled", r"bool"),
    ],
)
def test_what_cannot_be_scheduled_is_refused_with_the_reason(path, says):
    with pytest.raises(ContractError, match=f"(?s)KLCapCallback: .*{says}"):
        Scalar(Model(), path, "KLCapCallback")


def test_the_protocols_ask_for_a_method_and_not_for_a_base_class():
    class Everything:
        def kl_penalty(self, kl_per_dim): ...
        def set_difficulty(self, difficulty): ...
        def figures(self): ...
        def generate_to_file(self, path, n, seed=0): ...

    for protocol in (HasKLPenalty, HasDifficulty, HasFigures, GeneratesToFile):
        assert isinstance(Everything(), protocol)
        assert not isinstance(Model(), protocol)
