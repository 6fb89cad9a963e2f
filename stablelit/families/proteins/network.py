"""The transformer of discrete diffusion: residues and masks in, a number for every residue that may stand there out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from stablelit.errors import bad_argument, did_you_mean
from stablelit.families.proteins.alphabet import N_RESIDUES, PAD, UNKNOWN
from stablelit.families.proteins.conditioned_blocks import ConditionedBlock, ConditionedNorm, NoiseLevelEmbedding
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
