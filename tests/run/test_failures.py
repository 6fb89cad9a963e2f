from __future__ import annotations

import pytest
import torch

from stablelit.errors import ConfigurationError
from stablelit.findings import Finding, FindingError
from stablelit.run.failures import from_child_process, is_divergence, is_out_of_memory, memory_advice


def test_memory_that_really_ran_out_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory."), MemoryError()])
def test_memory_errors_are_recognised(error):
    assert is_out_of_memory(error)


def test_other_errors_are_not_about_memory():
    assert not is_out_of_memory(RuntimeError("shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_what_torch_says_of_nan_is_recognised():
    with pytest.raises(ValueError, match="nan") as caught:
        torch.distributions.Normal(torch.tensor(float("nan")), 1.0, validate_args=True)
    assert is_divergence(caught.value)


@pytest.mark.parametrize(("name", "diverged"), [("kl-non-finite", True), ("kl-target-out-of-reach", False)])
def test_a_finding_that_was_raised_is_judged_by_its_name(name, diverged):
    assert is_divergence(FindingError(Finding(name, "critical", "the KL is inf"))) is diverged


@pytest.mark.parametrize("error", [TypeError("nan"), ValueError("nanny"), RuntimeError("information")])
def test_other_errors_are_no_divergence(error):
    assert not is_divergence(error)


def test_half_the_batch_is_advised():
    assert "data.batch_size=128" in memory_advice(256)
    assert "data.batch_size" not in memory_advice(None)


def test_an_error_of_ours_comes_back_out_of_a_forked_rank():
    from torch.multiprocessing.spawn import ProcessRaisedException

    text = "\n\n-- Process 1 terminated with the following error:\nTraceback (most recent call last):\n"
    wrapped = ProcessRaisedException(f"{text}stablelit.errors.ConfigurationError: too long.\nShorten it.\n", 1, 7)
    ours = from_child_process(wrapped)
    assert type(ours) is ConfigurationError
    assert str(ours) == "too long.\nShorten it."
    foreign = ProcessRaisedException(f"{text}ValueError: x\n", 1, 7)
    assert from_child_process(foreign) is foreign


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_drawing_from_probabilities_that_are_no_numbers_is_a_divergence(bad):
    with pytest.raises(RuntimeError) as caught:
        torch.multinomial(torch.tensor([bad, 1.0]), 3, replacement=True)
    assert is_divergence(caught.value)


def test_what_was_asked_for_may_be_infinite_and_is_no_divergence():
    assert not is_divergence(ConfigurationError("total_steps=inf is not allowed."))
    assert is_divergence(ValueError("found inf"))
