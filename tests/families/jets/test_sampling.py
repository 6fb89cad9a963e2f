from __future__ import annotations

import pytest
import torch

from stablelit.families.jets.network import HypergraphVAE
from stablelit.families.jets.sampling import draw_jets, evaluating
from stablelit.families.jets.scaler import JetScaler


def test_samples_follow_the_decoder_they_are_drawn_from(batch):
    network = HypergraphVAE(
        latent_dim=4, particle_hidden=16, decoder={"name": "mixture", "n_components": 3, "hidden": 16}
    )
    network.set_scaler(JetScaler.fit(batch["particles"], batch["mask"], batch["jet"]))
    decoded = network.decoder(torch.zeros(1, 4))
    drawn = draw_jets(
        network,
        torch.zeros(4000, 4),
        torch.zeros(4000, dtype=torch.long),
        torch.full((4000,), 1000.0),
        torch.Generator().manual_seed(0),
        calibrate=False,
    )
    x = network.standardise(drawn["particles"], drawn["mask"])
    count = decoded.count_logits.softmax(-1)[0] @ torch.arange(1.0, 31.0)
    assert float(drawn["jet"][:, 3].mean()) == pytest.approx(float(count.detach()), rel=0.03)
    # ln ptrel is not wrapped, so its mean over particles is the mixture's
    mean = (decoded.log_weight.exp()[0] * decoded.mean[0, :, 0]).sum()
    assert float(x[..., 0][drawn["mask"]].mean()) == pytest.approx(float(mean.detach()), abs=0.03)


def test_dropout_sleeps_inside_the_block_and_wakes_after_an_error():
    network = torch.nn.Dropout(0.5)

    def fail():
        with evaluating(network):
            assert not network.training
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert network.training
