"""How fast light is, in vacuum and in ice."""

SPEED_OF_LIGHT = 0.299792458
"""m / ns."""

GROUP_INDEX = 1.36
"""Of ice: light travels at `SPEED_OF_LIGHT` over it."""
