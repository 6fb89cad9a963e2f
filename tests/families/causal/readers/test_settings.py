from __future__ import annotations

import pytest

from stablelit.errors import ConfigurationError
from stablelit.families.causal.readers.settings import PanelSettings


def test_settings_say_what_a_reader_is_asked_for():
    settings = PanelSettings(columns=["a"], time_column=["date", "hour"], environment_column="site", na_values=[-1])
    assert settings.request.columns == ("a",)
    assert settings.request.keys == ("date", "hour", "site")
    assert settings.request.not_observed.numbers == (-1.0,)
    assert PanelSettings(time_column="t").time_columns == ("t",)
    assert PanelSettings().request.keys == ()


def test_the_usual_values_for_not_observed():
    usual = PanelSettings().not_observed
    assert usual.numbers == (-200.0,)
    assert usual.texts == {"", "na", "nan"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"columns": "a"}, "columns='a'.*list of different names"),
        ({"columns": []}, r"columns=\[\]"),
        ({"columns": ["a", "a"]}, "columns="),
        ({"columns": [1, 2]}, r"columns=\[1, 2\]"),
        ({"time_column": 3}, "time_column=3"),
        ({"time_format": "%Y"}, "time_format='%Y'.*None without time_column"),
        ({"environment_column": ""}, "environment_column=''"),
        ({"mask": 5}, "mask=5"),
        ({"sort": "yes"}, "sort='yes'"),
        ({"interventions": ["drug"]}, r"interventions=\['drug'\].*\{drug: \[raf\]\}"),
        ({"na_values": "NA"}, "na_values='NA'"),
    ],
)
def test_settings_of_another_type_are_refused(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        PanelSettings(**settings)
