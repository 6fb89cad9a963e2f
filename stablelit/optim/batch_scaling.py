"""The learning rate that goes with a batch size."""

from __future__ import annotations

import math
from typing import Literal

from stablelit.errors import bad_argument, did_you_mean
from stablelit.functional.schedules import check_count, check_number

BatchScaling = Literal["none", "linear", "sqrt"]
_RULES = ("none", "linear", "sqrt")


def scaled_learning_rate(base: float, batch_size: int, rule: str = "none") -> float:
    r"""The rate for a batch of B samples of all ranks; what `base` means depends on the rule.

    ===========  ======================  =====================================================================
    rule         rate                    `base` is
    ===========  ======================  =====================================================================
    ``none``     base                    the rate itself
    ``linear``   base * B / 256          the rate at 256 samples; SimCLR's 0.3, BYOL's 0.2
    ``sqrt``     base * sqrt(B)          the rate at 1 sample; SimCLR's 0.075, for batches to 2048 and few epochs
    ===========  ======================  =====================================================================

    Those figures are LARS's; AdamW's rate at a small scale is about 1e-3 by itself. With 0.3 and 0.075 both rules give
    4.8 at 4096 samples.

    Args:
        base: as above.
        batch_size: B, samples (not views) per optimizer step.
        rule: one of the three.

    Raises:
        ConfigurationError: an unknown rule (near ones given), a base below 0 or a batch below 1.

    Source: Goyal et al. 2017 (arXiv:1706.02677); Chen et al. 2020 (arXiv:2002.05709), appendix B.1.

    >>> scaled_learning_rate(0.3, 512, "linear"), scaled_learning_rate(0.075, 256, "sqrt")
    (0.6, 1.2)
    """
    owner = "scaled_learning_rate"
    rate = check_number(owner, "base", base, at_least=0.0)
    n = check_count(owner, "batch_size", batch_size, 1)
    if rule == "none":
        return rate
    if rule == "linear":
        return rate * n / 256
    if rule == "sqrt":
        return rate * math.sqrt(n)
    raise bad_argument(owner, "rule", rule, ", ".join(_RULES), did_you_mean(str(rule), _RULES))
