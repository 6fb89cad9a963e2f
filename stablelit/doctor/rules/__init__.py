"""All rules, in the order in which causes are named."""

from __future__ import annotations

from stablelit.doctor.rule import Rule
from stablelit.doctor.rules.curves import CURVE_RULES
from stablelit.doctor.rules.data import DATA_RULES
from stablelit.doctor.rules.family import FAMILY_RULES
from stablelit.doctor.rules.layers import LAYER_RULES
from stablelit.doctor.rules.modes import MODE_RULES
from stablelit.doctor.rules.operations import OPERATION_RULES
from stablelit.doctor.rules.optimizers import OPTIMIZER_RULES
from stablelit.doctor.rules.parameters import PARAMETER_RULES
from stablelit.doctor.rules.schedules import SCHEDULE_RULES
from stablelit.doctor.rules.unbounded import UNBOUNDED_RULES
from stablelit.doctor.rules.wiring import WIRING_RULES

RULES: tuple[Rule, ...] = tuple(
    sorted(
        (
            *DATA_RULES,
            *PARAMETER_RULES,
            *MODE_RULES,
            *WIRING_RULES,
            *UNBOUNDED_RULES,
            *OPERATION_RULES,
            *LAYER_RULES,
            *OPTIMIZER_RULES,
            *SCHEDULE_RULES,
            *FAMILY_RULES,
            *CURVE_RULES,
        ),
        key=lambda rule: rule.rank,
    )
)
