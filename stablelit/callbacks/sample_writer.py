"""Has a generative model write samples while it is trained, at named steps or every so long.

Runs    setup (contract), on_train_start (one trial), on_train_batch_end (writes, after a whole optimizer step)
Reads   `generate_to_file(path, n, seed, ...)` of the module
Writes  samples/step_<n><suffix> in `directory`, else in the logger's directory
Logs    samples/<key>: those numbers that `generate_to_file` returns and that are floats, at the step
Resumes exactly: which steps are done is in the checkpoint, and each is written once; a rollback writes none again
Limits  the weights that are trained, not an average that EMACallback keeps; rank zero alone writes and logs, and the
        other ranks go on until they need it: generation must be shorter than their patience (NCCL: ten minutes), and a
        callback that needs the logged values on every rank does not find them; no sharded strategies; nothing is
        written under fast_dev_run, though the trial is made; the GPU path was not run
"""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import lightning.pytorch as pl
import torch

from stablelit.callbacks._clock import elapsed
from stablelit.callbacks._epoch_log import log_step
from stablelit.callbacks._named_steps import NamedSteps
from stablelit.callbacks._snapshots import is_sharded
from stablelit.callbacks.random_state import random_state, restore_random_state
from stablelit.contracts import GeneratesToFile
from stablelit.errors import ConfigurationError, ContractError, StablelitError, bad_argument, did_you_mean
from stablelit.findings import Finding, FindingReporter, findings_directory
from stablelit.functional.schedules import check_count, check_flag
from stablelit.lost_reports import report_may_be_lost, tell_of_lost

Refusal = Literal["raise", "warn"]
_OWNER = "SampleWriter"
_GIVEN = ("path", "n", "seed")


class SampleWriter(pl.Callback):
    """Writes samples of a model in training.

    The model is in evaluation mode meanwhile, no gradient is kept, and the random states are put back: a training with
    this callback is bit for bit the one without it. The seed is the same at every step, so that samples of two steps
    differ by what was learned between them.

    Before the first step one sample is drawn into a temporary file (`n` of them where an argument is a list of `n`
    values): a model that cannot generate, a suffix that it does not write, and noise that does not end where generation
    starts are told then and not at step 10,000.

    Args:
        steps: after which optimizer steps: ints, or clock strings ("2ep", "0.5dur").
        every: a clock string: after every so long; beside `steps` or in its place.
        n: samples.
        seed: of the samples.
        suffix: of the files, by which families choose the format.
        log: log the numbers that `generate_to_file` returns.
        arguments: what `generate_to_file` takes besides, such as ``{"temperature": 0.8}``.
        directory: where ``samples/`` goes; None is the run's directory.
        name: of a second instance: samples/<name>/step_<n><suffix>, and samples/<name>/<key> in the log.
        action: what a model does that refuses to generate: `raise`, or `warn`: one finding, `samples-refused`, and the
            training goes on; one that refused the trial is not asked again. Findings besides: `named-steps-beyond` and
            `named-steps-behind`, steps that this run does not come to.

    Raises:
        ConfigurationError: an argument out of range, or one that `generate_to_file` does not take; a sharded strategy;
            a share of a run without a known length.
        ContractError: the module has no `generate_to_file`, or it returns no mapping.

    Example:
        >>> from stablelit import SampleWriter
        >>> callback = SampleWriter(steps=[10_000, 25_000, "1.0dur"], n=64, arguments={"length": 100})
    """

    keeps_books = True

    def __init__(
        self,
        steps: Sequence[int | str] | None = None,
        every: int | str | None = None,
        n: int = 64,
        seed: int = 0,
        suffix: str = ".fasta",
        log: bool = True,
        arguments: Mapping[str, Any] | None = None,
        directory: str | None = None,
        name: str | None = None,
        action: Refusal = "raise",
    ) -> None:
        for what, given in (("directory", directory), ("name", name)):
            if given is not None and (not isinstance(given, str) or not given):
                raise bad_argument(_OWNER, what, given, "text, or None")
        self.name = name
        self._steps = NamedSteps(self.state_key, steps, every, "samples")
        self.n, self.seed = check_count(_OWNER, "n", n, 1), check_count(_OWNER, "seed", seed, 0)
        if not isinstance(suffix, str) or not suffix.startswith(".") or "/" in suffix or len(suffix) < 2:
            raise bad_argument(_OWNER, "suffix", suffix, "the ending of a file's name, such as '.fasta' or '.npz'")
        self.suffix, self.directory = suffix, directory
        # Lightning puts the module's own `log` on every callback, under that name
        self._logs = check_flag(_OWNER, "log", log)
        if arguments is not None and not isinstance(arguments, Mapping):
            raise bad_argument(_OWNER, "arguments", arguments, "a mapping of names to values")
        self.arguments = dict(arguments or {})
        if taken := [given for given in _GIVEN if given in self.arguments]:
            raise bad_argument(_OWNER, "arguments", self.arguments, f"names other than {', '.join(taken)}")
        if action not in get_args(Refusal):
            raise bad_argument(_OWNER, "action", action, ", ".join(get_args(Refusal)))
        self.action = action
        self._reporter = FindingReporter(self.state_key, "warn")
        self._refused = False
        self._logged: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"{_OWNER}({self._steps}, n={self.n}, suffix={self.suffix!r})"

    @property
    def state_key(self) -> str:
        """The key of this callback's state in a checkpoint."""
        return f"{_OWNER}[{self.name or ''}]"

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Asks for the contract before anything runs."""
        kind = type(pl_module).__name__
        if not isinstance(pl_module, GeneratesToFile) or not callable(pl_module.generate_to_file):
            raise ContractError(
                f"{_OWNER}: {kind} has no generate_to_file(path, n, seed). Give it a method that writes n samples and "
                f"returns what it did, or take the callback away."
            )
        if is_sharded(trainer.strategy):
            raise ConfigurationError(
                f"{_OWNER}: with {type(trainer.strategy).__name__} no rank has the whole model, so that none can draw "
                f"samples alone. Use DDP, or generate from a checkpoint."
            )
        parameters = inspect.signature(pl_module.generate_to_file).parameters
        takes = [name for name in parameters if name not in _GIVEN]
        takes_anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        for name in self.arguments:
            if name not in takes and not takes_anything:
                allowed = f"what {kind}.generate_to_file takes: {', '.join(takes) or 'nothing more'}"
                raise bad_argument(
                    _OWNER, f"arguments[{name!r}]", self.arguments[name], allowed, did_you_mean(name, takes)
                )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draws one sample on every rank, so that a refusal ends all of them; goes on where a resumed run stopped."""
        if trainer.global_step == 0:
            self._logged = {}
        self._steps.begin(trainer)
        self._refused = False
        of_each = any(isinstance(value, list | tuple) and len(value) == self.n for value in self.arguments.values())
        with tempfile.TemporaryDirectory(prefix="stablelit-") as scratch:
            trial = Path(scratch) / f"trial{self.suffix}"
            self._refused = self._generate(trainer, pl_module, trial, self.n if of_each else 1) is None
        trainer.callback_metrics.update({name: torch.tensor(value) for name, value in self._logged.items()})
        if trainer.global_step > 0 and self._steps.come(trainer):
            # an interrupt ended the run between this step and its samples
            self._write(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Writes where a step has come."""
        if self._steps.due(trainer):
            self._write(trainer, pl_module)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Says what could not be written."""
        tell_of_lost(trainer)

    def state_dict(self) -> dict[str, Any]:
        """What is written, what was logged last, and what was reported."""
        return {
            "steps": self._steps.state_dict(),
            "logged": dict(self._logged),
            "findings": self._reporter.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes them up."""
        self._steps.load_state_dict(state_dict["steps"])
        self._logged = {str(name): float(value) for name, value in state_dict["logged"].items()}
        self._reporter.load_state_dict(state_dict["findings"])

    def _write(self, trainer: Any, pl_module: Any) -> None:
        if self._refused or not trainer.is_global_zero or trainer.fast_dev_run:
            return
        root = Path(self.directory) if self.directory else findings_directory(trainer)
        path = root.joinpath("samples", *([self.name] if self.name else []))
        done = None
        with report_may_be_lost(trainer, self.state_key, path):
            path.mkdir(parents=True, exist_ok=True)
            done = self._generate(trainer, pl_module, path / f"step_{int(elapsed(trainer, 'st'))}{self.suffix}", self.n)
        if self._logs and done is not None:
            prefix = f"samples/{self.name}/" if self.name else "samples/"
            self._logged = {f"{prefix}{key}": value for key, value in done.items() if isinstance(value, float)}
            log_step(trainer, self._logged)

    def _generate(self, trainer: Any, pl_module: Any, path: Path, n: int) -> Mapping[str, Any] | None:
        """What `generate_to_file` returns; None where it refused and that is only reported."""
        device, modes = trainer.strategy.root_device, [(part, part.training) for part in pl_module.modules()]
        before = random_state(device)
        pl_module.eval()
        try:
            # with bf16-true, weights have a type that torch's generators give only in there
            with torch.no_grad(), trainer.precision_plugin.val_step_context():
                done = pl_module.generate_to_file(str(path), n, seed=self.seed, **self.arguments)
        except StablelitError as error:
            if self.action == "raise":
                raise
            message = f"{type(pl_module).__name__} does not generate, and no samples are written: {error}"
            self._reporter.report(trainer, Finding("samples-refused", "warning", message, {}, _REMEDY))
            return None
        finally:
            # one by one: a part that is frozen may be in evaluation mode while the rest is trained
            for part, training in modes:
                part.training = training
            restore_random_state(before, device)
        if not isinstance(done, Mapping):
            raise ContractError(
                f"{_OWNER}: {type(pl_module).__name__}.generate_to_file returned a {type(done).__name__}; allowed: a "
                f"mapping of names to what it did."
            )
        return done


_REMEDY = "what the message says, or a run without this callback"
