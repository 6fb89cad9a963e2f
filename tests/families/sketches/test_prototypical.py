from __future__ import annotations

import math
import pickle
import warnings

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from stablelit.errors import ConfigurationError, ContractError
from stablelit.families.sketches.encoder import SketchCNN
from stablelit.families.sketches.prototypical import PrototypicalNetwork
from stablelit.findings import FindingError, read_findings
from stablelit.functional.prototypes import few_shot_accuracy
from tests.contract.modules import make_trainer
from tests.families.sketches.few_shot_data import SIZE, Patterns, loader

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
SMALL = {"width": 16, "n_blocks": 2, "out": "flatten"}


def network(seed=0, **kwargs):
    torch.manual_seed(seed)
    settings = {"encoder": SMALL, "image_size": SIZE, "n_way": 6, "eval_way": 4, **kwargs}
    return PrototypicalNetwork(**settings)


def fit(directory, module, train=None, val=None, **kwargs):
    trainer = make_trainer(directory, [], max_epochs=kwargs.pop("max_epochs", 1), **kwargs)
    trainer.fit(module, train or loader(6), val or loader(4, fixed=True, seed=1))
    return trainer


def batch(n_way=6, rows_each=4):
    return {
        "image": torch.randn(n_way * rows_each, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0)),
        "label": torch.arange(n_way).repeat_interleave(rows_each) + 30,
        "id": torch.arange(n_way * rows_each),
    }


def outputs_of(module, a_batch):
    module.log = module.log_dict = lambda *args, **kwargs: None
    return module.training_step(a_batch, 0)


@pytest.mark.parametrize("distance", ["squared_euclidean", "cosine"])
def test_the_step_is_the_algorithm_of_the_paper(distance):
    module = network(distance=distance, encoder=nn.Flatten(), temperature=0.5)
    outputs = outputs_of(module, batch())
    h = batch()["image"].flatten(1).view(6, 4, -1)
    losses = []
    for c in range(6):
        for q in h[c, 1:]:
            if distance == "cosine":
                logits = torch.stack([torch.cosine_similarity(q, h[k, 0], dim=0) for k in range(6)])
            else:
                logits = torch.stack([-(q - h[k, 0]).square().sum() for k in range(6)])
            losses.append(-torch.log_softmax(logits / 0.5, 0)[c])
    torch.testing.assert_close(outputs["loss"], torch.stack(losses).mean(), rtol=1e-4, atol=1e-4)
    assert outputs["scores"].shape == (18, 6)
    assert outputs["targets"].tolist() == [c for c in range(6) for _ in range(3)]


def test_a_collapsed_encoder_is_at_chance():
    class Constant(nn.Module):
        def forward(self, image):
            return torch.ones(len(image), 3)

    assert float(outputs_of(network(encoder=Constant()), batch())["loss"]) == pytest.approx(math.log(6), rel=1e-6)


def test_it_learns_what_an_untrained_encoder_does_not_know(tmp_path):
    module = network(learning_rate=3e-3)
    val = loader(4, fixed=True, seed=1, n_episodes=60)
    before = make_trainer(tmp_path, []).validate(module, val, verbose=False)[0]
    trainer = fit(tmp_path, module, loader(6, n_episodes=60, data=Patterns(40)), val)
    after = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert after["val/few_shot_accuracy"] > before["val/few_shot_accuracy"] + before["val/few_shot_accuracy_interval"]
    assert after["val/few_shot_accuracy_chance"] == 0.25
    assert after["train/chance"] == pytest.approx(1 / 6)
    assert after["val/loss"] < math.log(4) < before["val/loss"]
    assert 0 < after["val/few_shot_accuracy_interval"] < 0.2


def test_the_accuracy_is_that_of_the_episodes(tmp_path):
    module = network(centring="simple_shot").eval()
    val = loader(4, fixed=True, seed=1, n_episodes=7)
    found = make_trainer(tmp_path, []).test(module, val, verbose=False)[0]
    with torch.no_grad():
        each = []
        for episode in val:
            h = module(episode["image"])
            mean = h.view(4, 4, -1)[:, 0].mean(0)
            each.append(few_shot_accuracy(h, 4, 1, 3, mean=mean))
    assert found["test/few_shot_accuracy"] == pytest.approx(float(torch.stack(each).mean()))
    assert found["test/few_shot_accuracy_chance"] == 0.25


def test_the_cosine_learns_its_temperature(tmp_path):
    module = network(distance="cosine", freeze_encoder=True)
    assert module._temperature().item() == pytest.approx(0.1)
    trainer = fit(tmp_path, module)
    assert module._temperature().item() != pytest.approx(0.1, abs=1e-4)
    assert float(trainer.callback_metrics["train/temperature"]) > 0
    module.temperature.fill_(1.0)  # what a schedule of the temperature would do
    assert module._temperature().item() == pytest.approx(math.exp(-module.log_scale.item()))


@pytest.mark.slow
def test_a_frozen_encoder_stays_as_it_is_and_alone_leaves_nothing_to_train(tmp_path):
    module = network(distance="cosine", freeze_encoder=True).train()
    assert not any(part.training for part in module.encoder.modules())
    before = {name: value.clone() for name, value in module.encoder.state_dict().items()}
    fit(tmp_path, module)
    assert all(torch.equal(before[name], value) for name, value in module.encoder.state_dict().items())
    with pytest.raises(ConfigurationError, match="freeze_encoder=True leaves nothing to train"):
        fit(tmp_path, network(freeze_encoder=True))


def saved(module, path):
    torch.save({"state_dict": module.encoder.state_dict()}, path)
    return str(path)


@pytest.fixture(scope="module")
def trained_encoder(tmp_path_factory):
    directory = tmp_path_factory.mktemp("pretraining")
    module = network(learning_rate=3e-3)
    fit(directory, module, train=loader(6, n_episodes=60, data=Patterns(40)))
    return saved(module, directory / "encoder.pt")


@pytest.mark.slow
def test_the_gate_lets_a_pretrained_encoder_pass_with_a_line(trained_encoder, tmp_path, capsys):
    module = network(seed=5, encoder_from=trained_encoder, gate="raise")
    trainer = fit(tmp_path, module, val=loader(4, fixed=True, seed=1, n_episodes=120))
    told = capsys.readouterr().out
    assert "the pretrained encoder ." in told
    assert "an untrained one ." in told
    assert "chance .250, on 100 validation episodes" in told
    assert trainer.global_step == 12
    assert not read_findings(tmp_path)


@pytest.mark.slow
def test_the_gate_stops_an_encoder_that_knows_nothing(tmp_path):
    path = saved(network(seed=3), tmp_path / "encoder.pt")
    with pytest.raises(FindingError, match="pretraining-did-nothing: the pretrained encoder"):
        fit(tmp_path / "raise", network(encoder_from=path, gate="raise"))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        trainer = fit(tmp_path / "warn", network(encoder_from=path))
    assert any("pretraining-did-nothing" in str(w.message) for w in said)
    (finding,) = read_findings(tmp_path / "warn")
    assert finding.evidence["episodes"] == 12
    assert trainer.global_step == 12
    assert fit(tmp_path / "stop", network(encoder_from=path, gate="stop"), max_epochs=3).global_step < 12
    assert fit(tmp_path / "off", network(encoder_from=path, gate="off")).global_step == 12
    assert not read_findings(tmp_path / "off")


@pytest.mark.slow
def test_the_gate_changes_no_step(trained_encoder, tmp_path):
    # what is drawn in training comes from the global generator, as does the seed of a plain loader's workers
    augment = nn.Dropout(0.3)
    with_gate, without = (network(encoder_from=trained_encoder, gate=gate, augment=augment) for gate in ("warn", "off"))
    for name, module in (("a", with_gate), ("b", without)):
        episodes = loader(4, fixed=True, seed=1)
        torch.manual_seed(4)
        fit(tmp_path / name, module, val=DataLoader(episodes.dataset, batch_sampler=episodes.batch_sampler))
    for a, b in zip(with_gate.state_dict().values(), without.state_dict().values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.slow
def test_a_gate_that_cannot_look_says_so(trained_encoder, tmp_path, capsys):
    fit(tmp_path, network(encoder_from=trained_encoder), limit_val_batches=0)
    assert "no validation episodes" in capsys.readouterr().out


@pytest.mark.slow
def test_two_ranks_look_through_the_gate_together(trained_encoder, tmp_path, capfd):
    module = network(encoder_from=trained_encoder, gate="raise")
    fit(tmp_path, module, loader(6, n_episodes=4), devices=2, strategy="ddp_fork")
    assert "on 12 validation episodes" in capfd.readouterr().out


@pytest.mark.slow
def test_it_comes_back_from_its_checkpoint(trained_encoder, tmp_path):
    module = network(encoder_from=trained_encoder, distance="cosine")
    trainer = fit(tmp_path, module, enable_checkpointing=True)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    torch.load(tmp_path / "a.ckpt", weights_only=True)
    again = PrototypicalNetwork.load_from_checkpoint(tmp_path / "a.ckpt", encoder_from=None)
    assert again.distance == "cosine"
    assert all(
        torch.equal(a, b) for a, b in zip(again.state_dict().values(), module.state_dict().values(), strict=True)
    )
    assert pickle.loads(pickle.dumps(network())).hparams["n_way"] == 6
    assert "encoder" not in network(encoder=SketchCNN()).hparams


def test_augmentation_is_for_training_alone():
    module = network(augment=nn.Threshold(1e9, 0.0), encoder=nn.Flatten())
    assert float(outputs_of(module, batch())["loss"]) == pytest.approx(math.log(6))
    module.eval_episode = (6, 1)
    module.accuracy.reset()
    assert float(module.validation_step(batch(), 0)["scores"].std()) > 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (batch(5), "a batch of training has 20 sketches; an episode of 6 classes"),
        (batch(6, 1), "a batch of training has 6 sketches"),
        ({**batch(), "label": torch.arange(24) % 6}, "is no episode: its 24 sketches are not those of 6 classes"),
        ({**batch(), "label": torch.zeros(24)}, "is no episode"),
    ],
)
def test_a_batch_that_is_no_episode_is_refused(wrong, message):
    with pytest.raises(ContractError, match=message):
        outputs_of(network(), wrong)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"distance": "euclidean"}, "distance='euclidean' is not allowed. Allowed: squared_euclidean, cosine"),
        ({"centring": True}, "centring=True is not allowed"),
        ({"gate": "no"}, "gate='no' is not allowed. Allowed: warn, stop, raise, off"),
        ({"n_way": 1}, "n_way=1 is not allowed"),
        ({"temperature": 0.0}, "temperature=0.0 is not allowed"),
        ({"augment": "affine"}, "augment='affine' is not allowed"),
        ({"encoder_from": "nowhere"}, "encoder_from=nowhere: there is no such run directory"),
        ({"encoder": nn.Identity()}, "The encoder Identity gives"),
    ],
)
def test_what_cannot_be_is_refused(kwargs, message):
    with pytest.raises(ConfigurationError, match=message):
        network(**kwargs)
