"""Which logged tag is the training loss, the learning rate, the KL: by the words in its name.

A name is cut into words (``Loss/train_total``, ``trainLoss``, ``train-loss`` give the same), and a role asks for words
that must be there and words that must not. Words that say nothing (``step``, ``epoch``, ``total``) are let pass; every
other word is one that the role does not understand, and a name with fewer of these is nearer. Of two names that are
equally near, and differ only in words that say nothing, the one with more points is taken: steps rather than epochs.
Where they differ in more (``g_loss`` and ``d_loss``), nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_TRAIN, _TEST = _set("train training tr fit trn"), _set("test testing")
_VALIDATION = _set("val valid validation eval evaluation dev vali")
_SAYS_NOTHING = _set(
    "step steps epoch epochs batch total mean avg average all overall global full sum iter iteration log logs "
    "metric metrics per dataloader idx scalar scalars running cur current monitor raw value"
)
_NOT_A_LOSS = _set(
    "weight weights lr rate scale scaler ratio spike best min max excess chance floor baseline norm empty std var "
    "accuracy acc grad gradient time lambda coef coeff target null test"
)


def words_of(tag: str) -> tuple[str, ...]:
    """The words of a name, in lower case.

    >>> words_of("Loss/train_total"), words_of("trainLoss"), words_of("lr-AdamW/pg1")
    (('loss', 'train', 'total'), ('train', 'loss'), ('lr', 'adam', 'w', 'pg', '1'))
    """
    return tuple(word.lower() for word in _WORD.findall(tag))


@dataclass(frozen=True)
class Role:
    """What a curve is to the rules, and how its name looks.

    Args:
        needs: of each set one word has to be there.
        never: words that rule a name out.
        passes: words, beside those that say nothing, that fit.
        most_unknown: words that the role does not understand, that are let pass.
        largest: of several equals takes the one with the largest value, instead of guessing nothing.
    """

    needs: tuple[frozenset[str], ...]
    never: frozenset[str] = frozenset()
    passes: frozenset[str] = frozenset()
    most_unknown: int = 1
    largest: bool = False

    def unknown_words(self, words: Iterable[str]) -> tuple[str, ...] | None:
        """The words that this role does not understand; None where the name is not of this role."""
        held = set(words)
        if held & self.never or any(not held & need for need in self.needs):
            return None
        known = _SAYS_NOTHING.union(self.passes, *self.needs)
        unknown = tuple(sorted(word for word in held - known if not word.isdigit()))
        return unknown if len(unknown) <= self.most_unknown else None


_LOSS, _LIKE_A_LOSS = _set("loss losses"), _set("nll objective cost criterion mse bce xent crossentropy mae rmse")
_KL, _OF_KL = _set("kl kld"), _set("weight w beta coef coeff coefficient lambda annealing")
_NOT_TRAINING = _VALIDATION | _TEST
ROLES: dict[str, tuple[Role, ...]] = {
    "loss": (
        Role((_LOSS,), _NOT_A_LOSS | _NOT_TRAINING, _TRAIN, 2),
        Role((_LIKE_A_LOSS,), _NOT_A_LOSS | _NOT_TRAINING, _TRAIN | {"neg"}, 1),
        Role((_set("neg negative"), _set("elbo")), _NOT_A_LOSS | _NOT_TRAINING, _TRAIN, 1),
    ),
    "val_loss": (
        Role((_VALIDATION, _LOSS), _NOT_A_LOSS - _TEST | _TRAIN, most_unknown=2),
        Role((_VALIDATION, _LIKE_A_LOSS), _NOT_A_LOSS | _TRAIN, _set("neg"), 1),
        Role((_VALIDATION, _set("neg negative"), _set("elbo")), _NOT_A_LOSS | _TRAIN, most_unknown=0),
        Role((_TEST, _LOSS), (_NOT_A_LOSS - _TEST) | _TRAIN, most_unknown=0),
    ),
    "lr": (
        Role(
            (_set("lr learning"),),
            _set("momentum decay weight warmup min max loss acc accuracy find"),
            _TRAIN
            | _set("rate pg group optimizer optim opt scheduler schedule param")
            | _set("adam w sgd rm sprop rms prop adagrad adadelta adamax n r sparse lars lamb muon lion a"),
            1,
            largest=True,
        ),
    ),
    "grad_norm": (
        Role(
            (_set("grad grads gradient gradients"), _set("norm norms")),
            _set("clipped after post ratio clip weight val max min std"),
            _TRAIN | _set("l2 l pre before unclipped preclip"),
            0,
        ),
        Role((_set("gradnorm"),), passes=_TRAIN, most_unknown=0),
    ),
    "kl": (
        Role(
            (_KL,),
            _OF_KL | _NOT_TRAINING | _set("target dim dims share cap"),
            _TRAIN | _LOSS | _set("div divergence term"),
        ),
    ),
    "kl_weight": (
        Role((_KL, _OF_KL), _NOT_TRAINING | _set("target"), _TRAIN),
        Role((_set("beta"),), _NOT_TRAINING | _set("target 1 2 adam"), _TRAIN, 0),
    ),
    "accuracy": (Role((_set("acc accuracy"),), _NOT_TRAINING | _set("best loss"), _TRAIN | _set("top 1")),),
    "val_accuracy": (Role((_VALIDATION, _set("acc accuracy")), _TRAIN | _set("best loss"), _set("top 1")),),
    "difficulty": (Role((_set("difficulty"),), _set("loss"), _TRAIN | _set("curriculum d level"), 1),),
    "edges": (
        Role(
            (_set("edge edges"),),
            _set("true truth target gt loss acc accuracy f precision recall density weight auc ratio reversed extra")
            | _set("missing empty"),
            _TRAIN | _VALIDATION | _set("count counts n num number pred predicted kept graph causal dag learned"),
            0,
        ),
    ),
    "true_edges": (
        Role(
            (_set("edge edges"), _set("true truth gt")),
            _set("positive loss"),
            _TRAIN | _VALIDATION | _set("count n num number graph"),
            0,
        ),
        Role((_set("shd"), _set("empty")), passes=_TRAIN | _VALIDATION | _set("threshold graph"), most_unknown=0),
    ),
    "shd": (
        Role(
            (_set("shd hamming"),),
            _set("empty null baseline fixed chance best random"),
            _TRAIN | _VALIDATION | _set("structural distance threshold graph"),
            0,
        ),
    ),
    "f1": (
        Role(
            (_set("f"),), _set("best null fixed oracle all low high loss"), _VALIDATION | _set("1 score threshold"), 0
        ),
    ),
    "threshold": (
        Role(
            (_set("threshold thresh"), _set("best optimal chosen opt")),
            _set("f shd score loss"),
            _VALIDATION | _TRAIN | _set("decision"),
            0,
        ),
    ),
    "chance": (Role((_set("chance"),), _NOT_TRAINING | _set("knn acc accuracy f"), _TRAIN | _LOSS, 0),),
}


@dataclass(frozen=True)
class Tag:
    """A tag as far as a guess needs it.

    Args:
        name: as it was logged.
        points: how many it has.
        largest: its largest value.
    """

    name: str
    points: int
    largest: float = 0.0


def guess_tags(tags: Iterable[Tag], fixed: Mapping[str, str] | None = None) -> dict[str, str]:
    """A tag for each role for which one can be told; those of `fixed` are taken as they are."""
    chosen = dict(fixed or {})
    worded = [(tag, words_of(tag.name)) for tag in tags if tag.points]
    for role, forms in ROLES.items():
        if role in chosen:
            continue
        for form in forms:
            tag = _best(form, worded)
            if tag is not None:
                chosen[role] = tag
                break
    return {role: chosen[role] for role in ROLES if role in chosen}


def candidates(role: str, names: Iterable[str]) -> list[str]:
    """All names that might be of that role, the nearest first."""
    found = []
    for name in names:
        unknown = [form.unknown_words(words_of(name)) for form in ROLES[role]]
        nearest = min((len(words) for words in unknown if words is not None), default=None)
        if nearest is not None:
            found.append((nearest, name))
    return [name for _, name in sorted(found)]


def _best(form: Role, worded: Iterable[tuple[Tag, tuple[str, ...]]]) -> str | None:
    fits = [(unknown, tag) for tag, words in worded if (unknown := form.unknown_words(words)) is not None]
    if not fits:
        return None
    nearest = min(len(unknown) for unknown, _ in fits)
    near = [(unknown, tag) for unknown, tag in fits if len(unknown) == nearest]
    if form.largest:
        return min(near, key=lambda fit: (-fit[1].largest, len(fit[1].name), fit[1].name))[1].name
    if len({unknown for unknown, _ in near}) > 1:
        return None
    return min(near, key=lambda fit: (-fit[1].points, len(fit[1].name), fit[1].name))[1].name
