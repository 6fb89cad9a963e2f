from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from stablelit.errors import ConfigurationError
from stablelit.families.sketches.encoder import SketchCNN
from stablelit.families.sketches.pretrained import Comparison, compared, load_encoder, untrained_twin


def encoder(seed=0, **kwargs):
    torch.manual_seed(seed)
    made = SketchCNN(**{"width": 8, "n_blocks": 2, **kwargs})
    # running statistics as of a trained one
    made.train()(3 + torch.randn(64, 1, 16, 16))
    return made.eval()


def weights(module, prefix=""):
    return {prefix + name: value for name, value in module.state_dict().items()}


def lightning(state):
    return {"state_dict": state, "pytorch-lightning_version": "2.6.6", "epoch": 1}


WAYS = {
    "encoder.pt": lambda e: ("encoder.pt", {"state_dict": weights(e)}),
    "run": lambda e: (
        "checkpoints/last.ckpt",
        lightning({**weights(e, "encoder."), "projector.weight": torch.ones(1)}),
    ),
    "compiled": lambda e: ("checkpoints/best.ckpt", lightning(weights(e, "encoder._orig_mod."))),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("named", ["file", "directory"])
def test_the_encoder_of_a_run_is_found_whatever_it_lies_in(way, named, tmp_path):
    trained, fresh = encoder(0), encoder(1)
    name, content = WAYS[way](trained)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    torch.save(content, tmp_path / name)
    assert load_encoder(fresh, tmp_path / name if named == "file" else tmp_path) == tmp_path / name
    for key, value in trained.state_dict().items():
        assert torch.equal(fresh.state_dict()[key], value), key


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lightning({"network.weight": torch.ones(1)}), "a checkpoint without an `encoder`; it has network"),
        ({"state_dict": {"a": 1}}, "has no 'state_dict' of tensors"),
        ([1], "has no 'state_dict' of tensors"),
        ({"state_dict": {"a": torch.ones(1)}}, r"blocks.0.weight is only in the model; .* \(and 12 more\)"),
        (
            {"state_dict": weights(SketchCNN(width=4, n_blocks=2))},
            r"blocks.0.weight is \(4, 1, 3, 3\) in the file and \(8, 1, 3, 3\) in the model",
        ),
        ({"state_dict": Path("x")}, "cannot be read as tensors and plain data"),
    ],
)
def test_a_file_without_this_encoder_is_refused(content, message, tmp_path):
    torch.save(content, tmp_path / "encoder.pt")
    with pytest.raises(ConfigurationError, match=message):
        load_encoder(encoder(), tmp_path)


def test_a_place_without_a_file_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="encoder_from=nowhere: there is no such run directory"):
        load_encoder(encoder(), "nowhere")
    with pytest.raises(ConfigurationError, match=r"there is none of encoder.pt, checkpoints/best.ckpt"):
        load_encoder(encoder(), tmp_path)


def test_the_twin_has_learned_nothing_and_is_the_same_every_time():
    trained = encoder()
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(5.0)
    before, state = copy.deepcopy(trained.state_dict()), torch.get_rng_state()
    twin = untrained_twin(trained)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(trained.state_dict()[name], value) for name, value in before.items())
    assert all(p.abs().max() <= 1 for p in twin.parameters())
    assert all(torch.equal(a, b) for a, b in zip(twin.parameters(), untrained_twin(trained).parameters(), strict=True))
    assert not any(p.requires_grad for p in twin.parameters())


def test_a_parameter_that_nobody_can_reset_is_shuffled():
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.arange(50.0).view(5, 10))

    twin = untrained_twin(Bare())
    assert sorted(twin.weight.flatten().tolist()) == list(range(50))
    assert twin.weight.flatten().tolist() != list(range(50))


def test_the_twins_batch_norms_know_the_pictures():
    images = 3 + 2 * torch.randn(80, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    trained = nn.Sequential(SketchCNN(width=8, n_blocks=2), nn.Dropout(0.5))
    twin = untrained_twin(trained, images)
    reached = twin[0].blocks[0](images).mean((0, 2, 3))
    torch.testing.assert_close(twin[0].blocks[1].running_mean, reached, rtol=1e-4, atol=1e-5)
    assert twin[0].blocks[1].momentum == trained[0].blocks[1].momentum
    assert not any(module.training for module in twin.modules())
    assert trained[0].blocks[1].running_mean.abs().max() == 0
    assert trained[0].blocks[0].weight.requires_grad


def test_both_are_tried_on_the_same_episodes_and_the_encoder_stays_as_it_was():
    trained = encoder().train()
    episodes = [{"image": torch.randn(6, 1, 16, 16)} for _ in range(3)]
    seen = []

    def accuracy(one, episode):
        seen.append((one is trained, one.training, episode["image"]))
        return one(episode["image"]).mean()

    found = compared(accuracy, trained, episodes)
    assert found.shape == (3, 3)
    assert found.dtype == torch.float64
    assert [a for a, _, _ in seen] == [True] * 3 + [False] * 6
    assert not any(was_training for _, was_training, _ in seen)
    assert all(a[2] is b[2] is c[2] for a, b, c in zip(seen[:3], seen[3:6], seen[6:], strict=True))
    # the untrained ones differ by their batch statistics
    assert not torch.equal(found[1], found[2])
    assert all(module.training for module in trained.modules())


def test_what_counts_is_the_paired_difference():
    # accuracies of episodes vary by far more than the two encoders differ
    hard = torch.rand(100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    slightly = hard + 0.02 + 0.01 * torch.randn(100, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert Comparison(slightly, hard, 5, "run").is_better()
    assert Comparison(slightly, hard, 5, "run").finding() is None
    for other in (hard, hard.flip(0), hard - 0.1):
        finding = Comparison(other, hard, 5, "run").finding()
        assert finding.name == "pretraining-did-nothing"
        assert finding.severity == "critical"
        assert finding.evidence["difference"] == pytest.approx(float((other - hard).mean()))


def test_an_untrained_encoder_is_taken_at_its_best():
    low, high, pretrained = torch.tensor([[0.2, 0.3], [0.4, 0.6], [0.5, 0.7]], dtype=torch.float64)
    for twins in ([low, high], [high, low]):
        assert torch.equal(Comparison.of(torch.stack([pretrained, *twins]), 5, "run").untrained, high)


def test_it_is_told_with_intervals_and_chance():
    alike = torch.tensor([0.2, 0.4] * 8, dtype=torch.float64)
    told = Comparison(alike, torch.ones(16), 5, "runs/a").finding().message
    # s = 0.1033 of 16 values: 1.96 s / 4 = 0.051
    assert told.startswith(
        "the pretrained encoder .300 ± .051, an untrained one 1.000 ± .000, chance .200: on the same 16"
    )


def test_weights_with_a_flipped_bit_are_not_built_upon(tmp_path):
    file = tmp_path / "encoder.pt"
    trained = encoder(0)
    torch.save({"state_dict": weights(trained)}, file)
    content = bytearray(file.read_bytes())
    # in the numbers of a kernel, which torch.load reads without holding them against their checksum
    content[content.index(trained.state_dict()["blocks.0.weight"].numpy().tobytes()) + 2] ^= 0x40
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"encoder_from=.*encoder\.pt is damaged: bytes of it have changed"):
        load_encoder(encoder(1), file)
