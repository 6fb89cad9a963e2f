"""A long run with every callback on comes to hold no more than it held when it was warm."""

from __future__ import annotations

import pytest

from benchmarks.memory_fits import everything, held

MOST_MIB = 5.0
# a toy that every callback looks at is told a good deal
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.slow
@pytest.mark.parametrize(("steps", "per_epoch"), [(3_000, 250)], ids=["3,000 steps"])
def test_memory_does_not_grow_with_the_steps(steps, per_epoch):
    # the first pictures, which bring matplotlib and its fonts, come in the third epoch
    found = held(everything, 4 * per_epoch, steps, per_epoch)
    assert found.growth < MOST_MIB, f"resident MiB at steps {found.steps}: {found.mib}"
