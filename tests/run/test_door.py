from __future__ import annotations

import pytest
from hydra.errors import HydraException, InstantiationException
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue

from stablelit.errors import DataError
from stablelit.run.door import RunFailure, through_door, users_mistake


def wrapped(cause: Exception) -> InstantiationException:
    outer = InstantiationException("Error in call to target\nfull_key: data")
    outer.__cause__ = cause
    return outer


def test_a_mistake_is_recognised_however_deeply_it_is_wrapped():
    message = users_mistake(wrapped(wrapped(DataError("jets.h5: row 3"))))
    assert message is not None
    assert message.startswith("DataError: jets.h5: row 3")
    assert "full_key: data" in message


@pytest.mark.parametrize("error", [KeyError("x"), wrapped(KeyError("x")), wrapped(ValueError("x"))])
def test_a_defect_is_no_mistake(error):
    assert users_mistake(error) is None


def test_a_missing_value_is_a_mistake():
    with pytest.raises(MissingMandatoryValue) as caught:
        _ = OmegaConf.create({"name": "???"}).name
    assert "name" in (users_mistake(caught.value) or "")


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("TypeError while evaluating 'choice(a,null)': NoneType is incompatible with Union[str]", "key=a,b,null"),
        ("HydraException while evaluating 'intervall(0,1)': Unknown function 'intervall'\n", "key=1,2,3"),
        ("token recognition error at: '\\u00f6'", "quotes"),
    ],
    ids=["null in a function", "unknown function", "letter"],
)
def test_what_the_grammar_refuses_is_told_with_how_it_is_written(said, remedy):
    told = users_mistake(HydraException(said)) or ""
    assert told.splitlines()[0] == said.strip()
    assert remedy in told


@pytest.mark.parametrize(
    ("error", "code"),
    [(DataError("x"), 2), (RunFailure("x"), 1), (RunFailure("x", 130), 130), (KeyboardInterrupt(), 130)],
)
def test_every_ending_has_its_exit_code(error, code, capsys):
    def work() -> None:
        raise error

    assert through_door(work) == code
    assert capsys.readouterr().err


def test_a_defect_goes_through_with_its_traceback():
    def work() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        through_door(work)
