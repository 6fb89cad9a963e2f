"""What the data module tells the user."""

from __future__ import annotations

from stablelit.data.told import teller

say = teller("SketchDataModule")
