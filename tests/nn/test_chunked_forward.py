from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from stablelit.errors import ConfigurationError, DataError
from stablelit.functional.contrastive import nt_xent
from stablelit.nn import chunked_forward, has_batch_norm


def network(*inside: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), *inside, nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5)).double()


@pytest.fixture
def x():
    return torch.randn(22, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def gradients(model, forward, x):
    model.zero_grad()
    nt_xent(*forward(x).chunk(2)).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def in_chunks(model, chunk_size):
    return lambda x: chunked_forward(model, x, chunk_size)


@pytest.mark.parametrize("chunk_size", [1, 4, 8, 21, 22, 99])
def test_the_gradient_of_a_loss_over_all_rows_is_that_of_one_forward(x, chunk_size):
    model = network(nn.GroupNorm(2, 4))
    whole = gradients(model, model, x)
    told = gradients(model, in_chunks(model, chunk_size), x)
    assert (told - whole).norm() <= 1e-12 * whole.norm()
    parts = sum(nt_xent(*model(part).chunk(2)) for part in x.split(6))
    assert not torch.allclose(torch.autograd.grad(parts, model[0].weight)[0].flatten(), whole[:36], rtol=0.1)


def test_single_precision_keeps_its_digits(x):
    model = network().float()
    whole = gradients(model, model, x.float())
    told = gradients(model, in_chunks(model, 3), x.float())
    assert (told - whole).norm() <= 1e-6 * whole.norm()


def test_the_input_has_its_gradient_too(x):
    model = network()
    whole = torch.autograd.grad(nt_xent(*model(x.requires_grad_()).chunk(2)), x)[0]
    told = torch.autograd.grad(nt_xent(*chunked_forward(model, x, 5).chunk(2)), x)[0]
    assert (told - whole).norm() <= 1e-12 * whole.norm()


def test_dropout_is_the_same_both_times(x):
    model = network(nn.Dropout(0.5))
    torch.manual_seed(7)
    told = gradients(model, in_chunks(model, 8), x)
    torch.manual_seed(7)
    # 22 rows in chunks of at most 8 are 8, 7 and 7
    kept = gradients(model, lambda x: torch.cat([model(part) for part in x.split([8, 7, 7])]), x)
    assert (told - kept).norm() <= 1e-12 * kept.norm()


def test_batch_normalisation_is_that_of_each_chunk(x):
    model = network(nn.BatchNorm2d(4))
    told = gradients(model, in_chunks(model, 11), x)
    per_chunk = gradients(model, lambda x: torch.cat([model(part) for part in x.split(11)]), x)
    whole = gradients(model, model, x)
    assert (told - per_chunk).norm() <= 1e-12 * per_chunk.norm()
    assert (told - whole).norm() > 0.01 * whole.norm()


@pytest.mark.parametrize("momentum", [0.1, 1.0, None])
@pytest.mark.parametrize("chunk_size", [6, 11])
def test_running_statistics_move_once_to_the_mean_of_the_chunks(x, momentum, chunk_size):
    model = network(nn.BatchNorm2d(4, momentum=momentum))
    gradients(model, model, x + 1)
    norm, before = model[1], copy.deepcopy(model[1])
    gradients(model, in_chunks(model, chunk_size), x)
    with torch.no_grad():
        parts = model[0](x).tensor_split(-(-22 // chunk_size))
        mean = sum(len(p) * p.mean(dim=(0, 2, 3)) for p in parts) / 22
        variance = sum(len(p) * p.var(dim=(0, 2, 3)) for p in parts) / 22
    share = 0.5 if momentum is None else momentum
    assert torch.allclose(norm.running_mean, (1 - share) * before.running_mean + share * mean, rtol=1e-12)
    assert torch.allclose(norm.running_var, (1 - share) * before.running_var + share * variance, rtol=1e-12)
    assert norm.num_batches_tracked == 2
    assert norm.momentum == momentum


def test_frozen_batch_normalisation_stays_frozen(x):
    model = network(nn.BatchNorm2d(4))
    model[1].eval()
    before = copy.deepcopy(model[1].state_dict())
    whole = gradients(model, model, x)
    told = gradients(model, in_chunks(model, 5), x)
    assert (told - whole).norm() <= 1e-12 * whole.norm()
    assert all(torch.equal(before[name], value) for name, value in model[1].state_dict().items())


def test_an_error_inside_leaves_batch_normalisation_as_it_was(x):
    model = network(nn.BatchNorm2d(4))
    with pytest.raises(RuntimeError):
        chunked_forward(model, x[:, :, :5], 8)
    assert model[1].momentum == 0.1
    assert model[1].num_batches_tracked == 0


def test_autocast_is_the_same_both_times(x):
    model = network().float()
    with torch.autocast("cpu", torch.bfloat16):
        told = gradients(model, in_chunks(model, 11), x.float())
        kept = gradients(model, lambda x: torch.cat([model(part) for part in x.split(11)]), x.float())
    assert chunked_forward(model, x.float(), 11).dtype == torch.float32
    # the parts' gradients are added up in another order
    assert (told - kept).norm() <= 1e-2 * kept.norm()


class TwoOutputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.projector = network(), nn.Linear(5, 2).double()

    def embed(self, x):
        h = self.encoder(x)
        return h, self.projector(h)


def test_a_method_may_give_several_outputs(x):
    model = TwoOutputs()
    h, z = chunked_forward(model.embed, x, 5)
    expected = model.embed(x)
    assert torch.allclose(h, expected[0], rtol=1e-12)
    assert torch.allclose(z, expected[1], rtol=1e-12)


def test_without_gradient_nothing_is_kept_and_the_rows_are_the_same(x):
    model = network().eval()
    with torch.no_grad():
        told = chunked_forward(model, x, 5)
    assert not told.requires_grad
    assert torch.allclose(told, model(x), rtol=1e-12)


def peak_bytes(action):
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        action()
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    live = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        live += event.nbytes()
        most = max(most, live)
    return most


def test_eight_chunks_keep_at_most_a_sixth_of_the_activations():
    torch.manual_seed(0)
    model = nn.Sequential(*(m for _ in range(4) for m in (nn.Conv2d(4, 4, 3, padding=1), nn.Tanh())), nn.Flatten())
    model.append(nn.Linear(4 * 256, 8))
    x = torch.randn(256, 4, 16, 16)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    whole = peak_bytes(lambda: model(x).square().sum().backward())
    chunked = peak_bytes(lambda: chunked_forward(model, x, 32).square().sum().backward())
    assert 0 < chunked <= whole / 6


def test_batch_normalisation_is_found_wherever_it_is():
    assert has_batch_norm(nn.Sequential(nn.Identity(), nn.Sequential(nn.BatchNorm1d(3))))
    assert has_batch_norm(nn.SyncBatchNorm(3))
    assert not has_batch_norm(nn.Sequential(nn.GroupNorm(1, 3), nn.InstanceNorm2d(3), nn.LayerNorm(3)))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: chunked_forward(network(), x, 0), ConfigurationError, "chunk_size=0 is not allowed"),
        (lambda x: chunked_forward(lambda x: x, x, 2), ConfigurationError, "a torch.nn.Module or a method of one"),
        (lambda x: chunked_forward(nn.Flatten(0), x, 11), DataError, r"11 rows became \(704,\)"),
    ],
)
def test_what_cannot_be_is_refused_by_name(x, call, error, message):
    with pytest.raises(error, match=message):
        call(x)
