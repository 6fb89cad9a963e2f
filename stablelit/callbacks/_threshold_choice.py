"""How ThresholdSweepValidation chooses: its settings, checked, and the fit that follows from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from stablelit.errors import bad_argument, did_you_mean
from stablelit.functional.edge_thresholds import REVERSAL_COSTS, EdgeCurve
from stablelit.functional.multilabel_thresholds import Average, fit_thresholds
from stablelit.functional.schedules import check_count, check_number
from stablelit.functional.score_groups import Array, ScoreGroups
from stablelit.functional.threshold_baselines import Null, random_choice_null, tuned_null
from stablelit.functional.thresholds import Counts, Criterion, ThresholdCurve, check_grid

Select = Literal[
    "f1", "fbeta", "youden", "accuracy", "shd", "target_edges", "fixed", "min_dag", "bic", "stability"
]  # fmt: skip
CRITERIA: dict[str, Criterion] = {name: name for name in get_args(Criterion)}
ONLY_EDGES = ("shd", "target_edges", "min_dag", "bic", "stability")
WITHOUT_TRUTH = ("fixed", "target_edges", "min_dag", "bic", "stability")


@dataclass(frozen=True)
class ThresholdChoice:
    """The settings of a choice; see ThresholdSweepValidation for each.

    Raises:
        ConfigurationError: one out of range, or given where it has no effect.
    """

    owner: str
    select: Select
    average: Average
    beta: float
    grid: int | None
    fixed: float
    target_edges: int | None
    reversal_cost: int
    bic_penalty: float
    stability_edges: int | None
    stability_frequency: float

    def __post_init__(self) -> None:
        if self.select not in get_args(Select):
            remedy = did_you_mean(str(self.select), get_args(Select))
            raise bad_argument(self.owner, "select", self.select, ", ".join(get_args(Select)), remedy)
        if self.average not in get_args(Average):
            raise bad_argument(self.owner, "average", self.average, ", ".join(get_args(Average)))
        if self.average != "micro" and self.select in ONLY_EDGES:
            raise bad_argument(self.owner, "average", self.average, f"micro, where select={self.select!r}")
        check_number(self.owner, "beta", self.beta, above=0.0)
        if self.beta != 1.0 and self.select != "fbeta":
            raise bad_argument(self.owner, "beta", self.beta, "1, or select='fbeta'", "Otherwise it has no effect.")
        if self.grid is not None:
            check_grid(self.owner, self.grid)
            if self.select in ("fixed", "stability"):
                raise bad_argument(self.owner, "grid", self.grid, f"None, where select={self.select!r}")
        check_number(self.owner, "fixed", self.fixed)
        if self.reversal_cost not in REVERSAL_COSTS:
            raise bad_argument(self.owner, "reversal_cost", self.reversal_cost, "1 or 2")
        check_number(self.owner, "bic_penalty", self.bic_penalty, above=0.0)
        check_number(self.owner, "stability_frequency", self.stability_frequency, above=0.5, at_most=1.0)
        for name, select in (("target_edges", "target_edges"), ("stability_edges", "stability")):
            value = getattr(self, name)
            if (value is None) == (self.select == select):
                raise bad_argument(self.owner, name, value, f"a number where select={select!r}, and only there")
            if value is not None:
                check_count(self.owner, name, value, 1)

    @property
    def needs_truth(self) -> bool:
        """Whether the labels decide, so that what is measured on them afterwards is optimistic."""
        return self.select not in WITHOUT_TRUTH

    @property
    def score_name(self) -> str:
        """`f1`, or `f2` for beta 2."""
        return f"f{self.beta:g}"

    @property
    def optimistic(self) -> set[str]:
        """The names of what is measured on the labels that the threshold is chosen on."""
        return {f"oracle_{self.score_name}", "precision", "recall", "shd"} if self.needs_truth else set()

    def fit(self, labels: Sequence[ScoreGroups]) -> list[float]:
        """A threshold for each label of per-sample scores; NaN where the labels would decide and there are none."""
        if self.select == "fixed":
            return [self.fixed] * len(labels)
        return fit_thresholds(labels, self.average, CRITERIA[self.select], self.beta, self.grid)

    def null(self, labels: Sequence[ScoreGroups], counts: Sequence[Counts]) -> Null:
        """What scores without information get, chosen in the same manner."""
        if self.needs_truth:
            # SHD is what accuracy is but for edges that point the wrong way
            return tuned_null(labels, self.beta, CRITERIA.get(self.select, "accuracy"), self.grid)
        chances = [random_choice_null(c.predicted, c.positives, c.total, self.beta) for c in counts if c.positives]
        if not chances:
            return Null(math.nan, math.nan)
        # of several labels the mean of the quantiles, which is an upper bound
        return Null(*(sum(column) / len(chances) for column in zip(*chances, strict=True)))


@dataclass
class Outcome:
    """What an evaluation found.

    Args:
        thresholds: one, or one for each label; NaN where nothing could be chosen.
        values: what is logged, by the last part of its name.
        main: the name of the value for the progress bar.
        curve: of the one label or graph there is, for pictures.
        facts: what the findings ask: predicted, total, positives, distinct, score, null_q95.
        graphs: (B, d, d) bool, the chosen edges, where there are edges.
        edges: the cuts of those graphs' scores, for pictures.
    """

    thresholds: list[float]
    values: dict[str, float]
    main: str
    curve: ThresholdCurve | None = None
    facts: dict[str, float] = field(default_factory=dict)
    graphs: Array | None = None
    edges: EdgeCurve | None = None
