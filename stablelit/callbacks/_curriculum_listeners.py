"""Who is told the difficulty: a module, a datamodule, the samplers of the train loaders, a scalar at a dotted path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stablelit.callbacks._loader_position import train_loaders
from stablelit.contracts import HasDifficulty, HasDifficultyInfo, Scalar, numbers_of
from stablelit.errors import ConfigurationError, ContractError, bad_argument

_ALLOWED = (
    "'module', 'datamodule', 'sampler', a dotted path such as 'loss.temperature', or an object with set_difficulty, "
    "alone or in a list"
)


class Listeners:
    """Finds those that listen, and tells them.

    Of `module` and `datamodule`, where both are named, one is enough; everything else that is named must be there.

    Args:
        targets: what to look for.
        owner: for messages.

    Raises:
        ConfigurationError: no target, one twice, or something else than a target.
    """

    def __init__(self, targets: str | HasDifficulty | Sequence[Any], owner: str) -> None:
        several = isinstance(targets, Sequence) and not isinstance(targets, str)
        self.targets: list[Any] = list(targets) if several else [targets]  # type: ignore[arg-type]
        for target in self.targets:
            is_path = isinstance(target, str) and all(target.split("."))
            if not is_path and not (isinstance(target, HasDifficulty) and not isinstance(target, type)):
                raise bad_argument(owner, "targets", targets, _ALLOWED)
        if not self.targets or len(set(self.names)) != len(self.targets):
            raise bad_argument(owner, "targets", targets, f"at least one target and none twice: {_ALLOWED}")
        self.owner = owner
        self._found: dict[str, Any] = {}
        self._samplers: list[Any] = []

    @property
    def names(self) -> list[str]:
        """The targets in words."""
        return [target if isinstance(target, str) else type(target).__name__ for target in self.targets]

    @property
    def wants_samplers(self) -> bool:
        """Whether a sampler is a target, which is there when training begins."""
        return "sampler" in self.targets

    def find(self, trainer: Any, pl_module: Any, required: bool) -> None:
        """Finds all but the samplers.

        Args:
            trainer: of the run.
            pl_module: its module.
            required: whether somebody must listen; where nothing is trained there may be no datamodule to ask.

        Raises:
            ContractError: nobody listens, or nothing is at a path; it says what there is.
        """
        owners = {"module": pl_module, "datamodule": getattr(trainer, "datamodule", None)}
        self._found, self._samplers = {}, []
        for target, name in zip(self.targets, self.names, strict=True):
            if not isinstance(target, str):
                self._found[name] = target
            elif target in owners:
                if isinstance(owners[target], HasDifficulty):
                    self._found[name] = owners[target]
            elif target != "sampler":
                found = self._at_path(owners, target, required)
                if found is not None:
                    self._found[name] = found
        either = [name for name in self.names if name in owners]
        if required and either and not any(name in self._found for name in either):
            raise self._nobody(owners, either)

    def find_samplers(self, trainer: Any, pl_module: Any) -> None:
        """Finds the samplers of the train loaders as Lightning uses them; they change where loaders are reloaded.

        Raises:
            ContractError: none of them listens.
        """
        if not self.wants_samplers:
            return
        every = [sampler for loader in train_loaders(trainer) for sampler in _samplers_of(loader)]
        self._samplers = [sampler for sampler in every if isinstance(sampler, HasDifficulty)]
        if not self._samplers:
            there = ", ".join(dict.fromkeys(type(sampler).__name__ for sampler in every)) or "no sampler"
            raise ContractError(
                f"{self.owner}: no sampler of the train loader of {type(pl_module).__name__} has "
                f"set_difficulty(difficulty); there is {there}. Give it that method, or leave 'sampler' out of targets."
            )

    def set(self, difficulty: float) -> None:
        """Tells everybody."""
        for listener in self._found.values():
            _tell(listener, difficulty)
        for sampler in self._samplers:
            sampler.set_difficulty(difficulty)

    def set_for_evaluation(self, difficulty: float) -> None:
        """Tells those that evaluation concerns: no sampler of a train loader, and nobody who says so."""
        for listener in self._found.values():
            if not getattr(listener, "difficulty_is_of_training", False):
                _tell(listener, difficulty)

    def info(self) -> dict[str, float]:
        """What the listeners say that the difficulty comes to.

        Raises:
            ContractError: something else than a dictionary, or one name from two of them.
        """
        said: dict[str, float] = {}
        for listener in self._everybody():
            if not isinstance(listener, HasDifficultyInfo):
                continue
            info: Any = listener.difficulty_info()
            kind = type(listener).__name__
            if not isinstance(info, Mapping):
                raise ContractError(
                    f"{self.owner}: {kind}.difficulty_info() returned a {type(info).__name__}; it must return a "
                    f"dictionary of numbers by name."
                )
            twice = sorted({*said, "difficulty", "progress", "gate_hold"} & set(info))
            if twice:
                raise ContractError(
                    f"{self.owner}: {kind}.difficulty_info() has {', '.join(twice)}, and something else is logged by "
                    f"this name. Give it another."
                )
            said.update(info)
        return said

    def _everybody(self) -> Iterator[Any]:
        yield from self._found.values()
        yield from self._samplers

    def _at_path(self, owners: Mapping[str, Any], path: str, required: bool) -> Any:
        first = path.split(".")[0]
        module, data = owners["module"], owners["datamodule"]
        owner = module if hasattr(module, first) or not hasattr(data, first) else data
        there = _walk(owner, path)
        if isinstance(there, HasDifficulty):
            return there
        if not required and there is None:
            return None
        return Scalar(owner, path, self.owner)

    def _nobody(self, owners: Mapping[str, Any], asked: Sequence[str]) -> ContractError:
        kinds = {name: type(owner).__name__ for name, owner in owners.items()}
        data = f"the datamodule {kinds['datamodule']}" if owners["datamodule"] is not None else "there is no datamodule"
        there = f"the module {kinds['module']}" + (f" and {data}" if owners["datamodule"] is not None else f" ({data})")
        numbers = numbers_of(owners["module"])
        scalar = f"or the dotted path of a number (it has {', '.join(numbers)})" if numbers else "or a number's path"
        return ContractError(
            f"{self.owner}: nobody listens. Looked for set_difficulty(difficulty) in {' and '.join(asked)}: {there}. "
            f"Give one of them that method, or name another target: targets='sampler' for the sampler of the train "
            f"loader, {scalar}."
        )

    def refuse_second_writer(self, trainer: Any, log_prefix: str) -> None:
        """Two callbacks that move one thing undo each other's work, and two that log by one name are averaged.

        Raises:
            ConfigurationError: another callback of this Trainer moves one of the targets or logs by this name.
        """
        for other in getattr(trainer, "callbacks", []):
            theirs = getattr(other, "listeners", None)
            if theirs is self:
                continue
            names = theirs.names if isinstance(theirs, Listeners) else [getattr(other, "writes_scalar", None)]
            shared = [name for name in self.names if name in names]
            if shared:
                raise ConfigurationError(
                    f"{self.owner}: {type(other).__name__} in the same Trainer moves {', '.join(shared)} too, so the "
                    f"last one would win. Keep one of them, or give them different targets."
                )
            if isinstance(theirs, Listeners) and other.log_prefix == log_prefix:
                raise ConfigurationError(
                    f"{self.owner}: two of them log {log_prefix}/difficulty. Give one a name: name='second'."
                )


def _tell(listener: Any, difficulty: float) -> None:
    if isinstance(listener, Scalar):
        listener.set(difficulty)
    else:
        listener.set_difficulty(difficulty)


def _walk(owner: Any, path: str) -> Any:
    for name in path.split("."):
        owner = getattr(owner, name, None)
    return owner


def _samplers_of(loader: Any) -> list[Any]:
    """Every sampler that has a part in a loader's order, outermost first."""
    waiting = [getattr(loader, "batch_sampler", None), getattr(loader, "sampler", None)]
    found: dict[int, Any] = {}
    while waiting:
        sampler = waiting.pop(0)
        if sampler is None or id(sampler) in found:
            continue
        found[id(sampler)] = sampler
        # under DDP Lightning puts a sampler of its own around one that it does not know
        waiting += [getattr(sampler, "sampler", None), getattr(getattr(sampler, "dataset", None), "_sampler", None)]
    return list(found.values())
