"""The handwritten digits of scikit-learn: 1,797 pictures of 8 x 8 pixels in ten classes, for a first try.

Source  Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository (1998)
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stablelit.errors import MissingDependencyError
from stablelit.families.sketches.readers.gathering import Gathering, Request
from stablelit.families.sketches.readers.pictures import pillow
from stablelit.families.sketches.sketches import Sketches

_MOST_INK = 16


def read_digits(request: Request) -> Sketches:
    """The digits, enlarged; of a class the first `max_per_class`.

    Raises:
        MissingDependencyError: scikit-learn is not there.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingDependencyError(
            "The format digits needs scikit-learn, which brings them. Install it with: pip install scikit-learn"
        ) from error
    data = load_digits()
    image_module = pillow()
    gathering: Gathering[NDArray[np.uint8]] = Gathering(Path("digits"))
    for i, (ink, digit) in enumerate(zip(data.images, data.target, strict=True)):
        name = str(int(digit))
        if request.max_per_class is not None and gathering.names.count(name) == request.max_per_class:
            continue
        small = image_module.fromarray(np.rint(np.asarray(ink) * (255 / _MOST_INK)).astype(np.uint8))
        large = small.resize((request.size, request.size), image_module.Resampling.BILINEAR)
        gathering.take(name, f"digits[{i}]", lambda large=large: np.asarray(large))  # type: ignore[misc]
    return gathering.sketches(np.stack(gathering.contents))
