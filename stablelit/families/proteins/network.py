"""The transformer of discrete diffusion: residues and masks in, a number for every residue that may stand there out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from stablelit.errors import bad_argument, did_you_mean
from stablelit.families.proteins.alphabet import N_RESIDUES, PAD, UNKNOWN
from stablelit.functional.schedules import check_count, check_flag, check_number
from stablelit.nn import SelfAttention

PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"d_model": 64, "blocks": 2, "heads": 4, "gate_init": 1.0},
    "small": {"d_model": 256, "blocks": 6, "heads": 8},
    "base": {"d_model": 768, "blocks": 12, "heads": 12},
}
_HEAD_INITS = ("zero", "kaiming")


class DiffusionTransformer(nn.Module):
    """DDiT: a transformer whose norms are scaled, shifted and gated by the level of noise.

    Codes are those of a batch, 0 to 19, with the mask at N, and UNKNOWN and PAD behind it (see `input_codes`). Places
    are known by their distances (rotary); padding is not attended to.

    Args:
        n_states: N, clean states; 20 residues, or more of which some never occur.
        d_model: d.
        blocks: how many.
        heads: of each; ``d / heads`` is even.
        feedforward: width of a block's middle as a multiple of d.
        condition: width of the vector that the level of noise becomes.
        dropout: of what attention and feed-forward add.
        gate_init: what the blocks' gates begin with. At 0 a block begins as the identity, which deep networks like,
            and a small one of two blocks has learned nothing for a thousand steps; then 1.
        head_init: "zero", all scores begin alike; or "kaiming", PyTorch's own for a linear layer, with the norm in
            front: an output of variance 1/3.
        time_conditioning: whether the level of noise is known. For the absorbing graph the best answer does not depend
            on it (Ou et al. 2024, arXiv:2406.03736, theorem 1). Without it norms have learned scales instead.

    Raises:
        ConfigurationError: an argument out of range.

    Sources: Peebles and Xie 2023 (arXiv:2212.09748), section 3.2, adaLN-Zero; Lou et al. 2024 (arXiv:2310.16834),
        appendix C, for discrete diffusion.
    """

    def __init__(
        self,
        n_states: int = N_RESIDUES,
        d_model: int = 256,
        blocks: int = 6,
        heads: int = 8,
        feedforward: float = 4.0,
        condition: int = 128,
        dropout: float = 0.1,
        gate_init: float = 0.0,
        head_init: str = "zero",
        time_conditioning: bool = True,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        self.n_states = check_count(owner, "n_states", n_states, N_RESIDUES)
        self.width = check_count(owner, "d_model", d_model, 2)
        check_count(owner, "blocks", blocks, 1)
        check_count(owner, "condition", condition, 1)
        check_number(owner, "gate_init", gate_init)
        if head_init not in _HEAD_INITS:
            hint = did_you_mean(str(head_init), _HEAD_INITS)
            raise bad_argument(owner, "head_init", head_init, ", ".join(_HEAD_INITS), hint)
        self.time_conditioning = check_flag(owner, "time_conditioning", time_conditioning)
        # the mask, UNKNOWN and PAD are codes too
        self.embedding = nn.Embedding(self.n_states + 3, d_model)
        nn.init.normal_(self.embedding.weight, std=0.02)
        conditioned = condition if self.time_conditioning else None
        self.noise_level = NoiseLevelEmbedding(condition) if self.time_conditioning else None
        self.blocks = nn.ModuleList(
            ConditionedBlock(
                SelfAttention(d_model, heads, qk_norm=False, rotary=True, bias=False),
                conditioned,
                feedforward,
                dropout,
                gate_init,
            )
            for _ in range(blocks)
        )
        self.norm = ConditionedNorm(d_model, conditioned)
        self.head = nn.Linear(d_model, self.n_states)
        if head_init == "zero":
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

    def input_codes(self, tokens: Tensor) -> Tensor:
        """Codes of a batch as the embedding knows them: UNKNOWN and PAD go behind the mask, whose code is N.

        Args:
            tokens: ``(B, L)``, as in a batch: no mask among them.
        """
        behind = tokens + (self.n_states + 1 - UNKNOWN)
        return torch.where(tokens >= N_RESIDUES, behind, tokens)

    def forward(
        self, codes: Tensor, sigma: Tensor, pad_mask: Tensor | None = None, sites: Tensor | None = None
    ) -> Tensor:
        """``(B, L, N)``, float32 also under autocast.

        Args:
            codes: ``(B, L)``, from `input_codes`, with masks of code N.
            sigma: ``(B,)``, the noise; not read without `time_conditioning`.
            pad_mask: ``(B, L)`` bool, where there is no padding; None is everywhere.
            sites: ``(B, L)`` bool, where an answer is wanted; elsewhere it is 0, and what leads to it alone is not
                computed: half of the last block and of the head, with half of the residues masked. The host must know
                how many sites there are, so that this is for a CPU. None is everywhere.
        """
        x = self.embedding(codes)
        level = None if self.noise_level is None else self.noise_level(sigma).to(x.dtype)
        mask = None if pad_mask is None else pad_mask[:, None, None, :]
        for block in self.blocks[:-1]:
            x = block(x, level, mask)
        if sites is None:
            answer: Tensor = self.head(self.norm(self.blocks[-1](x, level, mask), level)).float()
            return answer
        rows = sites.flatten().nonzero().squeeze(1)
        of_rows = None if level is None else level[rows // codes.shape[1]]
        x = self.norm(self.blocks[-1](x, level, mask, rows), of_rows)
        found = self.head(x.squeeze(1)).float()
        return found.new_zeros(codes.numel(), self.n_states).index_copy(0, rows, found).view(*codes.shape, -1)

    def flops_per_batch(self, n_sequences: int, length: int) -> int:
        """Floating-point operations of a forward and a backward pass, an estimate from shapes: matrices and scores."""
        d, tokens = self.width, n_sequences * length
        matrices = sum(p.numel() for n, p in self.blocks.named_parameters() if p.dim() == 2 and "modulation" not in n)
        matrices += self.head.weight.numel()
        return 3 * (2 * tokens * matrices + 4 * tokens * length * d * len(self.blocks))


class NoiseLevelEmbedding(nn.Module):
    r"""The level of noise as a vector: sines and cosines of the mask probability, and two layers.

    Of :math:`p = 1 - e^{-\sigma}`, in [0, 1]: :math:`\cos` and :math:`\sin` of :math:`1000\, p\, \omega_i`, with
    frequencies from 1 to 1e-4.

    Args:
        width: of the vector.
        frequencies: how many.
    """

    omega: Tensor

    def __init__(self, width: int, frequencies: int = 64) -> None:
        super().__init__()
        omega = torch.exp(-math.log(1e4) * torch.arange(frequencies) / max(frequencies - 1, 1))
        self.register_buffer("omega", 1000.0 * omega, persistent=False)
        self.layers = nn.Sequential(nn.Linear(2 * frequencies, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())

    def forward(self, sigma: Tensor) -> Tensor:
        """``(B,)`` to ``(B, width)``."""
        angle = -torch.expm1(-sigma.float())[:, None] * self.omega
        answer: Tensor = self.layers(torch.cat([angle.cos(), angle.sin()], dim=-1))
        return answer


class ConditionedNorm(nn.Module):
    """A layer norm whose scale and shift come from the level of noise; or are learned, where there is none.

    Args:
        width: d.
        condition: width of the level's vector, or None.
    """

    def __init__(self, width: int, condition: int | None) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=condition is None)
        self.modulation = None if condition is None else _modulation(condition, 2 * width)

    def forward(self, x: Tensor, level: Tensor | None) -> Tensor:
        """``(B, L, d)`` and ``(B, condition)`` to ``(B, L, d)``."""
        normed: Tensor = self.norm(x)
        if self.modulation is None:
            return normed
        shift, scale = self.modulation(level)[:, None].chunk(2, dim=-1)
        return torch.addcmul(shift, normed, 1 + scale)


class ConditionedBlock(nn.Module):
    """``y = x + a A(n(x))``, then ``y + f F(m(y))``: norms n and m scaled and shifted, and gates a and f, by the noise.

    Args:
        attention: A; its `width` is the block's.
        condition: width of the vector that the six come from, or None: norms have learned scales, and the gates are
            learned vectors.
        feedforward: width of F's middle as a multiple of the block's.
        dropout: of what A and F add.
        gate_init: what the gates begin with.

    Raises:
        ConfigurationError: `feedforward` or `dropout` out of range.
    """

    def __init__(
        self,
        attention: SelfAttention,
        condition: int | None,
        feedforward: float = 4.0,
        dropout: float = 0.0,
        gate_init: float = 0.0,
    ) -> None:
        super().__init__()
        owner, width = type(self).__name__, attention.width
        middle = int(check_number(owner, "feedforward", feedforward, at_least=1.0 / width) * width)
        self.dropout = check_number(owner, "dropout", dropout, at_least=0.0, at_most=0.99)
        affine = condition is None
        self.attention_norm = nn.LayerNorm(width, elementwise_affine=affine)
        self.attention = attention
        self.feedforward_norm = nn.LayerNorm(width, elementwise_affine=affine)
        self.feedforward = nn.Sequential(nn.Linear(width, middle), nn.GELU(), nn.Linear(middle, width))
        if condition is None:
            self.modulation = None
            self.gates = nn.Parameter(torch.full((2, width), float(gate_init)))
        else:
            self.modulation = _modulation(condition, 6 * width)
            with torch.no_grad():
                self.modulation.bias.view(6, width)[[2, 5]] = gate_init

    def forward(
        self, x: Tensor, level: Tensor | None, mask: Tensor | None = None, rows: Tensor | None = None
    ) -> Tensor:
        """``(B, L, d)`` to the same.

        Args:
            x: ``(B, L, d)``.
            level: ``(B, condition)``.
            mask: as `SelfAttention` takes it.
            rows: ``(R,)``, of the B L places one after another those that are asked for; then the answer is
                ``(R, 1, d)``.
        """
        affine = self._affine(level)
        (shift, scale, gate), (shift2, scale2, gate2) = affine[:3], affine[3:]
        attended = self._attended(self._modulated(self.attention_norm(x), shift, scale), mask, rows)
        if rows is not None:
            # places as sequences of one, so that what is said of a sequence can be said of each
            sequence = rows // x.shape[1]
            x = x.flatten(0, 1)[rows][:, None]
            if level is not None:
                gate, shift2, scale2, gate2 = (part[sequence] for part in (gate, shift2, scale2, gate2))
        x = torch.addcmul(x, gate, self._dropped(attended))
        fed = self.feedforward(self._modulated(self.feedforward_norm(x), shift2, scale2))
        return torch.addcmul(x, gate2, self._dropped(fed))

    def _affine(self, level: Tensor | None) -> Sequence[Tensor]:
        """Shift, scale and gate of both branches."""
        if self.modulation is None:
            none = self.gates.new_empty(0)
            return none, none, self.gates[0], none, none, self.gates[1]
        return self.modulation(level)[:, None].chunk(6, dim=-1)  # type: ignore[no-any-return]

    def _modulated(self, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        return x if self.modulation is None else torch.addcmul(shift, x, 1 + scale)

    def _attended(self, x: Tensor, mask: Tensor | None, rows: Tensor | None) -> Tensor:
        attention = self.attention
        if rows is None:
            return attention(x, mask)  # type: ignore[no-any-return]
        heads = attention.attend(*attention.query_key_value(x).chunk(3, dim=-1), mask)
        return attention.out(heads.flatten(0, 1)[rows])[:, None]  # type: ignore[no-any-return]

    def _dropped(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.dropout, self.training) if self.dropout else x


def _modulation(condition: int, width: int) -> nn.Linear:
    """A linear layer that begins with no effect."""
    layer = nn.Linear(condition, width)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def build_network(network: str | Mapping[str, Any], owner: str, **settings: Any) -> DiffusionTransformer:
    """A `DiffusionTransformer` from the name of a preset, or a mapping of ``preset`` (optional) and its settings.

    Args:
        network: "tiny", "small", "base", or a mapping.
        owner: who asks, for messages.
        settings: what the mapping may not say, because its owner does: `n_states`, `time_conditioning`.

    Raises:
        ConfigurationError: no such preset or setting, or an argument out of range.
    """
    chosen = {"preset": network} if isinstance(network, str) else dict(network)
    preset = chosen.pop("preset", None)
    if preset is not None and preset not in PRESETS:
        raise bad_argument(owner, "network.preset", preset, ", ".join(PRESETS), did_you_mean(str(preset), PRESETS))
    known = set(DiffusionTransformer.__init__.__annotations__) - {"return"} - set(settings)
    for name in chosen:
        if name not in known:
            raise bad_argument(
                owner, f"network.{name}", chosen[name], ", ".join(sorted(known)), did_you_mean(str(name), known)
            )
    return DiffusionTransformer(**(PRESETS.get(str(preset), {}) | chosen | settings))


assert PAD == UNKNOWN + 1, "input_codes relies on their order"
