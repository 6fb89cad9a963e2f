"""`python -m stablelit`: what one can do."""

from __future__ import annotations

import sys

import stablelit

TEXT = f"""\
stablelit {stablelit.__version__}: training runs that do not fail, and that say why when they do

  python -m stablelit.train                                   lists the experiments
  python -m stablelit.train +experiment=jets                  trains on generated data
  python -m stablelit.train +experiment=jets debug=quick      ten epochs, then PASSED or FAILED
  python -m stablelit.train +experiment=jets -m seed=0,1,2    a sweep
  python -m stablelit.train resume=RUN                        goes on with a run
  python -m stablelit.check +experiment=jets key=value        looks for mistakes, trains nothing
  python -m stablelit.evaluate run=RUN                        tests a run's best checkpoint again
  python -m stablelit.report RUN [RUN ...]                    a run as one page, or several side by side
  python -m stablelit.generate run=RUN n=1000 output=FILE     samples from it
  python -m stablelit.predict run=RUN output=FILE             predictions in the field's format
  python -m stablelit.probe run=RUN path=FOLDER               what its encoder is worth on your own data
  python -m stablelit.prepare neutrinos path=DIR output=DIR   packs and shuffles data for fast reading
  from stablelit import KLCapCallback, ShuffleSampler         callbacks and samplers for your own Trainer"""


def main() -> int:
    """Prints the text; returns the exit code."""
    print(TEXT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
