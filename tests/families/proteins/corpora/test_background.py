from __future__ import annotations

import numpy as np
import pytest

from stablelit.families.proteins.alphabet import AMINO_ACIDS
from stablelit.families.proteins.corpora import amino_acid_frequencies
from stablelit.families.proteins.corpora.background import UNIREF50_COUNTS


def test_the_entropy_is_that_of_uniref50():
    law = amino_acid_frequencies()
    assert law.shape == (20,)
    assert law.sum() == pytest.approx(1.0)
    assert -(law * np.log(law)).sum() == pytest.approx(2.8888, abs=5e-5)


def test_every_letter_has_its_own_count():
    assert sorted(UNIREF50_COUNTS) == sorted(AMINO_ACIDS)
    law = dict(zip(AMINO_ACIDS, amino_acid_frequencies(), strict=True))
    assert max(law, key=law.get) == "L"
    assert min(law, key=law.get) == "W"


def test_real_proteins_have_nearly_these_frequencies(test_data):
    text = "".join(
        line for line in (test_data / "proteins" / "trembl_100.fasta").read_text().split("\n") if line[:1] != ">"
    )
    real = np.array([text.count(letter) for letter in AMINO_ACIDS], dtype=float)
    real /= real.sum()
    assert (real * np.log(real / amino_acid_frequencies())).sum() < 0.02
