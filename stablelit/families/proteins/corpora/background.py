"""How often each amino acid occurs in nature."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stablelit.families.proteins.alphabet import AMINO_ACIDS

# residues of the test split of EvoDiff's UniRef50 (github.com/microsoft/evodiff, data/uniref50_aa_ref_test.csv,
# commit 5831042): counts of nature, without the 7,374 letters that are none of the twenty
UNIREF50_COUNTS = {
    "A": 1_618_915,
    "C": 260_650,
    "D": 1_029_002,
    "E": 1_153_341,
    "F": 740_211,
    "G": 1_298_777,
    "H": 415_510,
    "I": 1_043_277,
    "K": 959_135,
    "L": 1_812_595,
    "M": 410_047,
    "N": 778_128,
    "P": 944_355,
    "Q": 723_490,
    "R": 1_118_546,
    "S": 1_397_024,
    "T": 1_075_117,
    "V": 1_225_428,
    "W": 248_100,
    "Y": 558_281,
}


def amino_acid_frequencies() -> NDArray[np.float64]:
    """Shares ``(20,)`` of the residues of UniRef50 in the alphabet's order; their entropy is 2.8888 nats.

    Source: 18.8 million residues, as counted by EvoDiff (Alamdari et al. 2023, github.com/microsoft/evodiff).
    """
    counts = np.array([UNIREF50_COUNTS[letter] for letter in AMINO_ACIDS], dtype=np.float64)
    return counts / counts.sum()
