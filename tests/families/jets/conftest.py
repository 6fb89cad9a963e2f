from __future__ import annotations

import pytest
import torch

from stablelit.families.jets.generator import toy_shower
from stablelit.families.jets.jet_arrays import JetArrays


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def toy_jets() -> JetArrays:
    return toy_shower(300, seed=3).validate("toy")


@pytest.fixture
def batch(toy_jets: JetArrays) -> dict[str, torch.Tensor]:
    few = toy_jets.take(slice(0, 12))
    tensors = {name: torch.from_numpy(getattr(few, name).copy()) for name in ("particles", "mask", "jet", "label")}
    # unequal jets, down to one and two particles
    for row, count in ((0, 1), (1, 2), (2, 3), (3, 7)):
        tensors["mask"][row, count:] = False
        tensors["particles"][row, count:] = 0.0
        tensors["jet"][row, 3] = count
    return tensors
