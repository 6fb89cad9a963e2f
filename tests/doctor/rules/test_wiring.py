"""Faults of axes and targets, each beside what is built in the same way and is sound."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stablelit.doctor.evidence.parameters import ParameterFacts
from stablelit.doctor.rules.wiring import WIRING_RULES
from tests.doctor.probes.traced import Host, seeded, watch

N, T, D, VOCABULARY = 16, 9, 8, 7
TOKENS = torch.randint(VOCABULARY, (N, T), generator=torch.Generator().manual_seed(0))
SEQUENCES, CLASSES = seeded(N, T, D), torch.arange(N) % 5
LOADER = SimpleNamespace(dataset=[], batch_size=N)


def found(network: nn.Module, step: Any, batch: Any, loader: Any = LOADER, **facts: Any) -> list[str]:
    evidence = watch(Host(network, step), [batch], loader=loader)
    evidence.parameters = ParameterFacts(**facts) if facts else None
    return [rule.name for rule in WIRING_RULES if rule.can_check(evidence) and rule.check(evidence) is not None]


class Reader(nn.Module):
    """Tokens in, logits out, position by position."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kind = kind
        self.tokens, self.places = nn.Embedding(VOCABULARY, D), nn.Embedding(T, D)
        self.attention = nn.TransformerEncoderLayer(D, 2, 16, 0.0, batch_first=True)
        self.recurrence = nn.GRU(D, D // 2 if "both" in kind else D, batch_first=True, bidirectional="both" in kind)
        self.head = nn.Linear(D, VOCABULARY)

    def forward(self, tokens: Tensor) -> Tensor:
        h = self.tokens(tokens) + self.places(torch.arange(tokens.shape[1]))
        if "gru" in self.kind:
            return self.head(self.recurrence(h)[0])
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        hidden = {"causal": mask, "causal-boolean": mask < 0, "open": None}[self.kind]
        return self.head(self.attention(h, src_mask=hidden))


def language(kind: str, offset: int) -> list[str]:
    def step(m: Host, b: Tensor) -> Tensor:
        first, last = (b[:, :-1], b[:, 1:]) if offset == 1 else (b[:, :-1], b[:, :-1])
        if offset == -1:
            first, last = b[:, 1:], b[:, :-1]
        return F.cross_entropy(m.network(first).reshape(-1, VOCABULARY), last.reshape(-1))

    return found(Reader(kind), step, TOKENS)


@pytest.mark.parametrize(
    ("kind", "offset"),
    [("open", 1), ("gru-both", 1), ("causal", 0), ("causal", -1), ("causal-boolean", 0), ("gru", 0)],
)
def test_a_token_that_is_read_where_it_is_to_be_said_is_told(kind: str, offset: int) -> None:
    assert language(kind, offset) == ["target-visible-in-input"]


@pytest.mark.parametrize(("kind", "offset"), [("causal", 1), ("causal-boolean", 1), ("gru", 1), ("open", 0)])
def test_the_next_token_behind_a_mask_and_an_auto_encoder_are_sound(kind: str, offset: int) -> None:
    assert language(kind, offset) == []


def test_masked_tokens_are_not_read() -> None:
    hidden = torch.rand(TOKENS.shape, generator=torch.Generator().manual_seed(1)) < 0.5

    def step(m: Host, b: Tensor) -> Tensor:
        read, wanted = b.masked_fill(hidden, 0), b.masked_fill(~hidden, -100)
        return F.cross_entropy(m.network(read).transpose(1, 2), wanted)

    assert found(Reader("open"), step, TOKENS) == []


LAYERS = {
    "lstm": lambda first: nn.LSTM(D, D, batch_first=first),
    "gru": lambda first: nn.GRU(D, D, batch_first=first),
    "attention": lambda first: nn.TransformerEncoderLayer(D, 2, 16, 0.0, batch_first=first),
}


@pytest.mark.parametrize("kind", list(LAYERS))
@pytest.mark.parametrize("turned", [False, True], ids=["as-it-comes", "transposed"])
@pytest.mark.parametrize("first", [False, True], ids=["steps-first", "batch-first"])
def test_samples_are_steps_where_the_layer_s_first_axis_is_not_that_of_the_batch(
    kind: str, turned: bool, first: bool
) -> None:
    torch.manual_seed(0)
    network = nn.ModuleList([LAYERS[kind](first), nn.Linear(D, 5)])

    def step(m: Host, b: Any) -> Tensor:
        h = network[0](b[0].transpose(0, 1) if turned else b[0])
        h = h[0] if isinstance(h, tuple) else h
        return F.cross_entropy(network[1]((h.transpose(0, 1) if turned else h)[:, -1]), b[1])

    wrong = turned == first
    assert found(network, step, (SEQUENCES, CLASSES)) == (["samples-taken-for-steps"] if wrong else [])
    # a batch that somebody has put together may have any axis first
    assert found(network, step, (SEQUENCES, CLASSES), loader=None) == []


LOSSES = {
    "log-softmax-over-samples": (lambda o, y: F.nll_loss(torch.log_softmax(o, 0), y), ["softmax-over-wrong-axis"]),
    "softmax-over-samples": (lambda o, y: F.nll_loss((o.softmax(0) + 1e-9).log(), y), ["softmax-over-wrong-axis"]),
    "log-softmax": (lambda o, y: F.nll_loss(torch.log_softmax(o, 1), y), []),
    "log-of-softmax": (lambda o, y: F.nll_loss((o.softmax(-1) + 1e-9).log(), y), []),
    "pooling-over-samples": (lambda o, y: F.cross_entropy(o * o.softmax(0), y), []),
    "mixture-over-samples": (lambda o, y: -torch.logsumexp(torch.log_softmax(o, 0) - o, 1).mean(), None),
    "one-output": (lambda o, y: F.binary_cross_entropy(o[:, :1].softmax(1)[:, 0], (y > 2).float()), None),
    "one-class": (lambda o, y: F.cross_entropy(o[:, :1], y * 0), None),
    "raw": (lambda o, y: F.nll_loss(o, y), ["nll-without-log-softmax"]),
    "cross-entropy": (lambda o, y: F.cross_entropy(o, y), []),
}


@pytest.mark.parametrize("loss", list(LOSSES))
def test_a_softmax_goes_over_classes(loss: str) -> None:
    torch.manual_seed(0)
    make, expected = LOSSES[loss]
    names = found(nn.Linear(D, 5), lambda m, b: make(m.network(b[0]), b[1]), (SEQUENCES[:, 0], CLASSES))
    expected = ["softmax-over-wrong-axis"] if expected is None else expected
    assert names[:1] == expected


def test_similarities_of_pairs_may_be_compared_both_ways() -> None:
    torch.manual_seed(0)

    def step(m: Host, b: Any) -> Tensor:
        similar = m.network(b[0]) @ m.network(b[1]).T
        here = torch.arange(N)
        return F.nll_loss(torch.log_softmax(similar, 0), here) + F.nll_loss(torch.log_softmax(similar, 1), here)

    assert found(nn.Linear(D, 5), step, (SEQUENCES[:, 0], SEQUENCES[:, 1])) == []


@pytest.mark.parametrize("mixed", [True, False], ids=["reshaped", "moved"])
def test_logits_of_pictures_are_moved_and_not_reshaped(mixed: bool) -> None:
    torch.manual_seed(0)
    pictures, labels = seeded(N, 3, 4, 4), torch.zeros(N, 4, 4, dtype=torch.long)
    labels[:, 0] = 1

    def step(m: Host, b: Any) -> Tensor:
        logits = m.network(b[0])
        return F.cross_entropy((logits if mixed else logits.movedim(1, -1)).reshape(-1, 5), b[1].reshape(-1))

    names = found(nn.Conv2d(3, 5, 1), step, (pictures, labels))
    assert names == (["reshape-mixes-positions"] if mixed else [])


@pytest.mark.parametrize("share", [0.0, 0.8], ids=["gradients", "no-gradients"])
def test_rounding_is_told_where_nothing_comes_through(share: float) -> None:
    torch.manual_seed(0)
    seen = {"looks": 6, "zero_gradient": ["a"], "zero_gradient_share": share}
    names = found(
        nn.Linear(D, 5), lambda m, b: F.mse_loss(m.network(b[0]).round(), b[0][:, :5]), (SEQUENCES[:, 0],), **seen
    )
    assert names == (["zero-derivative"] if share else [])


@pytest.mark.parametrize(
    ("factor", "shift", "told"), [(1.0, 0.0, False), (255.0, 0.0, True), (2.0, -1.0, True), (0.5, 0.2, False)],
    ids=["ones-and-zeros", "bytes", "signs", "soft"],
)  # fmt: skip
def test_a_binary_target_lies_between_zero_and_one(factor: float, shift: float, told: bool) -> None:
    torch.manual_seed(0)
    target = (CLASSES > 2).float()[:, None] * factor + shift
    names = found(
        nn.Linear(D, 1),
        lambda m, b: F.binary_cross_entropy_with_logits(m.network(b[0]), b[1]),
        (SEQUENCES[:, 0], target),
    )
    assert names == (["target-out-of-range"] if told else [])


@pytest.mark.parametrize(
    ("weight", "rare", "told"), [(1000.0, False, True), (20.0, False, False), (1000.0, True, False)],
    ids=["for-nothing", "moderate", "for-a-rare-class"],
)  # fmt: skip
def test_weights_of_classes_are_as_uneven_as_the_classes(weight: float, rare: bool, told: bool) -> None:
    torch.manual_seed(0)
    target = torch.zeros(N, 64)
    target[0, 0] = 1
    target = target if rare else (torch.arange(64) % 2).float().expand(N, 64)
    names = found(
        nn.Linear(D, 64),
        lambda m, b: F.binary_cross_entropy_with_logits(m.network(b[0]), b[1], pos_weight=torch.tensor(weight)),
        (SEQUENCES[:, 0], target),
    )
    assert names == (["class-weights-too-uneven"] if told else [])
