"""Says what is the matter with training runs, from the logs that they left: ``python -m stablelit.doctor LOGDIR``."""

from __future__ import annotations

import sys

from stablelit.doctor.door import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
