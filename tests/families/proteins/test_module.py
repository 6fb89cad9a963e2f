"""Score-entropy diffusion as a module: against known entropies, closed forms, and what must not matter."""

from __future__ import annotations

import math
import warnings
from functools import partial

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import DataLoader

from stablelit.errors import ConfigurationError, DataError
from stablelit.families.proteins import ProteinDataModule, ScoreEntropyDiffusion
from stablelit.families.proteins.alphabet import PAD, UNKNOWN
from stablelit.families.proteins.dataset import already_a_batch
from stablelit.findings import FindingWarning
from stablelit.optim import MuonAdamW

TINY = {"d_model": 16, "blocks": 1, "heads": 2, "condition": 8, "dropout": 0.0, "gate_init": 1.0}
# with an opinion before it is trained
TALKING = TINY | {"head_init": "kaiming"}
QUIET = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "accelerator": "cpu",
    "num_sanity_val_steps": 0,
}


def module(**changes):
    torch.manual_seed(0)
    return ScoreEntropyDiffusion(**({"network": TINY} | changes))


def trainer(**changes):
    return pl.Trainer(**(QUIET | changes))


def data(**changes):
    return ProteinDataModule(**({"n_sequences": 400, "batch_size": 64} | changes))


def batch_of(tokens, ids=None):
    tokens = torch.as_tensor(tokens)
    return {
        "tokens": tokens,
        "loss_mask": tokens < 20,
        "pad_mask": tokens != PAD,
        "length": (tokens != PAD).sum(1),
        "id": torch.arange(len(tokens)) if ids is None else ids,
    }


def drawn(n=6, length=12, seed=0):
    return torch.randint(20, (n, length), generator=torch.Generator().manual_seed(seed))


class Oracle(torch.nn.Module):
    """What the law of the corpus says of every residue, in the place of a network."""

    def __init__(self, corpus, n_states=20):
        super().__init__()
        self.corpus, self.n_states = corpus, n_states

    def input_codes(self, tokens):
        return tokens

    def flops_per_batch(self, *shape):
        return 0

    def forward(self, codes, sigma, pad_mask=None, sites=None):
        known = codes < 20
        p = self.corpus.posterior(codes.clamp(max=19).numpy(), known.numpy())
        return torch.as_tensor(p).clamp_min(1e-30).log().float() + math.log(20)


@pytest.mark.slow
@pytest.mark.parametrize("corpus", ["iid", "markov", "motif_hmm"])
@pytest.mark.parametrize("parameterization", ["score", "subs"])
def test_the_oracle_costs_the_entropy_of_its_law(corpus, parameterization):
    loaded = data(corpus=corpus, length=32, n_sequences=3000, val=0.3, train=0.6, test=0.1, batch_size=300)
    model = module(parameterization=parameterization)
    model.network = Oracle(loaded.corpus)
    [found] = trainer().validate(model, loaded, verbose=False)
    assert abs(found["val/nll"] - loaded.entropy) < 3 * found["val/nll_se"]
    # of the same sequences the law's own number is known, and only the masks are left to chance
    assert abs(found["val/gap_to_truth"]) < 3 * found["val/nll_se"]
    assert found["val/nll_se"] < 0.03
    if parameterization == "score":
        assert found["val/score_excess"] == pytest.approx(0.0, abs=1e-4)


@pytest.mark.slow
def test_training_and_validation_estimate_one_bound():
    """The t form of the loss, over many draws, and the k form of validation, of the same oracle."""
    loaded = data(corpus="motif_hmm", length=24, n_sequences=2000, batch_size=500)
    loaded.setup()
    batch = next(iter(loaded.train_dataloader()))
    for loss in ("dwdse", "dce", "lambda_dce", "k_dce"):
        model = module(loss=loss)
        model.network = Oracle(loaded.corpus)
        x0, head = batch["tokens"], model._head(batch)
        draws = []
        for seed in range(4):
            random = torch.Generator().manual_seed(seed)
            u = (torch.arange(500) + torch.rand(500, generator=random)) / 500
            draws.append(model.objective.draw(head, x0, batch["loss_mask"], u, 1.0, random).nats)
        nats = torch.stack(draws).double()
        residues = batch["loss_mask"].sum()
        truth = -torch.as_tensor(loaded.corpus.log_prob(x0.numpy())).sum() / residues
        error = nats.sum(1).std() / residues / 2 + 0.15 / math.sqrt(2000)
        assert abs(nats.sum() / 4 / residues - truth) < 4 * error, loss


@pytest.mark.slow
@pytest.mark.parametrize("graph", ["absorb", "uniform"])
@pytest.mark.parametrize("n_states", [20, 36])
def test_an_untrained_head_of_zeros_costs_log_n(graph, n_states):
    noise = "loglinear" if graph == "absorb" else {"name": "geometric", "sigma_min": 1e-4, "sigma_max": 20.0}
    model = module(graph=graph, noise=noise, n_states=n_states, validation_draws=8)
    loaded = data(length=40, n_sequences=800, val=0.5, train=0.4, test=0.1, batch_size=400)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FindingWarning)
        [found] = trainer().validate(model, loaded, verbose=False)
    # exactly, where it is exactly: k masks at weight n / k
    close = {"abs": 1e-5} if graph == "absorb" else {"abs": 4 * found["val/nll_se"]}
    assert found["val/nll"] == pytest.approx(math.log(n_states), **close)


@torch.no_grad()
def test_padding_and_unknown_residues_are_neither_noised_nor_counted():
    model = module(network=TALKING).eval()
    tokens = drawn()
    tokens[2, 3] = UNKNOWN
    padded = torch.cat([tokens, torch.full((6, 5), PAD)], dim=1)
    one, other = model.bound(batch_of(tokens)), model.bound(batch_of(padded))
    torch.testing.assert_close(one.nats, other.nats, rtol=1e-5, atol=1e-5)
    assert one.masked.equal(other.masked)
    assert one.masked.max() <= 12
    assert one.masked[2] <= 11


@torch.no_grad()
def test_the_bound_of_a_sequence_knows_neither_its_batch_nor_its_place():
    model = module(network=TALKING).eval()
    tokens, ids = drawn(8), torch.arange(8) * 7 + 3
    whole = model.bound(batch_of(tokens, ids)).nats
    turned = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(model.bound(batch_of(tokens[turned], ids[turned])).nats, whole[turned])
    alone = torch.cat([model.bound(batch_of(tokens[i : i + 1], ids[i : i + 1])).nats for i in range(8)])
    torch.testing.assert_close(alone, whole)
    assert not torch.allclose(model.bound(batch_of(tokens, ids), draw=1).nats, whole)


def fitted(batch_size, accumulate, seed=0):
    pl.seed_everything(seed, verbose=False)
    model = module(loss="k_dce", time_conditioning=False, optimizer=partial(torch.optim.SGD), learning_rate=0.1)
    # one and the same noise for a sample, however it is batched
    draw = model.objective.draw

    def by_sample(head, x0, loss_mask, u, difficulty, random=None):
        from stablelit.families.proteins.diffusion import SampleKeys

        keys = SampleKeys(x0.sum(1), seed=5)
        return draw(head, x0, loss_mask, keys.uniform((len(x0),)).float(), difficulty, keys)

    object.__setattr__(model.objective, "draw", by_sample)
    run = trainer(max_epochs=1, limit_val_batches=0, accumulate_grad_batches=accumulate)
    loaded = data(n_sequences=160, train=0.8, val=0.1, test=0.1)
    loaded.setup()
    in_order = DataLoader(loaded.training_sequences, batch_size=batch_size, collate_fn=already_a_batch, drop_last=True)
    run.fit(model, in_order)
    assert run.global_step == 128 // 32
    return model


@pytest.mark.slow
def test_four_micro_batches_of_eight_are_one_of_thirty_two():
    whole, parts = fitted(32, 1), fitted(8, 4)
    for p, q in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_one_sequence_is_learned_by_heart():
    pl.seed_everything(0, verbose=False)
    tiny = {"preset": "tiny", "dropout": 0.0}
    model = module(network=tiny, parameterization="subs", loss="k_dce", time_conditioning=False)
    tokens = drawn(1, 24).expand(16, 24)
    optimizer = MuonAdamW(model.named_parameters(), lr=2e-3, muon_scale=2.5)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, 400)
    for _ in range(400):
        optimizer.zero_grad()
        batch = batch_of(tokens)
        u = (torch.arange(16) + torch.rand(16)) / 16
        nats = model.objective.draw(model._head(batch), batch["tokens"], batch["loss_mask"], u, 1.0).nats
        (nats.sum() / 384).backward()
        optimizer.step()
        decay.step()
    model.eval()
    with torch.no_grad():
        assert model.bound(batch_of(tokens)).nats.mean() / 24 < 0.05


POSTMORTEM = {0: 0.241, 500: 0.770, 1000: 1.138, 2500: 1.71, 5000: 1.99}


def post_mortems_model():
    # the variance of an untrained output does not depend on the width
    network = TALKING | {"d_model": 8, "heads": 1}
    return ScoreEntropyDiffusion(
        network, noise={"name": "half_cosine", "sigma_max": 0.8}, noise_curriculum="corrupt_only", n_states=36, eps=1e-4
    )


@pytest.mark.slow
@torch.no_grad()
def test_an_untrained_network_under_the_post_mortems_pacing_has_the_post_mortems_losses():
    """Its table of a rising loss, from a network that never takes a step; beside what knows nothing, it is flat."""
    torch.manual_seed(0)
    # all masks look alike to a network that has not learned: a start of it has 36 random scores, and no more
    models = [post_mortems_model().eval() for _ in range(5)]
    ratios = []
    for step, expected in POSTMORTEM.items():
        difficulty = 0.1 + 0.9 * (1 - math.exp(-3 * step / 5000))
        losses = []
        for seed, model in enumerate(models):
            batch = batch_of(drawn(1000, 64, seed))
            u = (torch.arange(1000) + torch.rand(1000)) / 1000
            loss = model.objective.draw(model._head(batch), batch["tokens"], batch["loss_mask"], u, difficulty)
            losses.append(float(loss.nats.sum()) / 64_000)
        assert sum(losses) / 5 == pytest.approx(expected, rel=0.05)
        ratios.append(sum(losses) / 5 / models[0].trivial_loss(difficulty))
    assert max(ratios) / min(ratios) < 1.05
    assert min(ratios) > 1.0


@pytest.mark.slow
def test_a_noise_that_leaves_residues_is_said_before_training():
    model = module(noise={"name": "half_cosine", "sigma_max": 0.5})
    with pytest.warns(FindingWarning, match=r"noise-leaves-residues: .*leaves 60.7 % of the residues.*loglinear"):
        trainer(fast_dev_run=True, limit_val_batches=0).fit(model, data())


def test_a_difficulty_changes_training_and_nothing_else():
    model = module()
    batch = batch_of(drawn(200, 40))
    head = model._head(batch)

    def rate(d):
        u = (torch.arange(200) + 0.5) / 200
        return float(model.objective.draw(head, batch["tokens"], batch["loss_mask"], u, d).mask_rate)

    assert rate(0.2) == pytest.approx(0.1, abs=0.01)
    assert rate(1.0) == pytest.approx(0.5, abs=0.01)
    before = model.bound(batch).nats
    model.set_difficulty(0.2)
    assert model.difficulty == 0.2
    assert model.bound(batch).nats.equal(before)
    assert model.difficulty_info()["t_max"] == pytest.approx(0.2, abs=2e-3)
    assert model.trivial_loss(0.2) == pytest.approx(0.2 * math.log(20), rel=0.01)


def test_a_loss_without_times_has_no_difficulty():
    assert not hasattr(module(loss="k_dce"), "set_difficulty")
    with pytest.raises(ConfigurationError, match="noise_curriculum='power'.*None with loss=k_dce"):
        module(loss="k_dce", noise_curriculum="power")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"graph": "absorbing"}, "graph='absorbing'.*Did you mean 'absorb'"),
        ({"graph": "uniform", "parameterization": "subs"}, "graph=uniform has none"),
        ({"graph": "uniform", "loss": "k_dce"}, "graph=uniform has none"),
        ({"parameterization": "subs", "loss": "dwdse"}, "loss='dwdse'.*dce.*equal"),
        ({"parameterization": "softmax"}, "parameterization='softmax'"),
        ({"loss": "kdce"}, "loss='kdce'.*Did you mean 'k_dce'"),
        ({"noise": "linear"}, "noise='linear'.*loglinear"),
        ({"noise": {"name": "loglinear", "epsilon": 1e-3}}, "no setting 'epsilon'"),
        ({"noise_curriculum": {"mod": "power"}}, "no setting 'mod'"),
        ({"time_sampling": "antithetic"}, "antithetic.*stratified"),
        ({"n_states": 19}, "n_states=19"),
        ({"eps": 0.0}, "eps=0"),
        ({"weight_clip": 0.0}, "weight_clip=0"),
        ({"validation_draws": 0}, "validation_draws=0"),
        ({"learning_rate": -1.0}, "learning_rate=-1"),
        ({"time_conditioning": "no"}, "time_conditioning='no'"),
        ({"optimizer": "adam"}, "optimizer='adam'"),
    ],
)
def test_what_cannot_be_is_refused_by_name(changes, says):
    with pytest.raises(ConfigurationError, match=says):
        module(**changes)


def test_a_token_out_of_range_is_named():
    tokens = drawn()
    tokens[4, 6] = 22
    with pytest.raises(DataError, match="sequence 4 has the number 22 at residue 7.*Masks are put by the model"):
        module().bound(batch_of(tokens))


@pytest.mark.slow
def test_a_checkpoint_of_another_alphabet_is_refused(tmp_path):
    run = trainer(max_steps=1, limit_val_batches=0)
    run.fit(module(), data())
    path = tmp_path / "model.ckpt"
    run.save_checkpoint(path)
    again = ScoreEntropyDiffusion.load_from_checkpoint(path, weights_only=True)
    assert list(again.length_counts) == [64]
    assert 330 < again.length_counts[64] < 390
    assert again.unigram.sum().item() == pytest.approx(1.0)
    other = torch.load(path, weights_only=True)
    other["alphabet"] = {**other["alphabet"], "residues": "ARNDCQEGHILKMFPSTWYV"}
    torch.save(other, path)
    with pytest.raises(DataError, match="checkpoint is of the alphabet ARND.*this model of ACDE"):
        ScoreEntropyDiffusion.load_from_checkpoint(path, weights_only=True)


def test_weights_a_batch_of_unknown_residues_as_nothing():
    model = module()
    tokens = torch.full((2, 5), UNKNOWN)
    batch = batch_of(tokens)
    nats = model.objective.draw(model._head(batch), tokens, batch["loss_mask"], torch.tensor([0.1, 0.9]), 1.0).nats
    assert nats.tolist() == [0.0, 0.0]
    assert model.bound(batch).nats.tolist() == [0.0, 0.0]


@torch.no_grad()
def test_a_clipped_weight_is_at_most_that():
    batch, u = batch_of(drawn(300, 30)), (torch.arange(300) + 0.5) / 300
    losses = []
    for clip in (None, 3.0):
        model = module(weight_clip=clip)
        random = torch.Generator().manual_seed(0)
        losses.append(
            model.objective.draw(model._head(batch), batch["tokens"], batch["loss_mask"], u, 1.0, random).nats
        )
    # the head of zeros costs log N a mask, weights are 1 / t
    t = 1e-3 + (1 - 1e-3) * u
    ratio = losses[1] / losses[0]
    there = losses[0] > 0
    torch.testing.assert_close(ratio[there], (3.0 * t).clamp(max=1.0)[there], rtol=2e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::stablelit.findings.FindingWarning")
@pytest.mark.parametrize(("precision", "dtype"), [("bf16-mixed", torch.float32), ("bf16-true", torch.bfloat16)])
def test_a_run_in_bfloat16_trains(precision, dtype):
    model = module()
    run = trainer(max_epochs=1, limit_train_batches=3, precision=precision, limit_val_batches=2)
    run.fit(model, data())
    # an untrained network guesses among 20
    assert float(run.callback_metrics["train/loss"]) == pytest.approx(math.log(20), abs=0.3)
    assert float(run.callback_metrics["val/nll"]) == pytest.approx(math.log(20), abs=0.3)
    assert all(value.dtype == dtype for value in model.network.state_dict().values())


class Hopeless(ScoreEntropyDiffusion):
    """Its network gets worse, whatever it is shown."""

    def training_step(self, batch, batch_idx):
        with torch.no_grad():
            self.network.head.bias[0] += 3.0
        return super().training_step(batch, batch_idx)


@pytest.mark.slow
def test_a_bound_above_the_unigrams_is_said_when_half_of_the_training_is_over():
    torch.manual_seed(0)
    model = Hopeless(TINY)
    seen = []
    model._reporter.report = lambda trainer, finding: seen.append((finding.name, trainer.global_step))
    run = trainer(max_epochs=4, limit_train_batches=2, limit_val_batches=1)
    run.fit(model, data())
    assert seen[0] == ("worse-than-unigram", 4)
    run.test(model, data(), verbose=False)
    assert seen[-1][0] == "worse-than-unigram"


def test_what_no_loss_holds_back_at_clean_residues_does_not_spoil_the_gradient():
    """A score that has grown beyond float32 where nothing is masked: its exponential is infinite, and not looked at."""
    model = module()
    batch = batch_of(drawn(8, 12))
    h = torch.zeros(8, 12, 20, requires_grad=True)

    def head(codes, sigma):
        return torch.where((codes == 20)[..., None], h, h + 200.0)

    u = (torch.arange(8) + 0.5) / 8
    model.objective.draw(head, batch["tokens"], batch["loss_mask"], u, 1.0).nats.sum().backward()
    assert h.grad.isfinite().all()
    assert h.grad.any()
