"""New sequences: what stays, what they depend on, and what is written."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import pytest
import torch

from stablelit.errors import ConfigurationError, DataError
from stablelit.families.proteins import ScoreEntropyDiffusion, build_corpus, encode
from stablelit.families.proteins.alphabet import PAD, UNKNOWN
from stablelit.families.proteins.generation import SAMPLERS, GeneratesProteins

TINY = {
    "d_model": 16,
    "blocks": 1,
    "heads": 2,
    "condition": 8,
    "dropout": 0.3,
    "gate_init": 1.0,
    "head_init": "kaiming",
}
GEOMETRIC = {"name": "geometric", "sigma_min": 1e-4, "sigma_max": 20.0}


def module(**changes):
    torch.manual_seed(0)
    return ScoreEntropyDiffusion(**({"network": TINY} | changes))


def read(path):
    records = [record.split("\n") for record in path.read_text().split(">")[1:]]
    return [(lines[0], "".join(lines[1:])) for lines in records]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_sequence_depends_on_its_seed_alone_and_not_on_how_many_are_drawn_together(sampler):
    model = module()
    lengths = [7, 12, 5, 12, 9]
    whole, drawn_lengths, _ = model.sample(5, seed=3, length=lengths, sampler=sampler, steps=8)
    assert drawn_lengths.tolist() == lengths
    parts, _, _ = model.sample(5, seed=3, length=lengths, sampler=sampler, steps=8, batch_size=2)
    assert parts.equal(whole)
    fewer, _, _ = model.sample(3, seed=3, length=lengths[:3], sampler=sampler, steps=8)
    assert fewer.equal(whole[:3, :12])
    assert not model.sample(5, seed=4, length=lengths, sampler=sampler, steps=8)[0].equal(whole)
    # all places of a sequence are residues, and all behind it are padding
    inside = torch.arange(12) < torch.tensor(lengths)[:, None]
    assert (whole[inside] < 20).all()
    assert (whole[~inside] == PAD).all()
    assert model.training


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_given_residues_stay(sampler):
    tokens, lengths, _ = module().sample(40, sampler=sampler, steps=8, template="mK??X?W")
    assert lengths.tolist() == [7] * 40
    for place, letter in ((0, "M"), (1, "K"), (6, "W")):
        assert (tokens[:, place] == int(encode(letter)[0])).all()
    assert (tokens[:, 4] == UNKNOWN).all()
    drawn = tokens[:, [2, 3, 5]]
    assert (drawn < 20).all()
    assert len(torch.unique(drawn, dim=0)) > 10


def test_the_uniform_graph_draws_by_steps():
    model = module(graph="uniform", noise=GEOMETRIC)
    tokens, _, done = model.sample(3, length=6, steps=5)
    assert (tokens < 20).all()
    assert done.evaluations == 6
    with pytest.raises(ConfigurationError, match="sampler='ancestral'.*Allowed: tau_leaping, euler"):
        model.sample(3, length=6, sampler="ancestral")


@pytest.mark.parametrize("sampler", ["first_hitting", "ancestral", "tau_leaping"])
@pytest.mark.slow
def test_samples_of_the_oracle_have_the_likelihood_of_the_law(sampler):
    """A network that knows the law draws from it: one residue at a time exactly, in many steps nearly."""
    corpus = build_corpus("markov")

    class Oracle(torch.nn.Module):
        n_states = 20

        def input_codes(self, tokens):
            return tokens

        def forward(self, codes, sigma, pad_mask=None, sites=None):
            known = codes < 20
            p = corpus.posterior(codes.clamp(max=19).numpy(), known.numpy())
            return torch.as_tensor(p).clamp_min(1e-30).log().float() + math.log(20)

    model = module()
    model.network = Oracle()
    tokens, _, _ = model.sample(150, length=16, sampler=sampler, steps=32, batch_size=150)
    nats = -torch.as_tensor(corpus.log_prob(tokens.numpy()))
    error = float(nats.std()) / math.sqrt(150)
    assert abs(float(nats.mean()) - 16 * corpus.entropy(16).value) < 3.5 * error


def test_temperature_and_nucleus_make_samples_more_alike():
    model = module()
    entropies = []
    for how in ({}, {"temperature": 0.3}, {"top_p": 0.3}):
        tokens = model.sample(60, length=20, steps=20, **how)[0]
        share = torch.bincount(tokens.flatten(), minlength=20) / tokens.numel()
        entropies.append(float(torch.special.entr(share).sum()))
    assert entropies[1] < entropies[0] - 0.2
    assert entropies[2] < entropies[0] - 0.2


def test_a_file_says_what_is_in_it(tmp_path):
    model = module()
    model.length_counts, model.unigram = {5: 3, 9: 1}, torch.full((20,), 0.05, dtype=torch.float64)
    done = model.generate_to_file(tmp_path / "new.fasta", 12, seed=2, sampler="ancestral", steps=4, temperature=0.9)
    records = read(tmp_path / "new.fasta")
    tokens, lengths, _ = model.sample(12, seed=2, sampler="ancestral", steps=4, temperature=0.9)
    assert [len(sequence) for _, sequence in records] == lengths.tolist()
    assert [encode(s).tolist() for _, s in records] == [
        t[: int(n)].tolist() for t, n in zip(tokens, lengths, strict=True)
    ]
    assert records[4][0].startswith("sample_5 seed=2 sampler=ancestral steps=4 temperature=0.9 top_p=1 bound")
    assert json.loads((tmp_path / "new.json").read_text()) == pytest.approx(done)
    assert done["sequences"] == 12
    assert done["residues"] == int(lengths.sum())
    each = [float(head.rsplit("=", 1)[1]) for head, _ in records]
    weighted = sum(x * int(n) for x, n in zip(each, lengths, strict=True)) / done["residues"]
    assert done["bound_nats_per_residue"] == pytest.approx(weighted, rel=1e-4)
    assert set(done) > {"unique_share", "residue_entropy", "unigram_kl", "length_ks", "network_evaluations"}


def test_a_noise_that_leaves_residues_generates_nothing(tmp_path):
    model = module(noise={"name": "half_cosine", "sigma_max": 0.8})
    with pytest.raises(ConfigurationError, match=r"leaves 44.9 % of the residues unmasked.*noise=loglinear"):
        model.generate_to_file(tmp_path / "new.fasta", 3, length=5)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"template": "MK1??"}, "template='MK1.*'1' stands at position 3"),
        ({"template": "MK-?"}, "'-' stands at position 3"),
        ({"template": "MKV"}, "no \\?, so nothing to draw"),
        ({"template": ""}, "template=''"),
        ({"template": "M?", "length": 2}, "template has 2 places. Leave length out"),
        ({"length": 0}, "length=0"),
        ({"length": "9-5"}, "length='9-5'.*a range such as"),
        ({"length": [4, 5]}, "length=.*3 whole numbers"),
        ({}, "length=None.*seen no training data"),
        ({"length": 5, "sampler": "tweedie"}, "sampler='tweedie'"),
        ({"length": 5, "steps": 0}, "steps=0"),
        ({"length": 5, "temperature": 0.0}, "temperature=0"),
        ({"length": 5, "top_p": 1.5}, "top_p=1.5"),
        ({"length": 5, "batch_size": 0}, "batch_size=0"),
    ],
)
def test_what_cannot_be_drawn_is_refused_by_name(how, says):
    with pytest.raises(ConfigurationError, match=says):
        module().sample(3, **how)


def test_another_suffix_is_refused_before_anything_is_drawn(tmp_path):
    with pytest.raises(DataError, match=r"suffix '.txt'. Allowed: .fasta, .fa, .faa"):
        module().generate_to_file(tmp_path / "new.txt", 10**9, length=5)


def test_a_model_in_training_knows_its_data_before_the_first_checkpoint():
    drawing = GeneratesProteins()
    unigram = torch.full((20,), 0.05)
    data = SimpleNamespace(length_histogram=torch.tensor([0, 0, 3, 0, 1]), unigram=lambda: unigram)
    drawing._trainer = SimpleNamespace(datamodule=data)
    drawing.setup("test")
    assert drawing.length_counts == {}, "the data of a test are not those that generation shall resemble"
    drawing.setup("fit")
    assert drawing.length_counts == {2: 3, 4: 1}
    assert torch.equal(drawing.unigram, unigram)
