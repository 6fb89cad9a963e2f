"""Rules about the loss itself: they say that something is wrong where no rule before them says what."""

from __future__ import annotations

import numpy as np

from stablelit.doctor.evidence import Curve, Evidence
from stablelit.doctor.rule import Rank, Rule
from stablelit.doctor.rules._chance import no_better_than_chance, stands_at_chance
from stablelit.doctor.rules._loss_course import falls, is_every_step, loss_course, objective_changes, planned
from stablelit.doctor.rules._words import shown
from stablelit.doctor.rules.clipping import CLIP_RULES
from stablelit.doctor.rules.overfitting import OVERFITTING_RULES
from stablelit.doctor.rules.rate_too_high import growth_before_failure
from stablelit.doctor.rules.step_size import STEP_SIZE_RULES
from stablelit.findings import Finding
from stablelit.functional.curve_tests import Course, comes_back, cusum, is_flat, sign_change_rate, spike_z
from stablelit.functional.medians import median_of
from stablelit.functional.trends import mann_kendall_z

_SPIKE_Z = 8.0
_LOOKED_BACK = 256
# one false alarm in 2e7 independent blocks (`cusum_run_length`)
_CUSUM_LIMIT = 15.0
_NOT_LEARNED = 0.06


def loss_not_finite(evidence: Evidence) -> Finding | None:
    """A training loss is NaN or infinite."""
    for name, curve in evidence.curves.items():
        if name != "loss" and not name.startswith("loss/"):
            continue
        last = curve.last
        # the newest value alone says whether it is now; all are searched once the run is over
        if last - last == 0.0 and (not evidence.ended or bool(np.isfinite(curve.values).all())):
            continue
        bad = np.flatnonzero(~np.isfinite(curve.values))
        if len(bad):
            return _not_finite(evidence, name, curve, bad)
    return None


def _not_finite(evidence: Evidence, name: str, curve: Curve, bad: np.ndarray) -> Finding:
    first = int(bad[0])
    step = int(curve.steps[first])
    before = float(curve.values[first - 1]) if first else float("nan")
    grown = growth_before_failure(Curve(curve.steps[: first + 1], curve.values[: first + 1]))
    facts: dict[str, float | int | str] = {"first_step": step, "values": len(bad), "last_finite": before}
    if grown:
        how = f"after it had grown to {shown(grown[0])}"
        rate = evidence.settings.learning_rate
        remedy = evidence.settings.override("learning_rate", rate / 10) if rate else "lower the learning rate by ten"
        facts["growth"] = grown[1]
    elif first:
        how = f"from one step to the next (it was {shown(before)} before)"
        remedy = "look for a logarithm, a root, a division or a norm of 0 in the loss, and for rows that are not finite"
    else:
        how = "from the first step on"
        remedy = "look at the first batch and at what the loss is made of: nothing has been trained yet"
    stays = len(bad) > 1 or first == len(curve) - 1
    what = "The training loss" if name == "loss" else f"The training loss ({name})"
    return Finding(
        "loss-not-finite",
        "critical" if stays else "warning",
        f"{what} is {'NaN' if np.isnan(curve.values[first]) else 'infinite'} at step {step}, {how}.",
        facts,
        remedy,
    )


def loss_spike(evidence: Evidence) -> Finding | None:
    """One step's loss stood far out of those before it, and came back."""
    of = loss_course(evidence)
    if of is None or of.points < 100:
        return None
    values = evidence.curve("loss").tail(_LOOKED_BACK).values
    values = values[np.isfinite(values)]
    at = 32 + int(np.argmax(values[32:])) if len(values) > 64 else 0
    if at == 0 or values[at] <= values[max(0, at - 64) : at].max():
        return None
    z = spike_z(values, at)
    # tails are judged on the same values: of noise with heavy tails the second highest is not far below
    second = float(np.partition(values, -4)[-4])
    if z < _SPIKE_Z or values[at] - second < 0.5 * (values[at] - median_of(values)):
        return None
    if comes_back(values, at) is not True:
        return None
    return Finding(
        "loss-spike",
        "info",
        f"A loss of {shown(float(values[at]))} stands {shown(z)} deviations above those before it, and came back.",
        {"loss": float(values[at]), "z": z, "expected": median_of(values)},
        "look at what was in that batch, or clip gradients",
    )


def loss_diverges(evidence: Evidence) -> Finding | None:
    """The loss stands above where it began, or has lost what it had gained."""
    of = loss_course(evidence)
    if of is None or of.points < (40 if evidence.origin == "run" else 10) or len(of.blocks) < 6:
        return None
    facts: dict[str, float | int | str] = {"loss_first": of.start, "loss_late": of.late, "loss_best": of.best}
    level = max(of.start, float(of.blocks[0])) if not is_every_step(of) else of.start
    room = max(0.5 * abs(level), 8.0 * of.noise, 6.0 * of.drop_noise)
    if of.late > level + room and float(of.blocks[-3:].min()) > level + 0.5 * room and not _falls_in_the_end(of):
        said = f"it stands at {shown(of.late)} and began at {shown(of.start)}"
    elif _is_lost(of):
        said = f"it had been {shown(of.best)} and is {shown(of.late)} again (it began at {shown(of.start)})"
    else:
        return None
    if of.late < of.start + 5.0 * abs(of.start) and objective_changes(evidence):
        return None
    return Finding(
        "loss-diverges",
        "critical",
        f"The training loss rises: {said}.",
        facts,
        "lower the learning rate, clip gradients, or take up an earlier checkpoint",
    )


def _falls_in_the_end(of: Course) -> bool:
    return mann_kendall_z(of.blocks[len(of.blocks) // 3 :].tolist()) < -2.0


def _is_lost(of: Course) -> bool:
    """Whether three quarters of what was gained since the first block are lost, and for long."""
    lowest = int(np.argmin(of.blocks))
    since = of.blocks[lowest + 1 :]
    gained = max(of.start, float(of.blocks[0])) - of.best
    if lowest == 0 or len(since) < 3 or gained <= 6.0 * of.block_noise or gained < 0.1 * abs(of.start):
        return False
    lost = median_of(since[-2:]) - of.best
    if lost < 0.75 * gained or lost < 6.0 * of.noise or _falls_in_the_end(of):
        return False
    unit = max(of.block_noise, 1e-3 * abs(of.best), float(np.finfo(np.float64).tiny))
    return cusum((since - of.best) / unit) > _CUSUM_LIMIT


def not_learning(evidence: Evidence) -> Finding | None:
    """The loss is shown to stand where it began."""
    of = loss_course(evidence)
    total = planned(evidence) or 0.0
    if of is None or of.last_step < max(100.0, 0.25 * total):
        return None
    if no_better_than_chance(evidence, of, total):
        return _at_chance(evidence, of)
    if falls(of) or _validation_falls(evidence):
        return None
    scale = abs(of.start)
    if stands_at_chance(evidence, of.late) is False or of.drop < -0.5 * scale:
        return None
    # known to be at chance, the run's first loss is not asked: it is a single noisy value
    at_chance = of.points >= 10 and stands_at_chance(evidence, of.late - of.late_noise) is True
    stands = of.points >= 100 and is_every_step(of) and of.drop + 2.0 * of.drop_noise <= _NOT_LEARNED * scale
    if not (at_chance or (stands and is_flat(of.blocks, _NOT_LEARNED * scale, of.block_noise))):
        return None
    return Finding(
        "not-learning",
        "warning",
        f"The training loss has stood at {shown(of.late)} since its start ({shown(of.start)}) for {of.last_step:.0f} "
        f"steps: a change of {shown(100 * of.drop / scale)} % (expected: a fall of more than 6 %).",
        {"loss_first": of.start, "loss_late": of.late, "fall": of.drop / scale, "fall_noise": of.drop_noise / scale},
        "fit one batch first (trainer.overfit_batches=1): if that fails too it is the model or the loss, else the "
        "data: does each label belong to its row? (or is the signal so weak that the noise of batches hides it?)",
    )


def _at_chance(evidence: Evidence, of: Course) -> Finding:
    return Finding(
        "not-learning",
        "warning",
        f"After {of.last_step:.0f} steps the training loss stands at {shown(of.late)}, and that of validation at "
        f"{shown(evidence.curve('val_loss').last)}: what somebody loses who sees no input (expected: less).",
        {"loss_first": of.start, "loss_late": of.late, "validation_loss": evidence.curve("val_loss").last},
        "look whether each label belongs to its row, whether what training_step does to a batch leaves anything of it, "
        "and whether the loss compares rows with their own targets; then fit one batch (trainer.overfit_batches=1)",
    )


def _validation_falls(evidence: Evidence) -> bool:
    values = evidence.curve("val_loss").finite().values
    return len(values) >= 2 and float(values[0] - values[1:].min()) > 0.03 * abs(float(values[0]))


def plateau(evidence: Evidence) -> Finding | None:
    """The loss is flat, at a level that is above one that it had held: what it has learned it has lost."""
    of = loss_course(evidence)
    if of is None or of.points < 100 or len(of.blocks) < 8:
        return None
    recent = of.blocks[-len(of.blocks) // 2 :]
    earlier = of.blocks[: len(of.blocks) - len(recent)]
    held = float(np.sort(earlier)[1])
    gained = max(of.start, float(of.blocks[0])) - held
    above = median_of(recent) - held
    if gained <= 0.1 * abs(of.start) or above < max(0.3 * gained, 8.0 * of.block_noise):
        return None
    if not is_flat(recent, 0.5 * above, of.block_noise) or objective_changes(evidence):
        return None
    return Finding(
        "plateau",
        "warning",
        f"The training loss is flat at {shown(of.late)} and had been {shown(held)} before.",
        {"loss_late": of.late, "loss_held": held, "loss_first": of.start},
        "take up an earlier checkpoint with a lower learning rate",
    )


def loss_oscillates(evidence: Evidence) -> Finding | None:
    """The loss swings far more widely than its noise explains, and gets nowhere."""
    of = loss_course(evidence)
    if of is None or of.points < 200:
        return None
    curve = evidence.curve("loss").finite()
    blocks = curve.tail(4096).blocks(40)
    half = blocks[len(blocks) // 2 :]
    length = min(len(curve), 4096) // len(blocks)
    expected = of.noise * np.sqrt(1.6 / max(1, length))
    middle = median_of(half)
    swing = median_of(np.abs(half - middle))
    gained = max(abs(of.drop), 0.1 * abs(of.start))
    if swing < 6.0 * expected or swing < 0.3 * gained or abs(mann_kendall_z(half.tolist())) > 2.0:
        return None
    turns = sign_change_rate(np.sign(half - middle))
    return Finding(
        "loss-oscillates",
        "warning" if swing > gained else "info",
        f"The training loss swings by {shown(swing)} about {shown(middle)} (its noise explains {shown(expected)}).",
        {"swing": swing, "expected": float(expected), "level": middle, "turns": turns},
        "lower the learning rate; look whether batches are sorted, or the rate is periodic",
    )


CURVE_RULES: tuple[Rule, ...] = (
    *CLIP_RULES,
    *STEP_SIZE_RULES,
    *OVERFITTING_RULES,
    Rule(
        "loss-not-finite",
        Rank.SYMPTOM,
        ("curves",),
        loss_not_finite,
        "structural",
        ("loss-diverges", "loss-spike", "loss-oscillates", "not-learning", "plateau"),
        "A training loss that is NaN or infinite.",
    ),
    Rule(
        "loss-diverges",
        Rank.SYMPTOM,
        ("curves.loss",),
        loss_diverges,
        "curve",
        ("loss-oscillates", "not-learning", "plateau", "overfitting"),
        "The loss stands above where it began, or has lost what it had gained.",
    ),
    Rule(
        "plateau",
        Rank.SYMPTOM,
        ("curves.loss",),
        plateau,
        "curve",
        ("not-learning",),
        "The loss is flat at a level that is above one that it had held.",
    ),
    Rule(
        "loss-oscillates",
        Rank.SYMPTOM,
        ("curves.loss",),
        loss_oscillates,
        "curve",
        ("not-learning",),
        "The loss swings widely, and gets nowhere.",
    ),
    Rule(
        "not-learning",
        Rank.SYMPTOM,
        ("curves.loss",),
        not_learning,
        "curve",
        (),
        "The loss is shown to stand where it began.",
    ),
    Rule(
        "loss-spike",
        Rank.SYMPTOM,
        ("curves.loss",),
        loss_spike,
        "curve",
        (),
        "One step's loss far above all others, that came back.",
    ),
)
