from __future__ import annotations

import importlib

import pytest
import torch

from stablelit.callbacks._two_lightnings import defined_as_in, inner_optimizer, is_a
from tests.contract.modules import NAMES, module_classes

each_lightning = pytest.mark.parametrize("name", NAMES)


@each_lightning
def test_things_are_known_under_either_name(name):
    plugin = importlib.import_module(f"{name}.plugins.precision").Precision()
    assert is_a("Precision", plugin)
    assert not is_a("MixedPrecision", plugin)
    assert defined_as_in("Precision", type(plugin), "clip_grad_by_norm")


@each_lightning
def test_a_method_of_somebodys_own_is_not_lightnings(name):
    kind = module_classes(name)["automatic"]
    own = type("Own", (kind,), {"configure_gradient_clipping": lambda self: None})
    assert defined_as_in("LightningModule", kind, "configure_gradient_clipping")
    assert not defined_as_in("LightningModule", own, "configure_gradient_clipping")


@each_lightning
def test_the_inner_optimizer_is_torchs_wrapped_or_not(name):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)
    wrapper = importlib.import_module(f"{name}.core.optimizer").LightningOptimizer(optimizer)
    assert inner_optimizer(wrapper) is optimizer
    assert inner_optimizer(optimizer) is optimizer
