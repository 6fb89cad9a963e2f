"""Rules that know what kind of model is trained: from a curve and a number that says what it ought to be."""

from __future__ import annotations

from stablelit.doctor.rule import Rank, Rule
from stablelit.doctor.rules import family_contrastive, family_graphs, family_latent, family_moving

FAMILY_RULES: tuple[Rule, ...] = (
    Rule(
        "contrastive-at-chance",
        Rank.FAMILY,
        ("curves.loss",),
        family_contrastive.at_chance,
        kind="curve",
        explains=("not-learning", "plateau", "labels-unrelated-to-input", "initial-loss-far-from-chance"),
        about="a contrastive loss stays at ln(2N-1), or ln N: it carries no information about the pairs",
    ),
    Rule(
        "graph-empty",
        Rank.FAMILY,
        ("curves.edges",),
        family_graphs.empty,
        kind="curve",
        explains=("worse-than-empty-graph", "threshold-at-the-grids-end", "plateau", "not-learning"),
        about="no edge is above the threshold at three evaluations in a row",
    ),
    Rule(
        "graph-full",
        Rank.FAMILY,
        ("curves.edges",),
        family_graphs.full,
        kind="curve",
        explains=("worse-than-empty-graph", "threshold-at-the-grids-end"),
        about="all edges that the nodes can have are in the graph at three evaluations in a row",
    ),
    Rule(
        "worse-than-empty-graph",
        Rank.FAMILY,
        ("curves.shd", "curves.true_edges"),
        family_graphs.worse_than_empty,
        kind="curve",
        about="the structural Hamming distance stays above the number of true edges, that of no edge at all",
    ),
    Rule(
        "threshold-at-the-grids-end",
        Rank.FAMILY,
        ("curves.threshold",),
        family_graphs.threshold_at_the_end,
        kind="curve",
        about="the best threshold is 0 or 1, an end of its grid, at three evaluations in a row",
    ),
    Rule(
        "posterior-collapse",
        Rank.FAMILY,
        ("curves.kl", "curves.latent_dim"),
        family_latent.collapse,
        kind="curve",
        explains=("plateau", "not-learning"),
        about="the KL is next to nothing however it is reduced: the code says nothing of the sample",
    ),
    Rule(
        "over-coding",
        Rank.FAMILY,
        ("curves.kl", "curves.latent_dim", "curves.val_loss"),
        family_latent.over_coding,
        kind="curve",
        explains=("overfitting",),
        about="above 6 nats a latent dimension and rising, while validation gets worse",
    ),
    Rule(
        "kl-weight-too-small",
        Rank.FAMILY,
        ("curves.kl", "curves.kl_weight", "curves.loss"),
        family_latent.weight_too_small,
        kind="curve",
        explains=("loss-diverges", "not-learning", "plateau"),
        about="the KL rises and its term is less than a thousandth of the loss (a note, a warning if that rises too)",
    ),
    Rule(
        "kl-weight-without-cap",
        Rank.FAMILY,
        ("curves.kl_weight",),
        family_latent.weight_without_cap,
        kind="curve",
        about="the KL weight still rises when the run ends: the objective was never the same for long (a note)",
    ),
    Rule(
        "curriculum-too-fast",
        Rank.FAMILY,
        ("curves.difficulty", "curves.loss", "curves.val_loss"),
        family_moving.too_fast,
        kind="curve",
        explains=("loss-diverges", "learning-rate-too-high", "overfitting"),
        about="at full difficulty the loss is above that of the hardly trained model at full difficulty",
    ),
    Rule(
        "average-remembers-the-start",
        Rank.FAMILY,
        ("curves.ema_decay", "planned_steps"),
        family_moving.remembers_the_start,
        about="an average of weights is longer than a fifth of the run (a note)",
    ),
)
