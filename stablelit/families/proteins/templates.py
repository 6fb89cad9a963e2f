"""Sequences of which some residues are given and the others are to be drawn."""

from __future__ import annotations

import torch
from torch import Tensor

from stablelit.errors import bad_argument
from stablelit.families.proteins.alphabet import AMINO_ACIDS, PAD, UNKNOWN

FREE = "?"
FREE_CODE = PAD + 1


def template_codes(template: str) -> Tensor:
    """A template's letters as numbers ``(L,)``, with `FREE_CODE` for ``?``.

    Raises:
        ConfigurationError: an empty template, one without a ``?``, a letter that is no residue, with its position.
    """
    letters = f"{AMINO_ACIDS}X{FREE}"
    allowed = f"the letters {AMINO_ACIDS}, X (any, as context) and {FREE} (to be drawn)"
    if not isinstance(template, str) or not template:
        raise bad_argument("sample", "template", template, allowed)
    for place, letter in enumerate(template):
        if letter.upper() not in letters:
            raise bad_argument("sample", "template", template, allowed, f"{letter!r} stands at position {place + 1}.")
    if FREE not in template:
        raise bad_argument("sample", "template", template, allowed, f"There is no {FREE}, so nothing to draw.")
    code_of = {**{a: i for i, a in enumerate(AMINO_ACIDS)}, "X": UNKNOWN, FREE: FREE_CODE}
    return torch.tensor([code_of[letter.upper()] for letter in template])
