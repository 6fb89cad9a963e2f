"""What every door does around its work: a mistake becomes a message and an exit code, a defect keeps its traceback.

Exit codes: 0 done; 1 training failed, the machine did (a full disk), or a verdict was FAILED; 2 a mistake in what was
asked for; 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
    SearchPathException,
)
from omegaconf.errors import OmegaConfBaseException

from stablelit.errors import StablelitError, did_you_mean
from stablelit.run.streams import forgiving_streams
from stablelit.run.surroundings import of_a_worker, told_by_the_machine

if TYPE_CHECKING:
    from collections.abc import Iterator

MACHINES_ERROR = 1
USER_ERROR = 2
INTERRUPTED = 130
# what the extra installs
_EXTRA_SWEEP = ("optuna", "joblib")
_COMPOSITION_ERRORS = (
    ConfigCompositionException,
    MissingConfigException,
    OverrideParseException,
    SearchPathException,
    OmegaConfBaseException,
)


class RunFailure(Exception):
    """A run that ended badly for a reason already told: only the exit code is left to say."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def through_door(work: Callable[[], int | None]) -> int:
    """Runs a door's work and returns the process's exit code; a mistake is printed to stderr, without traceback."""
    with forgiving_streams(), _hydra_raises():
        try:
            with told_without_traceback():
                return work() or 0
        except KeyboardInterrupt:
            print("Interrupted before training began; nothing was kept.", file=sys.stderr)
            return INTERRUPTED
        except SystemExit as leaving:
            return leaving.code if isinstance(leaving.code, int) else 0 if leaving.code is None else USER_ERROR


def helped(argv: Sequence[str], about: str | None) -> bool:
    """Prints what a door that is no application of Hydra's is for, where `--help` asks for it; says whether it did."""
    if not {"-h", "--help"} & set(argv):
        return False
    print(about or "")
    print("\nEvery argument is key=value. One with a dot in its key (data.path=FILE) changes the run's configuration;")
    print("config.yaml has the keys. Exit codes: 0 done, 1 it failed, 2 a mistake in what was asked for.")
    return True


@contextmanager
def told_without_traceback() -> Iterator[None]:
    """Ends the process on a mistake from inside a job of Hydra's, which would print its own line before ours."""
    try:
        yield
    except RunFailure as failure:
        if str(failure):
            print(str(failure), file=sys.stderr)
        raise SystemExit(failure.exit_code) from None
    except Exception as error:
        code, message = USER_ERROR, users_mistake(error)
        if message is None:
            code, message = MACHINES_ERROR, told_by_the_machine(error)
        if message is None:
            raise
        print(message, file=sys.stderr)
        raise SystemExit(code) from None


def users_mistake(error: BaseException) -> str | None:
    """The message for an error that the user can mend, however deeply Hydra has wrapped it; None for a defect."""
    if type(error).__name__ == "MisconfigurationException":  # Lightning's own: no import of Lightning for its sake
        return f"Lightning: {error}"
    if isinstance(error, StablelitError):
        return f"{type(error).__name__}: {of_a_worker(error) or error}"
    if isinstance(error, MissingConfigException):
        wanted = (error.missing_cfg_file or "").rpartition("/")[2]
        if (error.missing_cfg_file or "").startswith(("hydra/sweeper/", "hydra/launcher/")):
            how = "pip install 'stablelit[sweep]'" if wanted in _EXTRA_SWEEP else "see Hydra's list of plug-ins"
            return f"{error}\n{wanted} is a plug-in of Hydra's, and it is not installed here: {how}"
        return f"{error}\n{did_you_mean(wanted, error.options or ())}".rstrip()
    if isinstance(error, _COMPOSITION_ERRORS):
        cause = error.__cause__
        return f"{error}\n{cause}" if isinstance(cause, OmegaConfBaseException) else str(error)
    if type(error) is HydraException:
        return f"{str(error).strip()}\n{_how_a_value_is_written(str(error))}"
    if isinstance(error, InstantiationException) and error.__cause__ is not None:
        inner = users_mistake(error.__cause__)
        return inner and f"{inner}\n({str(error).splitlines()[-1]})"
    return None


def _how_a_value_is_written(said: str) -> str:
    """A remedy for what Hydra's grammar refuses."""
    if "NoneType is incompatible" in said:
        return "Functions of a sweep take no null; a list without one does: key=a,b,null."
    if " while evaluating " in said:
        return "A list needs no function: key=1,2,3. A text that looks like one goes into quotes: \"key='f(x)'\"."
    # of its lexer, which names the letter and not the value
    return "Put such a value into quotes that reach Hydra, as in \"key='[a value]'\"."


@contextmanager
def _hydra_raises() -> Iterator[None]:
    """Lets Hydra's errors through: of itself it prints them and leaves with exit code 1."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before
